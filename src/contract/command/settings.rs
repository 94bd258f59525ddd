//! The payloads about the settings of a group.

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

/// Payload of `SetInfoAdminOnly`: who may change subject and description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetInfoAdminOnly {
    /// The group.
    pub group_id: GroupId,
    /// `true` (the default): only admins; `false`: everybody.
    #[serde(default = "only_admins")]
    pub admins_only: bool,
}

// The seed's PUT has no body and means "only admins".
const fn only_admins() -> bool {
    true
}
