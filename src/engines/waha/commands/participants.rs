//! Adding and removing members, promoting and demoting admins, leaving and deleting.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::match_answers::{find, lists_everybody};
use super::{Completed, Operation, done_with, entries, is_outside, not_allowed, outcome};
use crate::contract::{
    CommandResult, ErrorCode, GroupId, NotificationType, Outcome, OutcomeKind, ParticipantId,
    ParticipantInput, Role,
};
use crate::engines::sync::{ExpectedChange, Observation, state_store};
use crate::engines::sync::{GroupSnapshot, Person};
use crate::engines::waha::client::{ApiFailure, ApiRequest, within};
use crate::engines::waha::error::{FailureCause, Intent};
use crate::engines::waha::wire::{Body, adding, changing, outcomes, refusal_text};
use crate::engines::{Call, EngineError};
use crate::outbound::Method;

/// The delays before a confirmed change that does not show yet is checked again.
const CHECK_DELAYS: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// A change of existing members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberAction {
    Remove,
    Promote,
    Demote,
}

impl MemberAction {
    const fn path(self) -> &'static str {
        match self {
            Self::Remove => "/participants/remove",
            Self::Promote => "/admin/promote",
            Self::Demote => "/admin/demote",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Remove => "remove people from this group",
            Self::Promote => "promote people",
            Self::Demote => "demote people",
        }
    }

    /// The outcome that is known without a request to WhatsApp.
    fn already(self, person: Option<&Person>) -> Option<(OutcomeKind, u16)> {
        let Some(person) = person else {
            return Some((OutcomeKind::NotMember, 404));
        };
        match (self, person.role) {
            (Self::Promote, Role::Admin | Role::Superadmin) => {
                Some((OutcomeKind::AlreadyAdmin, 200))
            }
            (Self::Demote, Role::Participant) => Some((OutcomeKind::NotAdmin, 200)),
            _ => None,
        }
    }

    /// Whether somebody has the requested role, or is gone.
    fn is_done(self, role: Option<Role>) -> bool {
        match self {
            Self::Remove => role.is_none(),
            Self::Promote => role.is_some_and(|role| role != Role::Participant),
            Self::Demote => role == Some(Role::Participant),
        }
    }
}

