//! The payloads about the invite code of a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `GetInviteCode`: the code of the group's invite link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetInviteCode {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `RevokeInviteCode`: the invite code is made invalid and a new one made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeInviteCode {
    /// The group whose code to renew.
    pub group_id: GroupId,
}
