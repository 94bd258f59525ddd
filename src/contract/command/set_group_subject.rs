//! `SetGroupSubject`: the group gets another subject.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, Subject};

/// Payload of `SetGroupSubject`: the group gets another subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetGroupSubject {
    /// The group.
    pub group_id: GroupId,
    /// The new subject.
    #[serde(deserialize_with = "crate::contract::text::to_set")]
    pub subject: Subject,
}
