//! `DeleteGroup`: the account leaves and the group is gone from its lists; the others keep it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::GroupId;

/// Payload of `DeleteGroup`: the account leaves and the group is gone from its lists.
///
/// WhatsApp has no request that deletes a group for everybody; `forEveryone` comes closest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeleteGroup {
    /// The group.
    pub group_id: GroupId,
    /// First remove everybody else, for which the account must be an admin.
    #[serde(default)]
    pub for_everyone: bool,
}