impl Operation<'_> {
    pub(super) async fn add(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Completed, EngineError> {
        let outcomes = match self
            .request_participants(id, "/participants/add", named)
            .await
        {
            Ok(body) => self.add_outcomes(id, named, &body).await?,
            // One number that WhatsApp rejects fails the whole request; so each is added by a request
            // of its own.
            Err(failure) if failure.cause.whatsapp() == Some(400) && named.len() > 1 => {
                self.add_one_by_one(id, named).await?
            }
            Err(failure) => {
                return Err(self
                    .participant_error(id, failure, "add people to this group")
                    .await);
            }
        };
        let came = done_with(&outcomes);
        let observation =
            Observation::MembersJoined(state_store::people(came), NotificationType::Add);
        Ok(Completed::changed(
            CommandResult::Outcomes(outcomes),
            id,
            vec![observation],
        ))
    }

    async fn add_one_by_one(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Vec<Outcome>, EngineError> {
        let mut all = Vec::with_capacity(named.len());
        for person in named {
            let alone = std::slice::from_ref(person);
            match self
                .request_participants(id, "/participants/add", alone)
                .await
            {
                Ok(body) => all.extend(self.add_outcomes(id, alone, &body).await?),
                Err(failure) if failure.cause.whatsapp() == Some(400) => {
                    all.push(outcome(&person.id, OutcomeKind::Unknown, 400));
                }
                // The previous ones have been added; when the command is retried, they are members
                // already.
                Err(failure) => return Err(failure.into_engine_error()),
            }
        }
        Ok(all)
    }

    /// The outcomes in an answer to adding; if it has none, the group shows them.
    async fn add_outcomes(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        body: &Body,
    ) -> Result<Vec<Outcome>, EngineError> {
        if let Some(words) = refusal_text(body) {
            let cause = FailureCause::RefusalText(words.to_owned());
            let error = cause.into_engine_error(Intent::Change, &self.caller.server.name);
            self.read_group(id).await?;
            return Err(error);
        }
        let answered = outcomes(body.json()).unwrap_or_default();
        let matched = self.match_answers(named, answered, adding).await;
        let mut after = Vec::new();
        if matched.iter().any(Option::is_none) {
            after = self.read_group(id).await?.people.unwrap_or_default();
            self.identify(&mut after, named).await;
        }
        let matched = named.iter().zip(matched);
        let matched = matched.map(|(person, matched)| match matched {
            Some(matched) => matched,
            None if find(&after, &person.id).is_some() => outcome(&person.id, OutcomeKind::Ok, 200),
            None => outcome(&person.id, OutcomeKind::Unknown, 400),
        });
        Ok(matched.collect())
    }

    pub(super) async fn remove(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Completed, EngineError> {
        // Removing oneself is leaving; it comes last and needs no admin rights.
        let phone_directory = self.phone_directory;
        let mine = |person: &&ParticipantInput| {
            self.me
                .iter()
                .any(|me| phone_directory.is_same(me, &person.id))
        };
        let others: Vec<_> = named.iter().filter(|it| !mine(it)).cloned().collect();
        let mut done = self.change(id, &others, MemberAction::Remove).await?;
        let Some(me) = named.iter().find(mine) else {
            return Ok(done);
        };
        let left = self.leave(id).await?;
        if let CommandResult::Outcomes(outcomes) = &mut done.result {
            outcomes.push(outcome(&me.id, OutcomeKind::Ok, 200));
            let position = |it: &Outcome| named.iter().position(|named| named.id == it.id);
            outcomes.sort_by_key(position);
        }
        done.observations.extend(left.observations);
        done.group = left.group;
        Ok(done)
    }

    pub(super) async fn promote(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Completed, EngineError> {
        self.change(id, named, MemberAction::Promote).await
    }

    pub(super) async fn demote(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Completed, EngineError> {
        self.change(id, named, MemberAction::Demote).await
    }

    /// Requests the change for those who need it; the group is read before, and if the answer names
    /// nobody (WEBJS), after. Somebody who is not listed, in a list that may be incomplete or use
    /// another id, is part of the request: WhatsApp knows.
    async fn change(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        change: MemberAction,
    ) -> Result<Completed, EngineError> {
        let mut before = self.read_group(id).await?;
        if named.is_empty() {
            return Ok(Completed::changed(
                CommandResult::Outcomes(Vec::new()),
                id,
                Vec::new(),
            ));
        }
        if let Some(people) = &mut before.people {
            self.identify(people, named).await;
        }
        let people = before.people.as_deref().unwrap_or_default();
        let own = self.me.iter().find_map(|me| find(people, me));
        if own.is_some_and(|own| own.role == Role::Participant) {
            return Err(not_allowed(change.words()));
        }
        let found: Vec<_> = named.iter().map(|it| find(people, &it.id)).collect();
        let is_certain = lists_everybody(&before);
        let already = |found: Option<&Person>| {
            let is_known = found.is_some() || is_certain;
            is_known.then(|| change.already(found)).flatten()
        };
        let already: Vec<_> = found.iter().map(|found| already(*found)).collect();
        let asked = named.iter().zip(found.iter().zip(&already));
        let asked = asked.filter(|(_, (_, already))| already.is_none());
        let (open, unlisted): (Vec<_>, Vec<_>) = asked
            .map(|(person, (found, _))| (person.clone(), found.is_none()))
            .unzip();
        let matched = if open.is_empty() {
            Vec::new()
        } else {
            self.request_change(id, &open, &unlisted, change).await?
        };
        let mut matched = matched.into_iter();
        let outcomes = named.iter().zip(already);
        let outcomes: Vec<_> = outcomes
            .filter_map(|(person, already)| match already {
                Some((kind, code)) => Some(outcome(&person.id, kind, code)),
                None => matched.next(),
            })
            .collect();
        let who = state_store::people(done_with(&outcomes));
        let observation = match change {
            MemberAction::Remove => Observation::MembersLeft(who, NotificationType::Remove),
            MemberAction::Promote => Observation::Promoted(who),
            MemberAction::Demote => Observation::Demoted(who),
        };
        Ok(Completed::changed(
            CommandResult::Outcomes(outcomes),
            id,
            vec![observation],
        ))
    }

    /// Requests a change. `unlisted` marks those who were not in the list before: their absence
    /// afterwards proves nothing.
    async fn request_change(
        &self,
        id: &GroupId,
        open: &[ParticipantInput],
        unlisted: &[bool],
        change: MemberAction,
    ) -> Result<Vec<Outcome>, EngineError> {
        let begun = self.state_store.now();
        let body = match self.request_participants(id, change.path(), open).await {
            Ok(body) => body,
            Err(failure) => return Err(self.participant_error(id, failure, change.words()).await),
        };
        let answered = outcomes(body.json()).unwrap_or_default();
        let mut matched = self.match_answers(open, answered, changing).await;
        // WEBJS answers 200 whatever WhatsApp Web did, and the list may date from before the change:
        // it is read again, and a change that does not show is not reported as refused.
        let mut delays = CHECK_DELAYS.iter();
        let mut is_refused = false;
        while matched.iter().any(Option::is_none) {
            let mut after = self.read_group(id).await?.people.unwrap_or_default();
            self.identify(&mut after, open).await;
            for (n, matched) in matched
                .iter_mut()
                .enumerate()
                .filter(|(_, matched)| matched.is_none())
            {
                let Some(ParticipantInput { id: who }) = open.get(n) else {
                    continue;
                };
                let person = find(&after, who);
                let says = person.is_some() || unlisted.get(n) == Some(&false);
                let role = person.map(|person| person.role);
                *matched = if says && change.is_done(role)
                    || self.is_confirmed_by_event(id, who, change, begun).await
                {
                    Some(outcome(who, OutcomeKind::Ok, 200))
                } else if change != MemberAction::Promote && role == Some(Role::Superadmin) {
                    // WhatsApp does not allow that for the group's creator.
                    Some(outcome(who, OutcomeKind::NotAllowed, 403))
                } else {
                    None
                };
            }
            let own = self.me.iter().find_map(|me| find(&after, me));
            is_refused = own.is_some_and(|own| own.role == Role::Participant);
            match delays.next() {
                Some(delay) if !is_refused => tokio::time::sleep(*delay).await,
                _ => break,
            }
        }
        let (kind, code) = if is_refused {
            (OutcomeKind::NotAllowed, 403)
        } else {
            (OutcomeKind::Unknown, 400)
        };
        let matched = open.iter().zip(matched);
        let matched =
            matched.map(|(it, matched)| matched.unwrap_or_else(|| outcome(&it.id, kind, code)));
        Ok(matched.collect())
    }

    /// Whether an event of WAHA has confirmed the change since then.
    async fn is_confirmed_by_event(
        &self,
        id: &GroupId,
        who: &ParticipantId,
        change: MemberAction,
        since: i64,
    ) -> bool {
        let status = self
            .state_store
            .member_status(self.caller.session, id, who)
            .await;
        // If the store is unavailable, it counts as unconfirmed.
        let status = status.ok().flatten();
        let status = status.filter(|it| it.reported && it.observed_at >= since);
        status.is_some_and(|it| change.is_done(it.role))
    }

    pub(super) async fn leave(&self, id: &GroupId) -> Result<Completed, EngineError> {
        self.read_group(id).await?;
        let ask = ApiRequest::change(Method::POST, within(id, "/leave"), None);
        match self.client.groups(self.caller, ask).await {
            Ok(_) => {}
            Err(failure) if matches!(failure.cause.whatsapp(), Some(401 | 403)) => {
                return Err(super::not_a_member());
            }
            Err(failure) => return Err(failure.into_engine_error()),
        }
        let observations = vec![Observation::OwnLeft(NotificationType::Leave)];
        Ok(Completed::changed(
            CommandResult::Done(true),
            id,
            observations,
        ))
    }

    /// The account leaves, and the chat disappears from its lists. NOWEB and GOWS have no chat to
    /// delete: leaving is sufficient.
    pub(super) async fn delete(
        &self,
        call: &Call,
        id: &GroupId,
        for_everyone: bool,
    ) -> Result<Completed, EngineError> {
        let mut observations = Vec::new();
        let mut inside = true;
        match self.read_group(id).await {
            Ok(snapshot) if for_everyone => {
                observations.extend(self.remove_others(call, id, snapshot).await?);
            }
            Ok(_) => {}
            Err(error) if is_outside(&error) && !for_everyone => {
                // The group is unknown: there is nothing to delete.
                if error.code() == ErrorCode::GroupNotFound {
                    return Err(error);
                }
                inside = false;
            }
            Err(error) => return Err(error),
        }
        if inside {
            observations.extend(self.leave(id).await?.observations);
        }
        let ask = ApiRequest::change(Method::DELETE, within(id, ""), None);
        if let Err(failure) = self.client.groups(self.caller, ask).await {
            let no_chat = matches!(failure.cause, FailureCause::NotImplemented);
            // Left and deleted already.
            let gone = matches!(failure.cause.whatsapp(), Some(403 | 404));
            if !no_chat && !gone {
                return Err(failure.into_engine_error());
            }
        }
        Ok(Completed::changed(
            CommandResult::Done(true),
            id,
            observations,
        ))
    }

    /// Removes all other members.
    async fn remove_others(
        &self,
        call: &Call,
        id: &GroupId,
        snapshot: GroupSnapshot,
    ) -> Result<Option<Observation>, EngineError> {
        let people = snapshot.people.unwrap_or_default();
        let mine = |person: &Person| self.me.iter().any(|me| person.is(me));
        let own = people.iter().find(|it| mine(it));
        if own.is_some_and(|own| own.role == Role::Participant) {
            return Err(not_allowed("delete the group for everyone"));
        }
        let others = people.iter().filter(|person| !mine(person));
        if others.clone().any(|person| person.role == Role::Superadmin) {
            return Err(EngineError::Refused {
                code: ErrorCode::NotAllowed,
                message:
                    "nobody can remove the group's creator, so only the creator can delete it \
                          for everyone; leave out forEveryone to delete it for this account"
                        .to_owned(),
            });
        }
        let others: Vec<_> = others
            .map(|person| ParticipantInput {
                id: person.id.clone(),
            })
            .collect();
        if others.is_empty() {
            return Ok(None);
        }
        let ids: BTreeSet<_> = others.iter().map(|it| it.id.clone()).collect();
        let expected = self.state_store.expect_also(
            self.caller.session,
            id,
            &call.id,
            ExpectedChange::MembersLeave(ids),
        );
        expected.await.map_err(crate::engines::waha::store_failed)?;
        let matched = self
            .request_change(
                id,
                &others,
                &vec![false; others.len()],
                MemberAction::Remove,
            )
            .await?;
        if matched.iter().any(|it| it.outcome != OutcomeKind::Ok) {
            return Err(not_allowed("remove everybody from this group"));
        }
        let who = state_store::people(done_with(&matched));
        Ok(Some(Observation::MembersLeft(
            who,
            NotificationType::Remove,
        )))
    }

    pub(super) async fn request_participants(
        &self,
        id: &GroupId,
        path: &str,
        people: &[ParticipantInput],
    ) -> Result<Body, ApiFailure> {
        let body = json!({ "participants": entries(people) });
        let ask = ApiRequest::change(Method::POST, within(id, path), Some(body));
        self.client.groups(self.caller, ask).await
    }

    /// The error for a refused change of members: the account is not in the group, or is no admin.
    pub(super) async fn participant_error(
        &self,
        id: &GroupId,
        failure: ApiFailure,
        what: &str,
    ) -> EngineError {
        if !matches!(failure.cause.whatsapp(), Some(401 | 403 | 404)) {
            return failure.into_engine_error();
        }
        match self.read_group(id).await {
            Err(error) => error,
            Ok(_) => not_allowed(what),
        }
    }
}
