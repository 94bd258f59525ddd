//! The settings of a group: every member may read them, only admins may change them.
//!
//! The sandbox has no messages, so those about messages change nothing else.

use crate::contract::{
    Command, CommandResult, GroupSettings, InfoAdminOnly, MemberAddMode, MemberShareHistory,
    MembershipApproval, MessagesAdminOnly,
};
use crate::engines::sandbox::effect::{Actor, Change, CommandEffect, Refusal, is_admin, role_of};
use crate::engines::setting::Setting;
use crate::store::sandbox_groups::SandboxGroup;

/// The settings, with those of a new group where an earlier release stored none.
pub(super) fn with_defaults(settings: GroupSettings) -> GroupSettings {
    let new = GroupSettings::OF_NEW_GROUPS;
    GroupSettings {
        members_can_share_history: settings
            .members_can_share_history
            .or(new.members_can_share_history),
        disappearing_seconds: settings.disappearing_seconds.or(new.disappearing_seconds),
        ..settings
    }
}

/// Answers a command that reads a setting.
pub(super) fn get(group: &SandboxGroup, command: &Command) -> Result<CommandResult, Refusal> {
    let settings = with_defaults(group.settings);
    Ok(match command {
        Command::GetInfoAdminOnly(_) => CommandResult::InfoAdminOnly(InfoAdminOnly {
            admins_only: settings.info_admin_only,
        }),
        Command::GetMessagesAdminOnly(_) => CommandResult::MessagesAdminOnly(MessagesAdminOnly {
            admins_only: settings.messages_admin_only,
        }),
        Command::GetMemberAddMode(_) => CommandResult::MemberAddMode(MemberAddMode {
            members_can_add_new_member: settings.members_can_add_new_member,
        }),
        Command::GetMembershipApproval(_) => {
            CommandResult::MembershipApproval(MembershipApproval {
                new_members_approval_required: settings.new_members_approval_required,
            })
        }
        Command::GetMemberShareHistory(_) => {
            CommandResult::MemberShareHistory(MemberShareHistory {
                members_can_share_history: settings.members_can_share_history.unwrap_or_default(),
            })
        }
        _ => return Err(Refusal::not_a_read()),
    })
}

/// Executes a command that changes a setting; the result is `false` for those who are no admins.
pub(super) fn set(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    command: &Command,
) -> Result<CommandEffect, Refusal> {
    let role = role_of(group, actor.account)?;
    let Some(setting) = Setting::of(command).filter(|_| is_admin(role)) else {
        return Ok(CommandEffect::unchanged(CommandResult::Done(false)));
    };
    let before = with_defaults(group.settings);
    let mut changed = before;
    setting.apply_to(&mut changed);
    if changed == before {
        return Ok(CommandEffect::unchanged(CommandResult::Done(true)));
    }
    group.settings = changed;
    Ok(CommandEffect::done(Change::Setting(setting)))
}
