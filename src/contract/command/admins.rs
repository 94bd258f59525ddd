//! The payloads about the admins of a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, ParticipantInput};

/// Payload of `PromoteAdmin`: people in a group become admins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromoteAdmin {
    /// The group.
    pub group_id: GroupId,
    /// Whom to promote; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}

/// Payload of `DemoteAdmin`: admins become regular people again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DemoteAdmin {
    /// The group.
    pub group_id: GroupId,
    /// Whom to demote; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}
