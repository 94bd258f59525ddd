//! Joining by the invite link, and the requests of those whom an admin has to approve.
//!
//! Chosen, since WhatsApp's answer is not known: a full group refuses at the link and again at the
//! approval; nobody joins a group that all have left; a request stays when approval is no longer required; who asks twice has one request; who
//! is added by an admin while asking has been approved.

use crate::contract::{
    CommandResult, ErrorCode, GroupId, JoinCode, JoinInfo, JoinOutcome, JoinRequestAction, Joined,
    Outcome, OutcomeKind, ParticipantId, ParticipantInput, RequestMethod, Role,
};
use crate::engines::link_refusals::link_refusal;
use crate::engines::sandbox::admins::outcome;
use crate::engines::sandbox::effect::{self, Actor, Change, CommandEffect, MOST_MEMBERS, Refusal};
use crate::engines::sandbox::members::{self, join as enter, may_join};
use crate::engines::sandbox::view;
use crate::store::sandbox_groups::{SandboxGroup, Waiting};

/// The code leads to no group.
pub(super) fn no_such_link() -> Refusal {
    refused(406)
}

/// WhatsApp's refusal with this code.
fn refused(code: u16) -> Refusal {
    let (code, message) = link_refusal(code).unwrap_or((ErrorCode::Internal, "report this"));
    Refusal::new(code, message)
}

/// What the link shows. Who was removed is told so, as when joining.
pub(super) fn info(
    id: &GroupId,
    group: &SandboxGroup,
    account: &ParticipantId,
    code: &JoinCode,
) -> Result<JoinInfo, Refusal> {
    may_follow(group, account, code)?;
    Ok(view::join_info(id, group))
}

/// Whether the link leads this account to the group.
fn may_follow(
    group: &SandboxGroup,
    account: &ParticipantId,
    code: &JoinCode,
) -> Result<(), Refusal> {
    if group.members.is_empty() {
        return Err(no_such_link());
    }
    if group.invite_code != code.as_str() {
        return Err(refused(410));
    }
    let former = group.former.get(account);
    if former.is_some_and(|former| !former.left) {
        return Err(refused(405));
    }
    Ok(())
}

/// The actor joins by the link, or asks to.
pub(super) fn join(
    group: &mut SandboxGroup,
    id: &GroupId,
    actor: &Actor<'_>,
    code: &JoinCode,
) -> Result<CommandEffect, Refusal> {
    let answer = |outcome| {
        CommandResult::Joined(Joined {
            group_id: id.clone(),
            outcome,
        })
    };
    may_follow(group, actor.account, code)?;
    if group.members.contains_key(actor.account) {
        return Ok(CommandEffect::unchanged(answer(JoinOutcome::AlreadyMember)));
    }
    if group.members.len() >= MOST_MEMBERS {
        return Err(refused(419));
    }
    if group.settings.new_members_approval_required {
        let asked = ask(group, actor, actor.account, RequestMethod::InviteLink);
        return Ok(CommandEffect {
            result: answer(JoinOutcome::PendingApproval),
            changes: asked.into_iter().collect(),
        });
    }
    enter(group, actor.account, Role::Participant);
    Ok(CommandEffect {
        result: answer(JoinOutcome::Ok),
        changes: vec![Change::JoinedByLink],
    })
}

/// Adds people: where admins approve, a member who is no admin asks for them, and an admin approves those who
/// wait.
pub(super) fn add(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    let asks = group.settings.new_members_approval_required && !effect::is_admin(role);
    if asks && group.settings.members_can_add_new_member {
        return Ok(ask_for(group, actor, named));
    }
    let mut waiting = group.waiting.clone();
    let mut added = members::add(group, actor, named)?;
    let decided = named.iter().filter_map(|ParticipantInput { id }| {
        // Somebody who is named twice has been approved once.
        let method = waiting.remove(id)?.method;
        let is_in = !group.waiting.contains_key(id);
        is_in.then(|| decided(id, JoinRequestAction::Approved, method))
    });
    added.changes.splice(0..0, decided);
    Ok(added)
}

fn ask_for(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> CommandEffect {
    let mut changes = Vec::new();
    let outcomes = named.iter().map(|ParticipantInput { id }| {
        let (kind, code) = may_join(group, id, actor.now);
        if kind != OutcomeKind::Ok {
            return outcome(id, kind, code);
        }
        changes.extend(ask(group, actor, id, RequestMethod::NonAdminAdd));
        outcome(id, OutcomeKind::PendingApproval, 421)
    });
    let result = CommandResult::Outcomes(outcomes.collect());
    CommandEffect { result, changes }
}

/// Records a request, unless there is one.
fn ask(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    who: &ParticipantId,
    method: RequestMethod,
) -> Option<Change> {
    if group.waiting.contains_key(who) {
        return None;
    }
    let waiting = Waiting {
        since: actor.now,
        method,
        added_by: (actor.account != who).then(|| actor.account.clone()),
    };
    group.waiting.insert(who.clone(), waiting);
    Some(Change::JoinRequest {
        who: who.clone(),
        action: JoinRequestAction::Created,
        method,
    })
}

/// Lets people in who asked.
pub(super) fn approve(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    decide(group, actor, named, JoinRequestAction::Approved)
}

/// Refuses people who asked.
pub(super) fn reject(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    decide(group, actor, named, JoinRequestAction::Rejected)
}

fn decide(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
    action: JoinRequestAction,
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    effect::require_admin(role, "decide who may join")?;
    let approves = action == JoinRequestAction::Approved;
    let (mut changes, mut who) = (Vec::new(), Vec::new());
    let one = |ParticipantInput { id }: &ParticipantInput| -> Outcome {
        if group.members.contains_key(id) {
            return outcome(id, OutcomeKind::AlreadyMember, 409);
        }
        let Some(waiting) = group.waiting.get(id) else {
            return outcome(id, OutcomeKind::NotMember, 404);
        };
        if approves && group.members.len() >= MOST_MEMBERS {
            return outcome(id, OutcomeKind::GroupFull, 419);
        }
        changes.push(decided(id, action, waiting.method));
        if approves {
            enter(group, id, Role::Participant);
            who.push(id.clone());
        } else {
            group.waiting.remove(id);
        }
        outcome(id, OutcomeKind::Ok, 200)
    };
    let outcomes = named.iter().map(one).collect();
    if !who.is_empty() {
        changes.push(Change::Added { who });
    }
    Ok(CommandEffect {
        result: CommandResult::Outcomes(outcomes),
        changes,
    })
}

fn decided(who: &ParticipantId, action: JoinRequestAction, method: RequestMethod) -> Change {
    Change::JoinRequest {
        who: who.clone(),
        action,
        method,
    }
}
