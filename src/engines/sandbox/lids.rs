//! Private ids: the sandbox's is `8000` and the number, so both are known of everybody who was named by
//! phone. A command may name people by either; in a group they are kept by phone.
//!
//! A session knows the pairs of those who are in a group with its account.

use crate::contract::{
    AddParticipants, ApproveJoinRequests, Command, CommandResult, Count, CreateGroup, DemoteAdmin,
    LidPair, ListLids, Outcome, ParticipantId, ParticipantInput, PromoteAdmin, RejectJoinRequests,
    RemoveParticipants,
};
use crate::store::{self, sandbox_groups::SandboxGroups};

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

/// Answers a command about private ids; none if it is another one.
///
/// # Errors
/// When the store cannot be used.
pub(super) async fn read(
    command: &Command,
    account: &ParticipantId,
    groups: &SandboxGroups,
) -> Result<Option<CommandResult>, store::Error> {
    Ok(Some(match command {
        Command::ListLids(ListLids { limit, offset }) => {
            let phones = groups.phones_around(account, *limit, *offset).await?;
            let pair = |phone: ParticipantId| LidPair {
                lid: lid_of(&phone),
                pn: Some(phone),
            };
            CommandResult::Lids(phones.into_iter().map(pair).collect())
        }
        Command::CountLids(_) => CommandResult::Count(Count {
            count: groups.count_phones_around(account).await?,
        }),
        Command::GetPhoneByLid(asked) => CommandResult::Lid(LidPair {
            lid: Some(asked.lid.clone()),
            pn: match phone_of(&asked.lid) {
                Some(phone) if is_known(groups, account, &phone).await? => Some(phone),
                _ => None,
            },
        }),
        Command::GetLidByPhone(asked) => CommandResult::Lid(LidPair {
            lid: match lid_of(&asked.phone) {
                Some(lid) if is_known(groups, account, &asked.phone).await? => Some(lid),
                _ => None,
            },
            pn: Some(asked.phone.clone()),
        }),
        _ => return Ok(None),
    }))
}

/// Whether an account knows the private id of a phone.
async fn is_known(
    groups: &SandboxGroups,
    account: &ParticipantId,
    phone: &ParticipantId,
) -> Result<bool, store::Error> {
    Ok(phone == account || groups.share_a_group(account, phone).await?)
}
