//! Points in time.
//!
//! Reading one checks its form; its JSON Schema states the same form as a pattern.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ids::InvalidId;

/// A point in time, written as RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub jiff::Timestamp);

const TIMESTAMP_FORM: &str = "an RFC 3339 time with a zone, such as 2026-11-23T10:00:00Z";
const TIMESTAMP_PATTERN: &str = concat!(
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?",
    "([Zz]|[+-][0-9]{2}:[0-9]{2})$",
);

impl FromStr for Timestamp {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // jiff reads more forms than RFC 3339 has: without seconds, with a zone's name.
        let read = if rfc3339(text.as_bytes()) {
            text.parse().ok()
        } else {
            None
        };
        read.map(Self).ok_or(InvalidId(TIMESTAMP_FORM))
    }
}

/// Whether a text has the form of [`TIMESTAMP_PATTERN`].
fn rfc3339(text: &[u8]) -> bool {
    let like = |text: &[u8], form: &[u8]| {
        text.len() == form.len()
            && text.iter().zip(form).all(|(c, form)| match form {
                b'0' => c.is_ascii_digit(),
                _ => c.eq_ignore_ascii_case(form),
            })
    };
    let Some((moment, rest)) = text.split_at_checked(19) else {
        return false;
    };
    let zone = match rest.split_first() {
        Some((b'.', rest)) => {
            let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
            match rest.split_at_checked(digits) {
                Some((_, zone)) if (1..=9).contains(&digits) => zone,
                _ => return false,
            }
        }
        _ => rest,
    };
    like(moment, b"0000-00-00T00:00:00")
        && (like(zone, b"Z") || like(zone, b"+00:00") || like(zone, b"-00:00"))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "description": format!("Must be {TIMESTAMP_FORM}."),
            "pattern": TIMESTAMP_PATTERN,
            "examples": ["2026-11-23T10:00:00.000Z"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        let read: Timestamp = serde_json::from_str("\"2026-11-23T12:00:00+02:00\"").unwrap();
        assert_eq!(read.to_string(), "2026-11-23T10:00:00.000Z");
        for good in [
            "2026-11-23t10:00:00z",
            "2026-11-23T10:00:00.123456789-00:00",
        ] {
            assert!(good.parse::<Timestamp>().is_ok(), "{good}");
        }
        for bad in [
            "2026-11-23T10:00:00",
            "2026-11-23 10:00:00Z",
            "2026-11-23T10:00Z",
            "2026-11-23T10:00:00.Z",
            "2026-11-23T10:00:00+01:00[Europe/Paris]",
            "2026-02-30T10:00:00Z",
            "",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
