//! `SetGroupDescription`: the group gets another description, or none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{Description, GroupId};

/// Payload of `SetGroupDescription`: the group gets another description, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetGroupDescription {
    /// The group.
    pub group_id: GroupId,
    /// The new description; empty removes it.
    #[serde(deserialize_with = "crate::contract::text::to_set")]
    pub description: Description,
}
