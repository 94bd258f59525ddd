//! Whole numbers as JSON Schema has them: `10.0` and `1e1` are integers too.

use serde::{Deserialize, Deserializer, de};

/// A whole number within the range of `u32`, however it is written.
struct Whole(u32);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // Every u32 has an exact f64, and the schema's ranges lie within u32.
        let whole = number
            .as_f64()
            .filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number within the range of u32"
        )]
        whole
            .map(|number| Self(number as u32))
            .ok_or_else(|| de::Error::custom("must be a whole number"))
    }
}

/// Reads a whole number.
pub(super) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// Reads a whole number, or `null` for none.
pub(super) fn optional<'de, T: TryFrom<u32>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let read = Option::<Whole>::deserialize(deserializer)?;
    let fits = |Whole(number)| T::try_from(number).map_err(|_| de::Error::custom("is too large"));
    read.map(fits).transpose()
}
