//! What `EnsureGroup` came to: the difference that there was, and what became of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CommandType, ErrorBody, Group, GroupId, Outcome, ParticipantId};

/// The result of `EnsureGroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnsuredGroup {
    /// The group; null in the plan of a new one.
    pub group_id: Option<GroupId>,
    /// The command created the group, or would.
    pub created: bool,
    /// The changes that the command made, or would make, in their order; none if the group was as wanted.
    pub changes: Vec<Change>,
    /// What became of each person whom it had to add, promote, demote or remove; empty in a plan.
    pub outcomes: Vec<Outcome>,
    /// Only in a plan: about how many seconds it takes, since the account's limits let no more through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The group as it is afterwards, or now, in a plan; null in the plan of a new one.
    pub group: Option<Group>,
}

/// One change on the way from the group as it is to the group as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The command that makes this change.
    #[serde(rename = "type")]
    pub command_type: CommandType,
    /// The value before, of a change of subject, description or a setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// The people whom it is about; `outcomes` says what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<ParticipantId>,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}
