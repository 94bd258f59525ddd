//! `GetGroup`: one group with its people.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `GetGroup`: one group with its people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetGroup {
    /// The group to show.
    pub group_id: GroupId,
}
