//! Promoting and demoting admins.
//!
//! Chosen, since WhatsApp's answer is not known: promoting an admin, and demoting a participant,
//! changes nothing and has code 200; demoting the creator, or the last admin, has 403.

use crate::contract::{CommandResult, Outcome, OutcomeKind, ParticipantId, ParticipantInput, Role};
use crate::engines::sandbox::effect::{self, Actor, Change, CommandEffect, Refusal};
use crate::store::sandbox_groups::SandboxGroup;

/// Promotes participants to admins.
pub(super) fn promote(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    effect::require_admin(role, "promote people")?;
    let mut promoted = Vec::new();
    let outcome = |person: &ParticipantInput| {
        let (kind, code) = match group.members.get_mut(&person.id) {
            None => (OutcomeKind::NotMember, 404),
            Some(member) if effect::is_admin(member.role) => (OutcomeKind::AlreadyAdmin, 200),
            Some(member) => {
                member.role = Role::Admin;
                promoted.push(person.id.clone());
                (OutcomeKind::Ok, 200)
            }
        };
        self::outcome(&person.id, kind, code)
    };
    let outcomes = named.iter().map(outcome).collect();
    Ok(applied(outcomes, promoted, |who| Change::Promoted { who }))
}

/// Demotes admins to participants.
pub(super) fn demote(
    group: &mut SandboxGroup,
    actor: &Actor<'_>,
    named: &[ParticipantInput],
) -> Result<CommandEffect, Refusal> {
    let role = effect::role_of(group, actor.account)?;
    effect::require_admin(role, "demote people")?;
    let mut admins = group
        .members
        .values()
        .filter(|m| effect::is_admin(m.role))
        .count();
    let mut demoted = Vec::new();
    let outcome = |person: &ParticipantInput| {
        let (kind, code) = match group.members.get_mut(&person.id) {
            None => (OutcomeKind::NotMember, 404),
            Some(member) => match member.role {
                Role::Participant => (OutcomeKind::NotAdmin, 200),
                Role::Superadmin => (OutcomeKind::NotAllowed, 403),
                Role::Admin if admins == 1 => (OutcomeKind::NotAllowed, 403),
                Role::Admin => {
                    member.role = Role::Participant;
                    admins -= 1;
                    demoted.push(person.id.clone());
                    (OutcomeKind::Ok, 200)
                }
            },
        };
        self::outcome(&person.id, kind, code)
    };
    let outcomes = named.iter().map(outcome).collect();
    Ok(applied(outcomes, demoted, |who| Change::Demoted { who }))
}

/// The outcome for one person.
pub(super) fn outcome(who: &ParticipantId, kind: OutcomeKind, code: u16) -> Outcome {
    Outcome {
        id: who.clone(),
        outcome: kind,
        code,
        invite: None,
    }
}

/// The result of a command that names people, with one change for all affected.
pub(super) fn applied(
    outcomes: Vec<Outcome>,
    who: Vec<ParticipantId>,
    change: fn(Vec<ParticipantId>) -> Change,
) -> CommandEffect {
    let changes = if who.is_empty() {
        Vec::new()
    } else {
        vec![change(who)]
    };
    CommandEffect {
        result: CommandResult::Outcomes(outcomes),
        changes,
    }
}
