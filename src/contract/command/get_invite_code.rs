//! `GetInviteCode`: the code of the group's invite link.

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
