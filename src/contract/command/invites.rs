//! The payloads about the invite code of a group, and about joining by one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, JoinCode};

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

/// Payload of `GetJoinInfo`: what an invite link shows of its group before joining.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetJoinInfo {
    /// The invite code, bare or as any form of the link.
    pub code: JoinCode,
}

/// Payload of `JoinGroup`: the session's account joins a group by its invite link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinGroup {
    /// The invite code, bare or as any form of the link.
    pub code: JoinCode,
}
