//! The payloads about requests to join a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, ParticipantInput};

/// Payload of `ListJoinRequests`: who waits for an admin's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListJoinRequests {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `ApproveJoinRequests`: people who asked to join are let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApproveJoinRequests {
    /// The group.
    pub group_id: GroupId,
    /// Whose requests to approve; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}

/// Payload of `RejectJoinRequests`: people who asked to join are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RejectJoinRequests {
    /// The group.
    pub group_id: GroupId,
    /// Whose requests to reject; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}
