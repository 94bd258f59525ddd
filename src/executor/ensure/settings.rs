//! The settings that `EnsureGroup` may want, each with its command.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{
    Command, CommandType, GroupId, GroupSettings, SetDisappearingMessages, SetInfoAdminOnly,
    SetMemberAddMode, SetMemberShareHistory, SetMembershipApproval, SetMessagesAdminOnly,
    WantedSettings,
};

/// A setting of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Setting {
    InfoAdminOnly,
    MessagesAdminOnly,
    MemberAddMode,
    MembershipApproval,
    MemberShareHistory,
    DisappearingMessages,
}

impl Setting {
    pub(super) const ALL: [Self; 6] = [
        Self::InfoAdminOnly,
        Self::MessagesAdminOnly,
        Self::MemberAddMode,
        Self::MembershipApproval,
        Self::MemberShareHistory,
        Self::DisappearingMessages,
    ];

    /// The value that is wanted, if one is.
    pub(super) fn wanted(self, wanted: &WantedSettings) -> Option<Value> {
        match self {
            Self::InfoAdminOnly => wanted.info_admin_only.map(Value::from),
            Self::MessagesAdminOnly => wanted.messages_admin_only.map(Value::from),
            Self::MemberAddMode => wanted.members_can_add_new_member.map(Value::from),
            Self::MembershipApproval => wanted.new_members_approval_required.map(Value::from),
            Self::MemberShareHistory => wanted.members_can_share_history.map(Value::from),
            Self::DisappearingMessages => wanted.disappearing_seconds.map(|it| it.seconds().into()),
        }
    }

    /// The value that the group has, if the engine tells it.
    pub(super) fn current(self, settings: &GroupSettings) -> Option<Value> {
        match self {
            Self::InfoAdminOnly => Some(settings.info_admin_only.into()),
            Self::MessagesAdminOnly => Some(settings.messages_admin_only.into()),
            Self::MemberAddMode => Some(settings.members_can_add_new_member.into()),
            Self::MembershipApproval => Some(settings.new_members_approval_required.into()),
            Self::MemberShareHistory => settings.members_can_share_history.map(Value::from),
            Self::DisappearingMessages => settings.disappearing_seconds.map(Value::from),
        }
    }

    pub(super) const fn command_type(self) -> CommandType {
        match self {
            Self::InfoAdminOnly => CommandType::SetInfoAdminOnly,
            Self::MessagesAdminOnly => CommandType::SetMessagesAdminOnly,
            Self::MemberAddMode => CommandType::SetMemberAddMode,
            Self::MembershipApproval => CommandType::SetMembershipApproval,
            Self::MemberShareHistory => CommandType::SetMemberShareHistory,
            Self::DisappearingMessages => CommandType::SetDisappearingMessages,
        }
    }

    /// The command that sets the wanted value.
    pub(super) fn command(self, group_id: GroupId, wanted: &WantedSettings) -> Option<Command> {
        Some(match self {
            Self::InfoAdminOnly => Command::SetInfoAdminOnly(SetInfoAdminOnly {
                group_id,
                admins_only: wanted.info_admin_only?,
            }),
            Self::MessagesAdminOnly => Command::SetMessagesAdminOnly(SetMessagesAdminOnly {
                group_id,
                admins_only: wanted.messages_admin_only?,
            }),
            Self::MemberAddMode => Command::SetMemberAddMode(SetMemberAddMode {
                group_id,
                members_can_add_new_member: wanted.members_can_add_new_member?,
            }),
            Self::MembershipApproval => Command::SetMembershipApproval(SetMembershipApproval {
                group_id,
                new_members_approval_required: wanted.new_members_approval_required?,
            }),
            Self::MemberShareHistory => Command::SetMemberShareHistory(SetMemberShareHistory {
                group_id,
                members_can_share_history: wanted.members_can_share_history?,
            }),
            Self::DisappearingMessages => {
                Command::SetDisappearingMessages(SetDisappearingMessages {
                    group_id,
                    seconds: wanted.disappearing_seconds?,
                })
            }
        })
    }
}
