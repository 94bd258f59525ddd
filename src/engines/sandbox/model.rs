//! WhatsApp's rules for one group, as a pure function: from a group, an actor and a command to the
//! result, the changed group and the changes. No clock, no store, no session.
//!
//! Every rule is checked before the first change, so a refusal leaves the group unchanged. Choices
//! made because WhatsApp's own behaviour is not known are marked "chosen".

use crate::contract::{
    Command, CommandResult, Description, ErrorCode, GroupId, GroupPicture, ParticipantId,
    PictureChange, Role, Subject,
};
use crate::engines::sandbox::effect::{
    Actor, Change, CommandEffect, Refusal, is_admin, require_admin, role_of,
};
use crate::engines::sandbox::{admins, ids, join_requests, members, settings, view};
use crate::store::sandbox_groups::SandboxGroup;

/// Executes a command in an existing group.
pub(super) fn apply(
    id: &GroupId,
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    command: &Command,
) -> Result<CommandEffect, Refusal> {
    match command {
        Command::CreateGroup(_)
        | Command::ListGroups(_)
        | Command::ListLids(_)
        | Command::CountLids(_)
        | Command::GetPhoneByLid(_)
        | Command::GetLidByPhone(_)
        | Command::GetJoinInfo(_)
        | Command::CountGroups(_)
        | Command::RefreshGroups(_)
        | Command::EnsureGroup(_)
        | Command::SetWebhook(_)
        | Command::RemoveWebhook(_)
        | Command::ListWebhooks(_)
        | Command::TestWebhook(_) => Err(Refusal::new(
            ErrorCode::Internal,
            "a command that is not about one group, or is no engine's, was applied to a group; report this",
        )),
        Command::GetGroup(_)
        | Command::GetGroupPicture(_)
        | Command::GetInfoAdminOnly(_)
        | Command::GetMessagesAdminOnly(_)
        | Command::GetMemberAddMode(_)
        | Command::GetMembershipApproval(_)
        | Command::GetMemberShareHistory(_)
        | Command::GetParticipants(_)
        | Command::GetInviteCode(_)
        | Command::ListJoinRequests(_) => {
            read(group, actor.account, command).map(CommandEffect::unchanged)
        }
        Command::DeleteGroup(payload) => members::delete(group, actor, payload.for_everyone),
        Command::LeaveGroup(_) => members::leave(group, actor),
        Command::SetGroupSubject(payload) => set_subject(group, actor, &payload.subject),
        Command::SetGroupDescription(payload) => {
            set_description(group, actor, &payload.description)
        }
        Command::SetGroupPicture(_) => set_picture(group, actor, actor.picture),
        Command::DeleteGroupPicture(_) => set_picture(group, actor, None),
        Command::SetInfoAdminOnly(_)
        | Command::SetMessagesAdminOnly(_)
        | Command::SetMemberAddMode(_)
        | Command::SetMembershipApproval(_)
        | Command::SetMemberShareHistory(_)
        | Command::SetDisappearingMessages(_) => settings::set(group, actor, command),
        Command::AddParticipants(payload) => {
            join_requests::add(group, actor, &payload.participants)
        }
        Command::RemoveParticipants(payload) => {
            members::remove(group, actor, &payload.participants)
        }
        Command::PromoteAdmin(payload) => admins::promote(group, actor, &payload.participants),
        Command::DemoteAdmin(payload) => admins::demote(group, actor, &payload.participants),
        Command::RevokeInviteCode(_) => revoke_invite_code(group, actor),
        Command::JoinGroup(payload) => join_requests::join(group, id, actor, &payload.code),
        Command::ApproveJoinRequests(payload) => {
            join_requests::approve(group, actor, &payload.participants)
        }
        Command::RejectJoinRequests(payload) => {
            join_requests::reject(group, actor, &payload.participants)
        }
    }
}

/// Answers a command that changes nothing.
pub(super) fn read(
    group: &SandboxGroup,
    account: &ParticipantId,
    command: &Command,
) -> Result<CommandResult, Refusal> {
    let role = role_of(group, account)?;
    match command {
        Command::GetGroup(payload) => Ok(CommandResult::Group(Box::new(view::group(
            &payload.group_id,
            group,
        )))),
        Command::GetGroupPicture(_) => Ok(CommandResult::GroupPicture(GroupPicture {
            url: group.picture.as_deref().map(ids::picture_url),
        })),
        Command::GetInfoAdminOnly(_)
        | Command::GetMessagesAdminOnly(_)
        | Command::GetMemberAddMode(_)
        | Command::GetMembershipApproval(_)
        | Command::GetMemberShareHistory(_) => settings::get(group, command),
        Command::GetParticipants(_) => Ok(CommandResult::Participants(view::participants(group))),
        Command::GetInviteCode(_) => {
            require_admin(role, "read the invite code")?;
            Ok(CommandResult::InviteCode(ids::invite(&group.invite_code)))
        }
        Command::ListJoinRequests(_) => {
            require_admin(role, "see who asks to join")?;
            Ok(CommandResult::JoinRequests(view::join_requests(group)))
        }
        _ => Err(Refusal::not_a_read()),
    }
}

/// Whether this role may change subject, description and picture.
fn may_edit(group: &SandboxGroup, role: Role) -> bool {
    is_admin(role) || !group.settings.info_admin_only
}

fn set_subject(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    subject: &Subject,
) -> Result<CommandEffect, Refusal> {
    let role = role_of(group, actor.account)?;
    if !may_edit(group, role) {
        return Ok(CommandEffect::unchanged(CommandResult::Done(false)));
    }
    if group.subject == *subject {
        return Ok(CommandEffect::unchanged(CommandResult::Done(true)));
    }
    group.subject = subject.clone();
    Ok(CommandEffect::done(Change::Subject(subject.clone())))
}

fn set_description(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    description: &Description,
) -> Result<CommandEffect, Refusal> {
    let role = role_of(group, actor.account)?;
    if !may_edit(group, role) {
        return Ok(CommandEffect::unchanged(CommandResult::Done(false)));
    }
    if group.description == *description {
        return Ok(CommandEffect::unchanged(CommandResult::Done(true)));
    }
    group.description = description.clone();
    Ok(CommandEffect::done(Change::Description(
        description.clone(),
    )))
}

/// Gives the group the picture with this digest, or none.
fn set_picture(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    picture: Option<&str>,
) -> Result<CommandEffect, Refusal> {
    let role = role_of(group, actor.account)?;
    if !may_edit(group, role) {
        return Ok(CommandEffect::unchanged(CommandResult::Done(false)));
    }
    if group.picture.as_deref() == picture {
        return Ok(CommandEffect::unchanged(CommandResult::Done(true)));
    }
    group.picture = picture.map(str::to_owned);
    let change = match picture {
        Some(_) => PictureChange::Changed,
        None => PictureChange::Removed,
    };
    Ok(CommandEffect::done(Change::Picture(change)))
}

fn revoke_invite_code(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
) -> Result<CommandEffect, Refusal> {
    let role = role_of(group, actor.account)?;
    require_admin(role, "revoke the invite code")?;
    let code = ids::invite_code(actor.key);
    group.invite_code.clone_from(&code);
    Ok(CommandEffect {
        result: CommandResult::InviteCode(ids::invite(&code)),
        changes: vec![Change::InviteCode(code)],
    })
}
