//! `LeaveGroup`: the session's account leaves the group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `LeaveGroup`: the session's account leaves the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveGroup {
    /// The group to leave.
    pub group_id: GroupId,
}
