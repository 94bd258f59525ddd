//! Members: creating, adding, removing, leaving, deleting.
//!
//! Chosen, since WhatsApp's answer is not known: somebody who left may be added again after a day,
//! somebody who was removed at once; when the last admin leaves, the member who joined first becomes
//! admin; the creator cannot be removed (403), so only the creator can use `forEveryone` while in the
//! group.

use crate::contract::{
    CommandResult, CreateGroup, Description, ErrorCode, GroupId, GroupSettings, Outcome,
    OutcomeKind, ParticipantId, ParticipantInput, Role, Timestamp,
};
use crate::engines::sandbox::admins::{applied, outcome};
use crate::engines::sandbox::effect::{self, Actor, Change, CommandEffect, MOST_MEMBERS, Refusal};
use crate::engines::sandbox::{ids, people, view};
use crate::store::sandbox_groups::{Former, Member, SandboxGroup};

/// How long a person who left cannot be added (code 408).
pub(super) const RECENTLY: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// Creates a group with the actor as its superadmin.
pub(super) fn create(
    id: &GroupId,
    actor: &Actor<'_>,
    payload: &CreateGroup,
    members_can_add: bool,
) -> (SandboxGroup, CommandEffect) {
    let mut group = SandboxGroup {
        subject: payload.name.clone(),
        description: Description::default(),
        owner: actor.account.clone(),
        created_at: actor.now,
        settings: GroupSettings {
            members_can_add_new_member: members_can_add,
            ..GroupSettings::OF_NEW_GROUPS
        },
        invite_code: ids::invite_code(actor.key),
        code_listed: false,
        picture: None,
        members: [].into(),
        former: [].into(),
        waiting: [].into(),
        joined: 0,
        sequences: [].into(),
        changes: 0,
    };
    join(&mut group, actor.account, Role::Superadmin);
    let (outcomes, added) = add_each(&mut group, actor, &payload.participants);
    let mut who = vec![actor.account.clone()];
    who.extend(added);
    let mut result = view::group(id, &group);
    result.outcomes = Some(outcomes);
    let result = CommandResult::Group(Box::new(result));
    (
        group,
        CommandEffect {
            result,
            changes: vec![Change::Created { who }],
        },
    )
}

/// Adds people; other members may do so too, if the group allows it.
pub(super) fn add(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    if !group.settings.members_can_add_new_member {
        effect::require_admin(role, "add people to this group")?;
    }
    let (outcomes, added) = add_each(group, actor, named);
    Ok(applied(outcomes, added, |who| Change::Added { who }))
}

