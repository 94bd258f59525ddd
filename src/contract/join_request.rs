//! Requests to join a group that an admin has to decide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GroupId, ParticipantId};

/// Somebody who waits for an admin's approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequest {
    /// Who asks to join: by phone, or by the private id where only that is known.
    pub requester_id: ParticipantId,
    /// Their phone, where it is known.
    pub requester_pn: Option<ParticipantId>,
    /// Who wanted to add them, where a member did who is no admin.
    pub added_by_id: Option<ParticipantId>,
    /// The community's other group by which they came, where they did.
    pub parent_group_id: Option<GroupId>,
    /// How they came to ask, where that is known.
    pub request_method: Option<RequestMethod>,
    /// When they asked, in seconds since 1970, where that is known.
    pub timestamp: Option<i64>,
}

/// How somebody came to ask to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestMethod {
    /// By the invite link.
    InviteLink,
    /// From another group of the community.
    LinkedGroupJoin,
    /// A member who is no admin wanted to add them.
    NonAdminAdd,
}

/// What happened to a request to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JoinRequestAction {
    /// Somebody asked to join.
    Created,
    /// An admin let them in.
    Approved,
    /// An admin refused.
    Rejected,
    /// The requester no longer asks.
    Revoked,
}
