//! `CreateGroup`: a new group with the session's account as its superadmin.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{ParticipantInput, Subject};

/// Payload of `CreateGroup`: a new group with the session's account as its superadmin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateGroup {
    /// What the group is to be called.
    #[serde(deserialize_with = "crate::contract::text::to_set")]
    pub name: Subject,
    /// Whom to add at once, besides the account itself; may be empty.
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Vec<ParticipantInput>,
}
