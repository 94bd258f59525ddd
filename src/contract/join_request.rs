//! Requests to join a group that an admin has to decide.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandId, GroupId, GroupRef, ParticipantId};

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

/// Payload of `group.v2.participants.join-request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequestChange {
    /// What happened to the request.
    pub action: JoinRequestAction,
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The group.
    pub group: GroupRef,
    /// Who asks to join: by phone, or by the private id where only that is known.
    pub requester_id: ParticipantId,
    /// Their phone, where it is known.
    pub requester_pn: Option<ParticipantId>,
    /// How they came to ask, where that is known.
    pub request_method: Option<RequestMethod>,
    /// Who did it, where that is known: the requester, or the admin who decided.
    pub author: Option<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "super::event::is_false")]
    pub reconciled: bool,
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
