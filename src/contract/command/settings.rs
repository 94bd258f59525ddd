//! The payloads about the settings of a group.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::{GroupId, MessageTimer};

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

/// Payload of `GetMessagesAdminOnly`: whether only admins may send messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetMessagesAdminOnly {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `SetMessagesAdminOnly`: who may send messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMessagesAdminOnly {
    /// The group.
    pub group_id: GroupId,
    /// `true`: only admins; `false`: everybody.
    pub admins_only: bool,
}

/// Payload of `GetMemberAddMode`: whether people who are no admins may add others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetMemberAddMode {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `SetMemberAddMode`: who may add others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMemberAddMode {
    /// The group.
    pub group_id: GroupId,
    /// `true`: everybody; `false`: only admins.
    pub members_can_add_new_member: bool,
}

/// Payload of `GetMembershipApproval`: whether an admin has to approve new members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetMembershipApproval {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `SetMembershipApproval`: whether an admin has to approve new members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMembershipApproval {
    /// The group.
    pub group_id: GroupId,
    /// `true`: who asks to join waits for an admin; `false`: nobody has to.
    pub new_members_approval_required: bool,
}

/// Payload of `GetMemberShareHistory`: whether people who are no admins may send earlier messages to new members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GetMemberShareHistory {
    /// The group to ask about.
    pub group_id: GroupId,
}

/// Payload of `SetMemberShareHistory`: who may send earlier messages to new members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMemberShareHistory {
    /// The group.
    pub group_id: GroupId,
    /// `true`: everybody; `false`: only admins.
    pub members_can_share_history: bool,
}

/// Payload of `SetDisappearingMessages`: how long new messages stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetDisappearingMessages {
    /// The group.
    pub group_id: GroupId,
    /// After how many seconds new messages disappear: 0 (never), 86400 (a day), 604800 (a week) or
    /// 7776000 (90 days).
    pub seconds: MessageTimer,
}
