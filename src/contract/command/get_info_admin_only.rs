//! `GetInfoAdminOnly`: whether only admins may change subject and description.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `GetInfoAdminOnly`: whether only admins may change subject and description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetInfoAdminOnly {
    /// The group to ask about.
    pub group_id: GroupId,
}
