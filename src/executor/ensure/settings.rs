//! The settings that `EnsureGroup` may want, each with its command.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::contract::{
    Command, CommandType, GroupId, GroupSettings, SetInfoAdminOnly, WantedSettings,
};

/// A setting of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Setting {
    InfoAdminOnly,
}

impl Setting {
    pub(super) const ALL: [Self; 1] = [Self::InfoAdminOnly];

    /// The value that is wanted, if one is.
    pub(super) fn wanted(self, wanted: &WantedSettings) -> Option<Value> {
        match self {
            Self::InfoAdminOnly => wanted.info_admin_only.map(Value::from),
        }
    }

    /// The value that the group has, if the engine tells it.
    pub(super) fn current(self, settings: &GroupSettings) -> Option<Value> {
        match self {
            Self::InfoAdminOnly => Some(settings.info_admin_only.into()),
        }
    }

    /// Takes the wanted value over.
    pub(super) fn set(self, settings: &mut GroupSettings, wanted: &WantedSettings) {
        match self {
            Self::InfoAdminOnly => {
                settings.info_admin_only =
                    wanted.info_admin_only.unwrap_or(settings.info_admin_only);
            }
        }
    }

    pub(super) const fn command_type(self) -> CommandType {
        match self {
            Self::InfoAdminOnly => CommandType::SetInfoAdminOnly,
        }
    }

    /// The command that sets the wanted value.
    pub(super) fn command(self, group_id: GroupId, wanted: &WantedSettings) -> Option<Command> {
        Some(match self {
            Self::InfoAdminOnly => Command::SetInfoAdminOnly(SetInfoAdminOnly {
                group_id,
                admins_only: wanted.info_admin_only?,
            }),
        })
    }
}
