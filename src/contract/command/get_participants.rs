//! `GetParticipants`: the people in a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `GetParticipants`: the people in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetParticipants {
    /// The group to ask about.
    pub group_id: GroupId,
}
