//! Private ids: the sandbox's is `8000` and the number, so both are known of everybody who was named by
//! phone. A command may name people by either; in a group they are kept by phone.
//!
//! A session knows the pairs of those who are in a group with its account.

use std::collections::BTreeSet;

use crate::contract::{
    AddParticipants, ApproveJoinRequests, Command, CommandResult, Count, CreateGroup, DemoteAdmin,
    LidPair, ListLids, Outcome, ParticipantId, ParticipantInput, PromoteAdmin, RejectJoinRequests,
    RemoveParticipants,
};
use crate::store::sandbox_groups::SandboxGroup;

const PREFIX: &str = "8000";

/// The private id of a phone; none for a private id, and for a number that is too long to have one.
pub(super) fn lid_of(phone: &ParticipantId) -> Option<ParticipantId> {
    let number = phone.as_str().strip_suffix("@c.us")?;
    format!("{PREFIX}{number}@lid").parse().ok()
}

/// The phone of a private id of the sandbox.
fn phone_of(lid: &ParticipantId) -> Option<ParticipantId> {
    let number = lid.as_str().strip_suffix("@lid")?.strip_prefix(PREFIX)?;
    format!("{number}@c.us").parse().ok()
}

/// Puts phones in the place of the sandbox's private ids; returns the ids that the command named.
pub(super) fn use_phones(command: &mut Command) -> Vec<ParticipantId> {
    let people = people(command).into_iter().flatten();
    let phone = |person: &mut ParticipantInput| {
        let phone = phone_of(&person.id).unwrap_or_else(|| person.id.clone());
        std::mem::replace(&mut person.id, phone)
    };
    people.map(phone).collect()
}

/// Gives outcomes the ids that the command named.
pub(super) fn as_named(result: &mut CommandResult, named: &[ParticipantId]) {
    let outcomes: &mut [Outcome] = match result {
        CommandResult::Outcomes(outcomes) => outcomes,
        CommandResult::Group(group) => group.outcomes.as_deref_mut().unwrap_or_default(),
        _ => return,
    };
    // Outcomes are in the order of the people named.
    for (outcome, id) in outcomes.iter_mut().zip(named) {
        outcome.id = id.clone();
    }
}

fn people(command: &mut Command) -> Option<&mut Vec<ParticipantInput>> {
    match command {
        Command::CreateGroup(CreateGroup { participants, .. })
        | Command::AddParticipants(AddParticipants { participants, .. })
        | Command::RemoveParticipants(RemoveParticipants { participants, .. })
        | Command::PromoteAdmin(PromoteAdmin { participants, .. })
        | Command::DemoteAdmin(DemoteAdmin { participants, .. })
        | Command::ApproveJoinRequests(ApproveJoinRequests { participants, .. })
        | Command::RejectJoinRequests(RejectJoinRequests { participants, .. }) => {
            Some(participants)
        }
        Command::ListGroups(_)
        | Command::CountGroups(_)
        | Command::RefreshGroups(_)
        | Command::GetGroup(_)
        | Command::DeleteGroup(_)
        | Command::LeaveGroup(_)
        | Command::SetGroupSubject(_)
        | Command::SetGroupDescription(_)
        | Command::GetGroupPicture(_)
        | Command::SetGroupPicture(_)
        | Command::DeleteGroupPicture(_)
        | Command::GetInfoAdminOnly(_)
        | Command::SetInfoAdminOnly(_)
        | Command::GetMessagesAdminOnly(_)
        | Command::SetMessagesAdminOnly(_)
        | Command::GetMemberAddMode(_)
        | Command::SetMemberAddMode(_)
        | Command::GetMembershipApproval(_)
        | Command::SetMembershipApproval(_)
        | Command::GetMemberShareHistory(_)
        | Command::SetMemberShareHistory(_)
        | Command::SetDisappearingMessages(_)
        | Command::GetParticipants(_)
        | Command::GetInviteCode(_)
        | Command::RevokeInviteCode(_)
        | Command::GetJoinInfo(_)
        | Command::JoinGroup(_)
        | Command::ListJoinRequests(_)
        | Command::ListLids(_)
        | Command::CountLids(_)
        | Command::GetPhoneByLid(_)
        | Command::GetLidByPhone(_)
        // Its parts name people.
        | Command::EnsureGroup(_)
        | Command::SetWebhook(_)
        | Command::RemoveWebhook(_)
        | Command::ListWebhooks(_)
        | Command::TestWebhook(_) => None,
    }
}

/// Answers a command about private ids, from the groups of the account.
pub(super) fn read<'a>(
    command: &Command,
    account: &ParticipantId,
    groups: impl Iterator<Item = &'a SandboxGroup>,
) -> Option<CommandResult> {
    let members = groups.flat_map(|group| group.members.keys());
    let known: BTreeSet<_> = members
        .chain([account])
        .filter(|id| id.is_phone())
        .collect();
    let pair = |phone: &ParticipantId| LidPair {
        lid: lid_of(phone),
        pn: Some(phone.clone()),
    };
    Some(match command {
        Command::ListLids(ListLids { limit, offset }) => {
            let skipped = usize::try_from(*offset).unwrap_or(usize::MAX);
            let shown = usize::try_from(*limit).unwrap_or(usize::MAX);
            let pairs = known.into_iter().skip(skipped).take(shown).map(pair);
            CommandResult::Lids(pairs.collect())
        }
        Command::CountLids(_) => CommandResult::Count(Count {
            count: known.len().try_into().unwrap_or(u64::MAX),
        }),
        Command::GetPhoneByLid(asked) => CommandResult::Lid(LidPair {
            lid: Some(asked.lid.clone()),
            pn: phone_of(&asked.lid).filter(|phone| known.contains(phone)),
        }),
        Command::GetLidByPhone(asked) => CommandResult::Lid(LidPair {
            lid: lid_of(&asked.phone).filter(|_| known.contains(&asked.phone)),
            pn: Some(asked.phone.clone()),
        }),
        _ => return None,
    })
}
