//! Requests to join the group: who waits, and the events of asking and deciding.
//!
//! WAHA reports that somebody asked, was rejected or withdrew, and reports an approval as a join alone.
//! So a join of somebody who waits, by another person, is an approval. Lists of requests are not
//! compared: a request that nobody reported has no event.

use serde::{Deserialize, Serialize};

use super::member_index::PersonIds;
use super::pending_commands::ExpectedChange;
use super::reducer::{Reducer, latest};
use super::{DAY, GroupState, Source};
use crate::contract::{CommandId, EventName, JoinRequestAction, ParticipantId, RequestMethod};
use crate::engines::event_fields::EventFields;
use crate::engines::sync::{Person, is_phone};

/// How long a second report of the same decision is a repetition, in milliseconds.
const REPEATED: i64 = 120_000;

/// How long an undecided request is kept: WEBJS reports no decisions (chosen).
const KEPT: i64 = 30 * DAY;

/// The maximum number of requests that are kept of one group (chosen): as many as may become members.
const MOST: usize = 1_024;

/// A request to join, by the id that events use for its requester.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequestState {
    /// Nobody has decided yet.
    open: bool,
    method: Option<RequestMethod>,
    /// When it became so, by the reporter's clock; milliseconds.
    at: i64,
    /// When we learned of it, by our clock.
    #[serde(rename = "heard")]
    observed_at: i64,
}

impl GroupState {
    /// Deletes requests that are decided or old, and the oldest ones of too many.
    pub(super) fn drop_old_requests(&mut self, now: i64) {
        self.requests.retain(|_, request| {
            let kept = if request.open { KEPT } else { DAY };
            now - request.observed_at < kept
        });
        while self.requests.len() > MOST {
            let oldest = self.requests.iter().min_by_key(|(_, it)| it.observed_at);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                return;
            };
            self.requests.remove(&oldest);
        }
    }

    /// The account left at this time: it learns of no decision any more.
    pub(super) fn drop_requests_before(&mut self, left: i64) {
        self.requests.retain(|_, request| request.at > left);
    }
}

impl Reducer<'_> {
    /// People asked to join, or their requests were decided or withdrawn.
    pub(super) fn join_requests(
        &mut self,
        action: JoinRequestAction,
        people: &[Person],
        method: Option<RequestMethod>,
    ) {
        if self.is_outside() {
            return;
        }
        for person in people {
            self.link_ids(person);
            let ids = self.ids(person);
            if self.is_new_request(&ids, action) {
                let command = self.deciding_command(&ids, action);
                self.publish_request(&ids, action, method, command);
            }
        }
    }

    /// Somebody has joined: whoever let them in has approved their request.
    pub(super) fn approve_by_join(&mut self, who: &ParticipantId, command: Option<&CommandId>) {
        let ids = self.index.ids_of([who], &self.state.phones);
        let known = self.request_of(&ids);
        let waits = known
            .as_ref()
            .is_some_and(|(_, request)| request.open && request.at <= latest(self.report.at));
        let is_approval = command.is_some_and(|command| {
            let mut pending = self.state.pending_commands.iter();
            pending
                .any(|it| it.command == *command && matches!(it.change, ExpectedChange::Approve(_)))
        });
        let author = self.author(command);
        let by_themselves = author.is_some_and(|author| ids.has(&author));
        if waits && by_themselves {
            // They came by the link, once no approval was required.
            if let Some((key, _)) = known {
                self.state.requests.remove(&key);
            }
        } else if waits || (is_approval && self.is_new_request(&ids, JoinRequestAction::Approved)) {
            let action = JoinRequestAction::Approved;
            self.publish_request(&ids, action, None, command.cloned());
        }
    }

    fn request_of(&self, ids: &PersonIds) -> Option<(ParticipantId, RequestState)> {
        let GroupState {
            requests, phones, ..
        } = &*self.state;
        let mut own = [&ids.phone, &ids.lid].into_iter().flatten();
        let exactly = own.find_map(|id| requests.get_key_value(id));
        // By another form of the number, or by a private id that they had before.
        let found = exactly.or_else(|| {
            requests
                .iter()
                .find(|(id, _)| ids.has(id) || phones.get(*id).is_some_and(|phone| ids.has(phone)))
        });
        found.map(|(id, request)| (id.clone(), request.clone()))
    }

    fn is_new_request(&mut self, ids: &PersonIds, action: JoinRequestAction) -> bool {
        let Some((_, known)) = self.request_of(ids) else {
            return true;
        };
        if self.is_outdated(Some(known.at)) {
            return false;
        }
        match action {
            JoinRequestAction::Created => !known.open,
            _ => known.open || self.report.now - known.observed_at >= REPEATED,
        }
    }

    /// Our own command that made this decision.
    fn deciding_command(&self, ids: &PersonIds, action: JoinRequestAction) -> Option<CommandId> {
        if let Source::Command(command) = &self.report.source {
            return Some(command.clone());
        }
        let mut pending = self.state.pending_commands.iter();
        let decides = |change: &ExpectedChange| match (change, action) {
            (ExpectedChange::Approve(people), JoinRequestAction::Approved)
            | (ExpectedChange::Reject(people), JoinRequestAction::Rejected) => {
                people.iter().any(|id| ids.has(id))
            }
            _ => false,
        };
        let found = pending.find(|it| decides(&it.change));
        found.map(|it| it.command.clone())
    }

    fn publish_request(
        &mut self,
        ids: &PersonIds,
        action: JoinRequestAction,
        method: Option<RequestMethod>,
        command: Option<CommandId>,
    ) {
        let Some(id) = ids.name().cloned() else {
            return;
        };
        let known = self.request_of(ids);
        let earlier = known.as_ref().and_then(|(_, request)| request.method);
        if let Some((key, _)) = known {
            self.state.requests.remove(&key);
        }
        let method = method.or(earlier);
        let request = RequestState {
            open: action == JoinRequestAction::Created,
            method,
            at: self.report.at,
            observed_at: self.report.now,
        };
        self.state.requests.insert(id.clone(), request);
        let is_their_own = match action {
            JoinRequestAction::Created => method != Some(RequestMethod::NonAdminAdd),
            JoinRequestAction::Revoked => true,
            JoinRequestAction::Approved | JoinRequestAction::Rejected => false,
        };
        let requester = is_their_own.then(|| id.clone());
        let phone = is_phone(&id).then(|| id.clone());
        let group = self.group_key.group.clone();
        self.emit(EventName::JoinRequest, command, |fields| {
            let author = fields.author.clone().or(requester);
            EventFields { author, ..fields }.join_request(group, action, (id, phone, method))
        });
    }
}