fn add_each(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> (Vec<Outcome>, Vec<ParticipantId>) {
    let mut added = Vec::new();
    let mut outcomes = Vec::with_capacity(named.len());
    for ParticipantInput { id } in named {
        let (kind, code) = may_join(group, id, actor.now);
        let mut outcome = outcome(id, kind, code);
        if kind == OutcomeKind::Ok {
            join(group, id, Role::Participant);
            added.push(id.clone());
        } else if kind == OutcomeKind::PrivacyBlocked {
            outcome.invite = Some(ids::private_invite(actor.key, id.as_str(), actor.now));
        }
        outcomes.push(outcome);
    }
    (outcomes, added)
}

/// The outcome of adding somebody, checked in this order.
pub(super) fn may_join(
    group: &SandboxGroup,
    who: &ParticipantId,
    now: Timestamp,
) -> (OutcomeKind, u16) {
    if group.members.contains_key(who) {
        return (OutcomeKind::AlreadyMember, 409);
    }
    if let Some(special) = people::refuses(who) {
        return special;
    }
    let left = group.former.get(who).filter(|former| former.left);
    if left.is_some_and(|former| now.0.duration_since(former.since.0) < RECENTLY) {
        return (OutcomeKind::RecentlyLeft, 408);
    }
    if group.members.len() >= MOST_MEMBERS {
        return (OutcomeKind::GroupFull, 419);
    }
    (OutcomeKind::Ok, 200)
}

pub(super) fn join(group: &mut SandboxGroup, who: &ParticipantId, role: Role) {
    group.joined += 1;
    group.former.remove(who);
    group.waiting.remove(who);
    group.members.insert(
        who.clone(),
        Member {
            role,
            number: group.joined,
        },
    );
}

/// Removes people. Removing oneself is leaving; it comes last and needs no admin rights.
pub(super) fn remove(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    if named.iter().any(|person| person.id != *actor.account) {
        effect::require_admin(role, "remove people from this group")?;
    }
    let mut removed = Vec::new();
    let mut leaves = false;
    let mut outcomes = Vec::with_capacity(named.len());
    for ParticipantInput { id } in named {
        let (kind, code) = match group.members.get(id).map(|member| member.role) {
            None => (OutcomeKind::NotMember, 404),
            Some(_) if id == actor.account && leaves => (OutcomeKind::NotMember, 404),
            Some(_) if id == actor.account => {
                leaves = true;
                (OutcomeKind::Ok, 200)
            }
            Some(Role::Superadmin) => (OutcomeKind::NotAllowed, 403),
            Some(Role::Participant | Role::Admin) => {
                depart(group, id, actor.now, Departure::Removed);
                removed.push(id.clone());
                (OutcomeKind::Ok, 200)
            }
        };
        outcomes.push(outcome(id, kind, code));
    }
    let mut applied = applied(outcomes, removed, |who| Change::Removed { who });
    if leaves {
        own_departure(group, actor, Departure::Left, &mut applied.changes);
    }
    Ok(applied)
}

/// The actor leaves.
pub(super) fn leave(group: &mut SandboxGroup, actor: &Actor<'_>) -> Result<CommandEffect, Refusal> {
    effect::role_of(group, actor.account)?;
    let mut changes = Vec::new();
    own_departure(group, actor, Departure::Left, &mut changes);
    Ok(CommandEffect {
        result: CommandResult::Done(true),
        changes,
    })
}

/// The group disappears from the actor's lists: they leave if they are a member, after removing all
/// others if requested.
pub(super) fn delete(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    for_everyone: bool,
) -> Result<CommandEffect, Refusal> {
    let mut changes = Vec::new();
    if for_everyone {
        let role = effect::role_of(group, actor.account)?;
        effect::require_admin(role, "delete the group for everyone")?;
        changes.extend(remove_all_others(group, actor)?);
    }
    if group.members.contains_key(actor.account) {
        own_departure(group, actor, Departure::Deleted, &mut changes);
    } else {
        let former = group
            .former
            .get_mut(actor.account)
            .filter(|former| !former.deleted);
        former.ok_or_else(Refusal::no_such_group)?.deleted = true;
        changes.push(Change::Forgotten);
    }
    Ok(CommandEffect {
        result: CommandResult::Done(true),
        changes,
    })
}

fn remove_all_others(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
) -> Result<Option<Change>, Refusal> {
    let others = group
        .members
        .iter()
        .filter(|(who, _)| *who != actor.account);
    if others
        .clone()
        .any(|(_, member)| member.role == Role::Superadmin)
    {
        return Err(Refusal::new(
            ErrorCode::NotAllowed,
            "nobody can remove the group's creator, so only the creator can delete it for everyone; \
             leave out forEveryone to delete it for this account",
        ));
    }
    let who: Vec<ParticipantId> = others.map(|(who, _)| who.clone()).collect();
    for id in &who {
        depart(group, id, actor.now, Departure::Removed);
    }
    Ok((!who.is_empty()).then_some(Change::Removed { who }))
}

/// How somebody leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    Removed,
    Left,
    /// Left, and deleted the group from their list.
    Deleted,
}

fn depart(group: &mut SandboxGroup, who: &ParticipantId, now: Timestamp, how: Departure) {
    group.members.remove(who);
    let former = Former {
        since: now,
        left: how != Departure::Removed,
        deleted: how == Departure::Deleted,
    };
    group.former.insert(who.clone(), former);
}

/// The actor leaves; if the group then has no admin, the member who joined first becomes one.
fn own_departure(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    how: Departure,
    changes: &mut Vec<Change>,
) {
    depart(group, actor.account, actor.now, how);
    changes.push(Change::Left);
    if group
        .members
        .values()
        .any(|member| effect::is_admin(member.role))
    {
        return;
    }
    let longest = group
        .members
        .iter_mut()
        .min_by_key(|(_, member)| member.number);
    if let Some((who, member)) = longest {
        member.role = Role::Admin;
        changes.push(Change::Succeeded { who: who.clone() });
    }
}
