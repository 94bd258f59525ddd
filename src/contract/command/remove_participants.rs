//! `RemoveParticipants`: people are removed from a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, ParticipantInput};

/// Payload of `RemoveParticipants`: people are removed from a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveParticipants {
    /// The group.
    pub group_id: GroupId,
    /// Whom to remove; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}
