//! Requests to join a group: listing, approving and rejecting them (WAHA 2026.8.2 and newer).

use super::match_answers::find;
use super::{Completed, Operation, done_with, not_allowed, outcome};
use crate::contract::{
    CommandResult, GroupId, JoinRequest, JoinRequestAction, NotificationType, Outcome, OutcomeKind,
    ParticipantInput, Role,
};
use crate::engines::EngineError;
use crate::engines::sync::{GroupSnapshot, Observation, Person, state_store};
use crate::engines::waha::client::{ApiRequest, within};
use crate::engines::waha::wire::{ParticipantAnswer, RequestEntry, decisions, join_requests};

const PATH: &str = "/participants/join-requests";

/// The maximum number of requesters whose phone is looked up one by one.
const LOOKUPS: usize = 20;

/// What an admin decides about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Approve,
    Reject,
}

/// What is read before and after a decision whose answer does not name everybody.
struct Later {
    /// Who waited before; only for a rejection.
    waited: Vec<RequestEntry>,
    waiting: Vec<RequestEntry>,
    /// The members afterwards; only for an approval.
    members: Vec<Person>,
}

impl Operation<'_> {
    pub(super) async fn list_join_requests(&self, id: &GroupId) -> Result<Completed, EngineError> {
        self.read_as_admin(id, "see who asks to join").await?;
        let mut waiting = self.fetch_join_requests(id).await?;
        self.find_phones(&mut waiting).await;
        let waiting = waiting.into_iter().map(|it| {
            let phone = (!it.requester.is_private()).then(|| it.requester.id.clone());
            JoinRequest {
                requester_id: it.requester.id,
                requester_pn: phone,
                added_by_id: it.added_by,
                parent_group_id: it.parent_group,
                request_method: it.method,
                timestamp: it.at,
            }
        });
        Ok(Completed::unchanged(CommandResult::JoinRequests(
            waiting.collect(),
        )))
    }

    pub(super) async fn decide(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        decision: Decision,
    ) -> Result<Completed, EngineError> {
        let mut group = self.read_as_admin(id, "decide who may join").await?;
        if named.is_empty() {
            return Ok(Completed::unchanged(CommandResult::Outcomes(Vec::new())));
        }
        let path = match decision {
            Decision::Approve => "/participants/join-requests/approve",
            Decision::Reject => "/participants/join-requests/reject",
        };
        // Whether somebody was rejected shows afterwards only if they are known to have waited. Without the
        // list that is unknown.
        let waited = match decision {
            Decision::Approve => Vec::new(),
            Decision::Reject => self.fetch_join_requests(id).await.unwrap_or_default(),
        };
        let body = match self.request_participants(id, path, named).await {
            Ok(body) => body,
            Err(failure) => {
                let error = self.participant_error(id, failure, "decide who may join");
                return Err(error.await);
            }
        };
        let answered = for_everybody(decisions(body.json()), named);
        let matched = self.match_answers(named, answered, deciding).await;
        let mut before = group.people.take().unwrap_or_default();
        self.identify(&mut before, named).await;
        let later = if matched.iter().any(Option::is_none) {
            Some(self.look_again(id, named, decision, waited).await?)
        } else {
            None
        };
        let outcomes = named.iter().zip(matched);
        let outcomes = outcomes.map(|(person, matched)| match (matched, &later) {
            (Some(matched), _) if matched.code != 404 => matched,
            (None, Some(later)) => later.outcome(&before, person, decision),
            // Nobody by this name waits.
            _ => without_request(&before, person),
        });
        let outcomes: Vec<_> = outcomes.collect();
        let who = state_store::people(done_with(&outcomes));
        let mut observations = vec![Observation::JoinRequests {
            action: match decision {
                Decision::Approve => JoinRequestAction::Approved,
                Decision::Reject => JoinRequestAction::Rejected,
            },
            people: who.clone(),
            method: None,
        }];
        if decision == Decision::Approve {
            observations.push(Observation::MembersJoined(who, NotificationType::Add));
        }
        let result = CommandResult::Outcomes(outcomes);
        Ok(Completed::changed(result, id, observations))
    }

    /// Reads who waits and who is a member after a decision whose answer does not name everybody.
    async fn look_again(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        decision: Decision,
        mut waited: Vec<RequestEntry>,
    ) -> Result<Later, EngineError> {
        let mut waiting = self.fetch_join_requests(id).await?;
        self.find_phones(&mut waiting).await;
        self.find_phones(&mut waited).await;
        let mut members = Vec::new();
        if decision == Decision::Approve {
            members = self.read_group(id).await?.people.unwrap_or_default();
            self.identify(&mut members, named).await;
        }
        Ok(Later {
            waited,
            waiting,
            members,
        })
    }

    /// Reads a group, in which the account has to be an admin to do this.
    async fn read_as_admin(&self, id: &GroupId, what: &str) -> Result<GroupSnapshot, EngineError> {
        let group = self.read_group(id).await?;
        let people = group.people.as_deref().unwrap_or_default();
        let own = self.me.iter().find_map(|me| find(people, me));
        if own.is_some_and(|own| own.role == Role::Participant) {
            return Err(not_allowed(what));
        }
        Ok(group)
    }

    async fn fetch_join_requests(&self, id: &GroupId) -> Result<Vec<RequestEntry>, EngineError> {
        let ask = ApiRequest::get(within(id, PATH));
        let body = match self.client.groups(self.caller, ask).await {
            Ok(body) => body,
            Err(failure) => {
                let error = self.participant_error(id, failure, "see who asks to join");
                return Err(error.await);
            }
        };
        join_requests(body.json()).ok_or_else(|| self.unreadable("no list of requests"))
    }

    async fn find_phones(&self, requests: &mut [RequestEntry]) {
        for RequestEntry { requester, .. } in requests.iter_mut().take(LOOKUPS) {
            if !requester.is_private() {
                continue;
            }
            let phones = self.phone_directory;
            let asked = phones.phone(self.client, self.caller, &requester.id);
            if let Some(phone) = asked.await {
                requester.lid = Some(std::mem::replace(&mut requester.id, phone));
            }
        }
    }
}

