//! `AddParticipants`: people are added to a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, ParticipantInput};

/// Payload of `AddParticipants`: people are added to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddParticipants {
    /// The group.
    pub group_id: GroupId,
    /// Whom to add; may be nobody.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}
