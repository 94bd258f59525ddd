//! The sixteen commands, as requests to WAHA: what is asked, in which order, and what the answers come
//! to. Bodies are read by `wire`, failures judged by `error`.
//!
//! WAHA says 200 where WhatsApp Web refused, and one code for two reasons elsewhere; then the group is
//! read again and the truth is told. Whoever calls sees to the ledger and to the events.

mod answers;
mod creating;
mod members;
mod reading;
mod settings;

use serde_json::{Value, json};

use crate::contract::{
    AddParticipants, Command, CommandResult, DemoteAdmin, ErrorCode, GroupId, Outcome, OutcomeKind,
    ParticipantId, ParticipantInput, PromoteAdmin, RemoveParticipants,
};
use crate::engines::{Call, EngineError};

use super::book::Book;
use super::client::{Ask, Caller, Client, within};
use super::known::Claim;
use super::lids::Lids;
use super::wire::Seen;

/// A command being carried out.
pub(super) struct Errand<'a> {
    pub(super) client: &'a Client,
    pub(super) book: &'a Book,
    pub(super) lids: &'a Lids,
    pub(super) by: Caller<'a>,
    /// The ids of the session's account, the phone's first; empty where WAHA does not tell.
    pub(super) me: Vec<ParticipantId>,
}

/// What a command came to, and what it changed in which group.
pub(super) struct Done {
    pub(super) result: CommandResult,
    pub(super) group: Option<GroupId>,
    pub(super) claims: Vec<Claim>,
}

impl Done {
    const fn unchanged(result: CommandResult) -> Self {
        Self {
            result,
            group: None,
            claims: Vec::new(),
        }
    }

    fn changed(result: CommandResult, group: &GroupId, claims: Vec<Claim>) -> Self {
        Self {
            result,
            group: Some(group.clone()),
            claims,
        }
    }
}

impl Errand<'_> {
    /// Carries out the command.
    pub(super) async fn run(&self, call: &Call) -> Result<Done, EngineError> {
        match &call.command {
            Command::CreateGroup(it) => self.create(call, it).await,
            Command::ListGroups(it) => self.list(it).await,
            Command::GetGroup(it) => self.get(&it.group_id).await,
            Command::DeleteGroup(it) => self.delete(call, &it.group_id, it.for_everyone).await,
            Command::LeaveGroup(it) => self.leave(&it.group_id).await,
            Command::SetGroupSubject(it) => self.set_subject(it).await,
            Command::SetGroupDescription(it) => self.set_description(it).await,
            Command::GetInfoAdminOnly(it) => self.get_info_admin_only(&it.group_id).await,
            Command::SetInfoAdminOnly(it) => self.set_info_admin_only(it).await,
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
                // WhatsApp is not asked for nothing: it takes the request for a wrong one.
                self.look(group_id).await?;
                Ok(Done::unchanged(CommandResult::Outcomes(Vec::new())))
            }
            Command::AddParticipants(it) => self.add(&it.group_id, &it.participants).await,
            Command::RemoveParticipants(it) => self.remove(&it.group_id, &it.participants).await,
            Command::PromoteAdmin(it) => self.promote(&it.group_id, &it.participants).await,
            Command::DemoteAdmin(it) => self.demote(&it.group_id, &it.participants).await,
            Command::GetInviteCode(it) => self.get_invite_code(&it.group_id).await,
            Command::RevokeInviteCode(it) => self.revoke_invite_code(&it.group_id).await,
            // The executor's own.
            Command::SetWebhook(_)
            | Command::RemoveWebhook(_)
            | Command::ListWebhooks(_)
            | Command::TestWebhook(_) => Err(EngineError::Refused {
                code: ErrorCode::NotSupported,
                message: "webhooks are no business of WAHA's".to_owned(),
            }),
        }
    }

    /// Reads a group, phones included where WAHA can tell them.
    ///
    /// # Errors
    /// When there is no such group, or the account is not in it.
    pub(super) async fn look(&self, id: &GroupId) -> Result<Seen, EngineError> {
        let body = match self.client.groups(self.by, Ask::get(within(id, ""))).await {
            Ok(body) => body,
            Err(trouble) => {
                return Err(match trouble.cause.whatsapp() {
                    // Where reading is forbidden, it is for those who are not in the group.
                    Some(401 | 403) => not_a_member(),
                    Some(404) if self.was_inside(id).await => not_a_member(),
                    _ => trouble.judge(),
                });
            }
        };
        // WEBJS says nothing at all where there is no such chat.
        let Some(mut seen) = super::wire::group(body.json()).filter(|seen| seen.id == *id) else {
            return Err(self.no_such_group(id).await);
        };
        if seen.is_stub() {
            // It may stay so for hours, and the group's other commands would wait as long.
            return Err(EngineError::Failing {
                message: "WAHA knows the group but has not loaded it yet".to_owned(),
                is_open: false,
            });
        }
        if let Some(people) = &mut seen.people {
            self.lids.resolve(self.client, self.by, id, people).await;
        }
        if self.is_out_of(&seen) {
            return Err(not_a_member());
        }
        Ok(seen)
    }

    /// Whether the account is certain not to be among a group's people: WEBJS goes on showing groups
    /// that were left.
    pub(super) fn is_out_of(&self, seen: &Seen) -> bool {
        let Some(people) = seen.people.as_ref().filter(|people| !people.is_empty()) else {
            return false;
        };
        let listed = people.iter().any(|it| self.me.iter().any(|me| it.is(me)));
        // Where everybody is private and our own private id was not told, nobody can say.
        let comparable = self.me.len() > 1 || !people.iter().any(super::wire::Person::is_private);
        !self.me.is_empty() && comparable && !listed
    }

    async fn was_inside(&self, id: &GroupId) -> bool {
        // What is not known is told as it is: no such group.
        let known = self.book.was_inside(self.by.session, id).await;
        known.unwrap_or_default()
    }

    async fn no_such_group(&self, id: &GroupId) -> EngineError {
        if self.was_inside(id).await {
            return not_a_member();
        }
        EngineError::Refused {
            code: ErrorCode::GroupNotFound,
            message: "the session's account knows no such group; ListGroups tells which it is in"
                .to_owned(),
        }
    }
}

pub(super) fn not_a_member() -> EngineError {
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
            "only an admin may {what}; have the session's account promoted, or use an admin's session"
        ),
    }
}

/// Whether an error says that the account is not in the group, or never was.
pub(super) fn is_outside(error: &EngineError) -> bool {
    matches!(
        error.code(),
        ErrorCode::NotAMember | ErrorCode::GroupNotFound
    )
}

/// What became of one person.
fn outcome(id: &ParticipantId, kind: OutcomeKind, code: u16) -> crate::contract::Outcome {
    crate::contract::Outcome {
        id: id.clone(),
        outcome: kind,
        code,
        invite: None,
    }
}

/// Who it went well for.
fn done_with(outcomes: &[Outcome]) -> Vec<ParticipantId> {
    let done = outcomes.iter().filter(|it| it.outcome == OutcomeKind::Ok);
    done.map(|it| it.id.clone()).collect()
}

/// People as WAHA wants them: `[{"id": "123@c.us"}]`.
fn entries(people: &[ParticipantInput]) -> Vec<Value> {
    people
        .iter()
        .map(|person| json!({ "id": person.id }))
        .collect()
}
