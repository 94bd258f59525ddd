//! The payloads about groups as a whole: creating, reading, leaving, and naming them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{Description, GroupId, ParticipantInput, Subject, whole};

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

/// Payload of `ListGroups`: the groups that the session's account is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListGroups {
    /// At most so many groups; absent: all of them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "whole::optional"
    )]
    #[schemars(range(min = 1, max = 10_000))]
    pub limit: Option<u32>,
    /// Skip so many groups first.
    #[serde(default, deserialize_with = "whole::required")]
    #[schemars(range(max = 1_000_000))]
    pub offset: u32,
    /// What to sort by.
    #[serde(default)]
    pub sort_by: SortBy,
    /// In which direction.
    #[serde(default)]
    pub sort_order: SortOrder,
    /// What to leave out of each group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1))]
    pub exclude: Vec<Exclude>,
}

/// Payload of `CountGroups`: how many groups the session's account is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Said in so many words, so that a field that is none can be named.
#[schemars(extend("properties" = {}))]
pub struct CountGroups {}

/// Payload of `RefreshGroups`: makes the engine read its groups from WhatsApp again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("properties" = {}))]
pub struct RefreshGroups {}

/// What `ListGroups` sorts by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SortBy {
    /// The group's id.
    #[default]
    Id,
    /// The group's subject.
    Subject,
}

/// In which direction `ListGroups` sorts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SortOrder {
    /// Smallest first.
    #[default]
    Asc,
    /// Largest first.
    Desc,
}

/// What `ListGroups` can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Exclude {
    /// The people in each group.
    Participants,
}

/// Payload of `GetGroup`: one group with its people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetGroup {
    /// The group to show.
    pub group_id: GroupId,
}

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

/// Payload of `LeaveGroup`: the session's account leaves the group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveGroup {
    /// The group to leave.
    pub group_id: GroupId,
}

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

/// Payload of `SetGroupDescription`: the group gets another description, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetGroupDescription {
    /// The group.
    pub group_id: GroupId,
    /// The new description; empty removes it.
    #[serde(deserialize_with = "crate::contract::text::to_set")]
    pub description: Description,
}
