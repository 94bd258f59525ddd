//! `DemoteAdmin`: admins become regular people again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, ParticipantInput};

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
