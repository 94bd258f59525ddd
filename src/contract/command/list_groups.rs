//! `ListGroups`: the groups that the session's account is in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::whole;

/// Payload of `ListGroups`: the groups that the session's account is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListGroups {
    /// At most so many groups; absent: all of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::optional"
    )]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: Option<u32>,
    /// Skip so many groups first.
    #[serde(default, deserialize_with = "whole::required")]
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
