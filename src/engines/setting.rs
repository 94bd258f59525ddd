//! The settings of a group as one type, so that each engine has one rule for all of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{
    ChangedGroup, Command, CommandType, GroupId, GroupSettings, MessageTimer,
    SetDisappearingMessages, SetInfoAdminOnly, SetMemberAddMode, SetMemberShareHistory,
    SetMembershipApproval, SetMessagesAdminOnly,
};

/// A setting of a group, with its value.
///
/// The serialised names are those of stored rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Setting {
    /// Only admins may change subject and description.
    InfoAdminOnly(bool),
    /// Only admins may send messages.
    MessagesAdminOnly(bool),
    /// People who are no admins may add others.
    MembersCanAdd(bool),
    /// An admin has to approve new members.
    ApprovalRequired(bool),
    /// People who are no admins may send earlier messages to new members.
    MembersCanShareHistory(bool),
    /// After how many seconds new messages disappear; 0 for never.
    DisappearingSeconds(u32),
}

impl Setting {
    /// The setting that a command changes, if it changes one.
    pub(crate) const fn of(command: &Command) -> Option<Self> {
        Some(match command {
            Command::SetInfoAdminOnly(it) => Self::InfoAdminOnly(it.admins_only),
            Command::SetMessagesAdminOnly(it) => Self::MessagesAdminOnly(it.admins_only),
            Command::SetMemberAddMode(it) => Self::MembersCanAdd(it.members_can_add_new_member),
            Command::SetMembershipApproval(it) => {
                Self::ApprovalRequired(it.new_members_approval_required)
            }
            Command::SetMemberShareHistory(it) => {
                Self::MembersCanShareHistory(it.members_can_share_history)
            }
            Command::SetDisappearingMessages(it) => Self::DisappearingSeconds(it.seconds.seconds()),
            _ => return None,
        })
    }

    /// The type of the command that sets it.
    pub(crate) const fn command_type(self) -> CommandType {
        match self {
            Self::InfoAdminOnly(_) => CommandType::SetInfoAdminOnly,
            Self::MessagesAdminOnly(_) => CommandType::SetMessagesAdminOnly,
            Self::MembersCanAdd(_) => CommandType::SetMemberAddMode,
            Self::ApprovalRequired(_) => CommandType::SetMembershipApproval,
            Self::MembersCanShareHistory(_) => CommandType::SetMemberShareHistory,
            Self::DisappearingSeconds(_) => CommandType::SetDisappearingMessages,
        }
    }

    /// The command that sets it; none for a time that WhatsApp does not offer.
    pub(crate) fn command(self, group_id: GroupId) -> Option<Command> {
        Some(match self {
            Self::InfoAdminOnly(admins_only) => Command::SetInfoAdminOnly(SetInfoAdminOnly {
                group_id,
                admins_only,
            }),
            Self::MessagesAdminOnly(admins_only) => {
                Command::SetMessagesAdminOnly(SetMessagesAdminOnly {
                    group_id,
                    admins_only,
                })
            }
            Self::MembersCanAdd(on) => Command::SetMemberAddMode(SetMemberAddMode {
                group_id,
                members_can_add_new_member: on,
            }),
            Self::ApprovalRequired(on) => Command::SetMembershipApproval(SetMembershipApproval {
                group_id,
                new_members_approval_required: on,
            }),
            Self::MembersCanShareHistory(on) => {
                Command::SetMemberShareHistory(SetMemberShareHistory {
                    group_id,
                    members_can_share_history: on,
                })
            }
            Self::DisappearingSeconds(seconds) => {
                Command::SetDisappearingMessages(SetDisappearingMessages {
                    group_id,
                    seconds: MessageTimer::offered(seconds)?,
                })
            }
        })
    }

    /// The value of the same setting in these, if they tell it.
    pub(crate) fn value_in(self, settings: &GroupSettings) -> Option<Value> {
        match self {
            Self::InfoAdminOnly(_) => Some(settings.info_admin_only.into()),
            Self::MessagesAdminOnly(_) => Some(settings.messages_admin_only.into()),
            Self::MembersCanAdd(_) => Some(settings.members_can_add_new_member.into()),
            Self::ApprovalRequired(_) => Some(settings.new_members_approval_required.into()),
            Self::MembersCanShareHistory(_) => settings.members_can_share_history.map(Value::from),
            Self::DisappearingSeconds(_) => settings.disappearing_seconds.map(Value::from),
        }
    }

    /// Its value as JSON.
    pub(crate) fn value(self) -> Value {
        match self {
            Self::InfoAdminOnly(on)
            | Self::MessagesAdminOnly(on)
            | Self::MembersCanAdd(on)
            | Self::ApprovalRequired(on)
            | Self::MembersCanShareHistory(on) => on.into(),
            Self::DisappearingSeconds(seconds) => seconds.into(),
        }
    }

    /// Sets it.
    pub(crate) const fn apply_to(self, settings: &mut GroupSettings) {
        match self {
            Self::InfoAdminOnly(on) => settings.info_admin_only = on,
            Self::MessagesAdminOnly(on) => settings.messages_admin_only = on,
            Self::MembersCanAdd(on) => settings.members_can_add_new_member = on,
            Self::ApprovalRequired(on) => settings.new_members_approval_required = on,
            Self::MembersCanShareHistory(on) => settings.members_can_share_history = Some(on),
            Self::DisappearingSeconds(seconds) => settings.disappearing_seconds = Some(seconds),
        }
    }

    /// Adds it to an event.
    pub(crate) const fn add_to(self, changed: &mut ChangedGroup) {
        match self {
            Self::InfoAdminOnly(on) => changed.info_admin_only = Some(on),
            Self::MessagesAdminOnly(on) => changed.messages_admin_only = Some(on),
            Self::MembersCanAdd(on) => changed.members_can_add_new_member = Some(on),
            Self::ApprovalRequired(on) => changed.new_members_approval_required = Some(on),
            Self::MembersCanShareHistory(on) => changed.members_can_share_history = Some(on),
            Self::DisappearingSeconds(seconds) => changed.disappearing_seconds = Some(seconds),
        }
    }
}
