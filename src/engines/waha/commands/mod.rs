//! The commands as requests to WAHA: the requests, their order, and the results of the
//! answers. `wire` parses bodies, `error` classifies failures.
//!
//! WAHA answers 200 though WhatsApp Web refused, and elsewhere uses one code for two reasons; then the
//! group is read again to find the actual result. The caller records the command in the ledger and
//! publishes the events.

mod create_group;
mod join;
mod join_requests;
mod lids;
mod match_answers;
mod participants;
mod pictures;
mod queries;
mod read_group;
mod settings;

use serde_json::{Value, json};

use crate::contract::{
    AddParticipants, Command, CommandResult, DemoteAdmin, ErrorCode, GroupId, Outcome, OutcomeKind,
    ParticipantId, ParticipantInput, PromoteAdmin, RemoveParticipants,
};
use crate::engines::{Call, EngineError};

use join_requests::Decision;

use super::client::{Caller, Client};
use super::reload_limit::ReloadLimit;
use crate::engines::pictures::Pictures;
use crate::engines::sync::Observation;
use crate::engines::sync::PhoneDirectory;
use crate::engines::sync::state_store::StateStore;

/// A command that is being executed.
pub(super) struct Operation<'a> {
    pub(super) client: &'a Client,
    pub(super) state_store: &'a StateStore,
    pub(super) phone_directory: &'a PhoneDirectory,
    pub(super) reload_limit: &'a ReloadLimit,
    pub(super) pictures: &'a Pictures,
    pub(super) caller: Caller<'a>,
    /// The ids of the session's account, the phone first; empty if WAHA does not return them.
    pub(super) me: Vec<ParticipantId>,
}

/// The result of a command, and the changes that it made in its group.
pub(super) struct Completed {
    pub(super) result: CommandResult,
    pub(super) group: Option<GroupId>,
    pub(super) observations: Vec<Observation>,
}

impl Completed {
    const fn unchanged(result: CommandResult) -> Self {
        Self {
            result,
            group: None,
            observations: Vec::new(),
        }
    }

    fn changed(result: CommandResult, group: &GroupId, observations: Vec<Observation>) -> Self {
        Self {
            result,
            group: Some(group.clone()),
            observations,
        }
    }
}