impl Later {
    /// The outcome for somebody whom the answer does not name.
    fn outcome(&self, before: &[Person], person: &ParticipantInput, decision: Decision) -> Outcome {
        let is_among =
            |requests: &[RequestEntry]| requests.iter().any(|it| it.requester.is(&person.id));
        let is_decided = match decision {
            Decision::Approve => find(&self.members, &person.id).is_some(),
            Decision::Reject => is_among(&self.waited),
        };
        if is_among(&self.waiting) {
            outcome(&person.id, OutcomeKind::Unknown, 400)
        } else if find(before, &person.id).is_some() {
            without_request(before, person)
        } else if is_decided {
            outcome(&person.id, OutcomeKind::Ok, 200)
        } else if decision == Decision::Approve {
            without_request(before, person)
        } else {
            // They may have asked by an id that is not known to be theirs.
            outcome(&person.id, OutcomeKind::Unknown, 400)
        }
    }
}

/// Somebody who has no request: a member, or nobody whom an admin could let in.
fn without_request(people: &[Person], person: &ParticipantInput) -> Outcome {
    if find(people, &person.id).is_some() {
        outcome(&person.id, OutcomeKind::AlreadyMember, 409)
    } else {
        outcome(&person.id, OutcomeKind::NotMember, 404)
    }
}

/// A single answer without a name stands for everybody.
fn for_everybody(
    answered: Vec<ParticipantAnswer>,
    named: &[ParticipantInput],
) -> Vec<ParticipantAnswer> {
    match answered.as_slice() {
        [only] if only.ids.is_empty() => {
            let answer = |person: &ParticipantInput| ParticipantAnswer {
                ids: vec![person.id.clone()],
                ..only.clone()
            };
            named.iter().map(answer).collect()
        }
        _ => answered,
    }
}

/// The meaning of a code when deciding about a request.
const fn deciding(code: u16) -> OutcomeKind {
    match code {
        200 => OutcomeKind::Ok,
        401 | 403 | 405 => OutcomeKind::NotAllowed,
        404 => OutcomeKind::NotMember,
        409 => OutcomeKind::AlreadyMember,
        412 | 419 => OutcomeKind::GroupFull,
        _ => OutcomeKind::Unknown,
    }
}
