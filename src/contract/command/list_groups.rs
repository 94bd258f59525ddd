//! `ListGroups`: the groups that the session's account is in.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Payload of `ListGroups`: the groups that the session's account is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListGroups {
    /// At most so many groups; absent: all of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "optional_whole"
    )]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: Option<u32>,
    /// Skip so many groups first.
    #[serde(default, deserialize_with = "whole")]
    #[schemars(range(max = 1_000_000))]
    pub offset: u32,
    /// What to sort by.
    #[serde(default)]
    pub sort_by: SortBy,
    /// In which direction.
    #[serde(default)]
    pub sort_order: SortOrder,
    /// What to leave out of each group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1))]
    pub exclude: Vec<Exclude>,
}

/// What `ListGroups` sorts by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SortBy {
    /// The group's id.
    #[default]
    Id,
    /// The group's subject.
    Subject,
}

/// In which direction `ListGroups` sorts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SortOrder {
    /// Smallest first.
    #[default]
    Asc,
    /// Largest first.
    Desc,
}

/// What `ListGroups` can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Exclude {
    /// The people in each group.
    Participants,
}

/// A whole number, also where it is written `10.0` or `1e1`: JSON Schema calls these integers too.
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

fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

fn optional_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let read = Option::<Whole>::deserialize(deserializer)?;
    Ok(read.map(|Whole(number)| number))
}