impl Operation<'_> {
    /// Executes the command.
    pub(super) async fn run(&self, call: &Call) -> Result<Completed, EngineError> {
        match &call.command {
            Command::CreateGroup(it) => self.create(call, it).await,
            Command::ListGroups(it) => self.list(it).await,
            Command::GetGroup(it) => self.get(&it.group_id).await,
            Command::DeleteGroup(it) => self.delete(call, &it.group_id, it.for_everyone).await,
            Command::LeaveGroup(it) => self.leave(&it.group_id).await,
            Command::SetGroupSubject(it) => self.set_subject(it).await,
            Command::SetGroupDescription(it) => self.set_description(it).await,
            Command::CountGroups(_) => self.count().await,
            Command::RefreshGroups(_) => self.refresh().await,
            Command::GetInfoAdminOnly(_)
            | Command::SetInfoAdminOnly(_)
            | Command::GetMessagesAdminOnly(_)
            | Command::SetMessagesAdminOnly(_)
            | Command::GetMemberAddMode(_)
            | Command::SetMemberAddMode(_)
            | Command::GetMembershipApproval(_)
            | Command::SetMembershipApproval(_)
            | Command::GetMemberShareHistory(_)
            | Command::SetMemberShareHistory(_)
            | Command::SetDisappearingMessages(_) => self.setting(&call.command).await,
            Command::GetGroupPicture(it) => self.get_picture(&it.group_id, it.refresh).await,
            Command::SetGroupPicture(it) => self.set_picture(it).await,
            Command::DeleteGroupPicture(it) => self.delete_picture(&it.group_id).await,
            Command::GetParticipants(it) => self.get_participants(&it.group_id).await,
            Command::AddParticipants(AddParticipants {
                group_id,
                participants,
            })
            | Command::RemoveParticipants(RemoveParticipants {
                group_id,
                participants,
            })
            | Command::PromoteAdmin(PromoteAdmin {
                group_id,
                participants,
            })
            | Command::DemoteAdmin(DemoteAdmin {
                group_id,
                participants,
            }) if participants.is_empty() => {
                // WhatsApp rejects a request without participants, so none is sent.
                self.read_group(group_id).await?;
                Ok(Completed::unchanged(CommandResult::Outcomes(Vec::new())))
            }
            Command::AddParticipants(it) => self.add(&it.group_id, &it.participants).await,
            Command::RemoveParticipants(it) => self.remove(&it.group_id, &it.participants).await,
            Command::PromoteAdmin(it) => self.promote(&it.group_id, &it.participants).await,
            Command::DemoteAdmin(it) => self.demote(&it.group_id, &it.participants).await,
            Command::GetInviteCode(it) => self.get_invite_code(&it.group_id).await,
            Command::RevokeInviteCode(it) => self.revoke_invite_code(&it.group_id).await,
            Command::GetJoinInfo(it) => self.get_join_info(&it.code).await,
            Command::JoinGroup(it) => self.join_group(call, it).await,
            Command::ListJoinRequests(it) => self.list_join_requests(&it.group_id).await,
            Command::ApproveJoinRequests(it) => {
                self.decide(&it.group_id, &it.participants, Decision::Approve)
                    .await
            }
            Command::RejectJoinRequests(it) => {
                self.decide(&it.group_id, &it.participants, Decision::Reject)
                    .await
            }
            Command::ListLids(it) => self.list_lids(it).await,
            Command::CountLids(_) => self.count_lids().await,
            Command::GetPhoneByLid(it) => self.get_phone_by_lid(&it.lid).await,
            Command::GetLidByPhone(it) => self.get_lid_by_phone(&it.phone).await,
            // Executed by the executor itself.
            Command::EnsureGroup(_)
            | Command::SetWebhook(_)
            | Command::RemoveWebhook(_)
            | Command::ListWebhooks(_)
            | Command::TestWebhook(_) => Err(EngineError::Refused {
                code: ErrorCode::NotSupported,
                message: "WAHA does not execute this command".to_owned(),
            }),
        }
    }
}

fn group_not_found() -> EngineError {
    EngineError::Refused {
        code: ErrorCode::GroupNotFound,
        message:
            "the session's account knows no such group; ListGroups returns the groups it is in"
                .to_owned(),
    }
}

fn not_a_member() -> EngineError {
    EngineError::Refused {
        code: ErrorCode::NotAMember,
        message: "the session's account is not in this group any more; an admin can add it again"
            .to_owned(),
    }
}

fn not_allowed(what: &str) -> EngineError {
    EngineError::Refused {
        code: ErrorCode::NotAllowed,
        message: format!(
            "only an admin may {what}; promote the session's account, or use an admin's session"
        ),
    }
}

/// Whether an error says that the account is not, or never was, in the group.
pub(super) fn is_outside(error: &EngineError) -> bool {
    matches!(
        error.code(),
        ErrorCode::NotAMember | ErrorCode::GroupNotFound
    )
}

/// The outcome for one person.
fn outcome(id: &ParticipantId, kind: OutcomeKind, code: u16) -> crate::contract::Outcome {
    crate::contract::Outcome {
        id: id.clone(),
        outcome: kind,
        code,
        invite: None,
    }
}

/// The people with the outcome `ok`.
fn done_with(outcomes: &[Outcome]) -> Vec<ParticipantId> {
    let done = outcomes.iter().filter(|it| it.outcome == OutcomeKind::Ok);
    done.map(|it| it.id.clone()).collect()
}

/// People in WAHA's format: `[{"id": "123@c.us"}]`.
fn entries(people: &[ParticipantInput]) -> Vec<Value> {
    people
        .iter()
        .map(|person| json!({ "id": person.id }))
        .collect()
}
