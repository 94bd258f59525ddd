//! Who comes and who goes, and who is an admin.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Done, Errand, done_with, entries, is_outside, not_allowed, outcome};
use crate::contract::{
    CommandResult, CreateGroup, ErrorCode, GroupId, NotificationType, Outcome, OutcomeKind,
    ParticipantId, ParticipantInput, Role,
};
use crate::engines::waha::book;
use crate::engines::waha::client::{Ask, Trouble, within};
use crate::engines::waha::error::{Cause, Intent};
use crate::engines::waha::known::{Claim, What};
use crate::engines::waha::wire::{
    self, Answered, Body, Person, Seen, adding, changing, created, outcomes, refusal_text,
};
use crate::engines::{Call, EngineError};
use crate::outbound::Method;

/// Private ids in an answer that are looked up one by one, at most.
const LOOKUPS: usize = 20;

/// What happens to people who are in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Remove,
    Promote,
    Demote,
}

impl Change {
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

    /// What there is to say of somebody without asking WhatsApp.
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

    /// Whether somebody is as they were to be.
    fn is_done(self, person: Option<&Person>) -> bool {
        match self {
            Self::Remove => person.is_none(),
            Self::Promote => person.is_some_and(|it| it.role != Role::Participant),
            Self::Demote => person.is_some_and(|it| it.role == Role::Participant),
        }
    }
}

impl Errand<'_> {
    pub(super) async fn create(&self, asked: &CreateGroup) -> Result<Done, EngineError> {
        let body = json!({ "name": asked.name, "participants": entries(&asked.participants) });
        let ask = Ask::change(Method::POST, String::new(), Some(body));
        let body = self.client.groups(self.by, ask).await?;
        if let Some(words) = refusal_text(&body) {
            return Err(self.creation_refused(words));
        }
        let Some(made) = wire::group(body.json()) else {
            let cause = Cause::Unreadable("no group");
            return Err(cause.judge(Intent::Change, &self.by.server.name));
        };
        let answered = created(body.json());
        // Made it is, whatever comes now.
        let seen = self.look(&made.id).await.unwrap_or(made);
        self.made(asked, seen, answered).await
    }

    /// The result of a `CreateGroup` whose group is there.
    pub(in crate::engines::waha) async fn made(
        &self,
        asked: &CreateGroup,
        mut seen: Seen,
        answered: Vec<Answered>,
    ) -> Result<Done, EngineError> {
        seen.subject.get_or_insert_with(|| asked.name.clone());
        let people = seen.people.get_or_insert_default();
        if people.is_empty() {
            people.extend(self.me.first().map(|me| Person {
                id: me.clone(),
                lid: None,
                role: Role::Superadmin,
            }));
        }
        if seen.owner.is_none() {
            seen.owner = self.me.first().cloned();
        }
        let told = self.match_up(&asked.participants, answered, adding).await;
        let people = seen.people.as_deref().unwrap_or_default();
        let outcomes = asked.participants.iter().zip(told);
        let outcomes = outcomes.map(|(named, told)| match told {
            Some(told) => told,
            None if people.iter().any(|it| it.is(&named.id)) => {
                outcome(&named.id, OutcomeKind::Ok, 200)
            }
            // NOWEB does not say why somebody is not in the new group.
            None => outcome(&named.id, OutcomeKind::Unknown, 400),
        });
        let outcomes = outcomes.collect();
        let claim = Claim::Joined(Box::new(seen.clone()));
        let id = seen.id.clone();
        let mut group = seen
            .into_group()
            .ok_or_else(|| self.unreadable("no group"))?;
        group.outcomes = Some(outcomes);
        let result = CommandResult::Group(Box::new(group));
        Ok(Done::changed(result, &id, vec![claim]))
    }

    /// WEBJS's words in the place of a group. "An unknown error" has been seen beside a group that
    /// was made all the same.
    fn creation_refused(&self, words: &str) -> EngineError {
        if words.to_lowercase().contains("unknown") {
            return EngineError::NoAnswer {
                message: "WhatsApp Web does not know whether it made the group".to_owned(),
            };
        }
        Cause::Words(words.to_owned()).judge(Intent::Change, &self.by.server.name)
    }

    pub(super) async fn add(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Done, EngineError> {
        let outcomes = match self.ask_people(id, "/participants/add", named).await {
            Ok(body) => self.added(id, named, &body).await?,
            // One number that WhatsApp calls wrong fails them all; so each is asked for alone.
            Err(trouble) if trouble.cause.whatsapp() == Some(400) && named.len() > 1 => {
                self.add_one_by_one(id, named).await?
            }
            Err(trouble) => {
                return Err(self
                    .about_members(id, trouble, "add people to this group")
                    .await);
            }
        };
        let came = done_with(&outcomes);
        let claim = Claim::Came(book::people(came), NotificationType::Add);
        Ok(Done::changed(
            CommandResult::Outcomes(outcomes),
            id,
            vec![claim],
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
            match self.ask_people(id, "/participants/add", alone).await {
                Ok(body) => all.extend(self.added(id, alone, &body).await?),
                Err(trouble) if trouble.cause.whatsapp() == Some(400) => {
                    all.push(outcome(&person.id, OutcomeKind::Unknown, 400));
                }
                // The ones before have been added; asked again, they are members already.
                Err(trouble) => return Err(trouble.judge()),
            }
        }
        Ok(all)
    }

    /// What an answer to adding says; where it says nothing, the group does.
    async fn added(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        body: &Body,
    ) -> Result<Vec<Outcome>, EngineError> {
        if let Some(words) = refusal_text(body) {
            let cause = Cause::Words(words.to_owned());
            let error = cause.judge(Intent::Change, &self.by.server.name);
            self.look(id).await?;
            return Err(error);
        }
        let answered = outcomes(body.json()).unwrap_or_default();
        let told = self.match_up(named, answered, adding).await;
        let after = if told.iter().any(Option::is_none) {
            self.look(id).await?.people.unwrap_or_default()
        } else {
            Vec::new()
        };
        let told = named.iter().zip(told).map(|(person, told)| {
            told.unwrap_or_else(|| match find(&after, &person.id) {
                Some(_) => outcome(&person.id, OutcomeKind::Ok, 200),
                None => outcome(&person.id, OutcomeKind::Unknown, 400),
            })
        });
        Ok(told.collect())
    }

    pub(super) async fn remove(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Done, EngineError> {
        // Removing oneself is leaving, last of all, and needs no right.
        let mine = |person: &&ParticipantInput| self.me.contains(&person.id);
        let others: Vec<_> = named.iter().filter(|it| !mine(it)).cloned().collect();
        let mut done = self.change(id, &others, Change::Remove).await?;
        let Some(me) = named.iter().find(mine) else {
            return Ok(done);
        };
        let left = self.leave(id).await?;
        if let CommandResult::Outcomes(outcomes) = &mut done.result {
            outcomes.push(outcome(&me.id, OutcomeKind::Ok, 200));
            let place = |it: &Outcome| named.iter().position(|named| named.id == it.id);
            outcomes.sort_by_key(place);
        }
        done.claims.extend(left.claims);
        done.group = left.group;
        Ok(done)
    }

    pub(super) async fn promote(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Done, EngineError> {
        self.change(id, named, Change::Promote).await
    }

    pub(super) async fn demote(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
    ) -> Result<Done, EngineError> {
        self.change(id, named, Change::Demote).await
    }

    /// Asks for those who are not yet as they should be; read before, and where the answer says
    /// nothing of anybody (WEBJS), after.
    async fn change(
        &self,
        id: &GroupId,
        named: &[ParticipantInput],
        change: Change,
    ) -> Result<Done, EngineError> {
        let before = self.look(id).await?.people.unwrap_or_default();
        if named.is_empty() {
            return Ok(Done::changed(
                CommandResult::Outcomes(Vec::new()),
                id,
                Vec::new(),
            ));
        }
        let own = self.me.iter().find_map(|me| find(&before, me));
        if own.is_some_and(|own| own.role == Role::Participant) {
            return Err(not_allowed(change.words()));
        }
        let already = |it: &ParticipantInput| change.already(find(&before, &it.id));
        let open: Vec<_> = named
            .iter()
            .filter(|it| already(it).is_none())
            .cloned()
            .collect();
        let told = if open.is_empty() {
            Vec::new()
        } else {
            self.changed(id, &open, change).await?
        };
        let mut told = told.into_iter();
        let outcomes: Vec<_> = named
            .iter()
            .filter_map(|person| match already(person) {
                Some((kind, code)) => Some(outcome(&person.id, kind, code)),
                None => told.next(),
            })
            .collect();
        let who = book::people(done_with(&outcomes));
        let claim = match change {
            Change::Remove => Claim::Went(who, NotificationType::Remove),
            Change::Promote => Claim::Promoted(who),
            Change::Demote => Claim::Demoted(who),
        };
        Ok(Done::changed(
            CommandResult::Outcomes(outcomes),
            id,
            vec![claim],
        ))
    }

    async fn changed(
        &self,
        id: &GroupId,
        open: &[ParticipantInput],
        change: Change,
    ) -> Result<Vec<Outcome>, EngineError> {
        let body = match self.ask_people(id, change.path(), open).await {
            Ok(body) => body,
            Err(trouble) => return Err(self.about_members(id, trouble, change.words()).await),
        };
        let answered = outcomes(body.json()).unwrap_or_default();
        let told = self.match_up(open, answered, changing).await;
        if let Some(told) = told.iter().cloned().collect() {
            return Ok(told);
        }
        // WEBJS says 200 whatever the app did.
        let after = self.look(id).await?.people.unwrap_or_default();
        let told = open.iter().zip(told).map(|(person, told)| {
            told.unwrap_or_else(|| {
                if change.is_done(find(&after, &person.id)) {
                    outcome(&person.id, OutcomeKind::Ok, 200)
                } else {
                    outcome(&person.id, OutcomeKind::NotAllowed, 403)
                }
            })
        });
        Ok(told.collect())
    }

    pub(super) async fn leave(&self, id: &GroupId) -> Result<Done, EngineError> {
        self.look(id).await?;
        let ask = Ask::change(Method::POST, within(id, "/leave"), None);
        match self.client.groups(self.by, ask).await {
            Ok(_) => {}
            Err(trouble) if matches!(trouble.cause.whatsapp(), Some(401 | 403)) => {
                return Err(super::not_a_member());
            }
            Err(trouble) => return Err(trouble.judge()),
        }
        let claims = vec![Claim::Left(NotificationType::Leave)];
        Ok(Done::changed(CommandResult::Done(true), id, claims))
    }

    /// The account leaves, and the chat is gone from its lists. NOWEB and GOWS have no chat to
    /// delete: having left is all there is to it.
    pub(super) async fn delete(
        &self,
        call: &Call,
        id: &GroupId,
        for_everyone: bool,
    ) -> Result<Done, EngineError> {
        let mut claims = Vec::new();
        let mut inside = true;
        match self.look(id).await {
            Ok(seen) if for_everyone => claims.extend(self.empty(call, id, seen).await?),
            Ok(_) => {}
            Err(error) if is_outside(&error) && !for_everyone => {
                // Not even known: then there is nothing to delete either.
                if error.code() == ErrorCode::GroupNotFound {
                    return Err(error);
                }
                inside = false;
            }
            Err(error) => return Err(error),
        }
        if inside {
            claims.extend(self.leave(id).await?.claims);
        }
        let ask = Ask::change(Method::DELETE, within(id, ""), None);
        if let Err(trouble) = self.client.groups(self.by, ask).await {
            let no_chat = matches!(trouble.cause, Cause::NotImplemented);
            // Left and forgotten already.
            let gone = matches!(trouble.cause.whatsapp(), Some(403 | 404));
            if !no_chat && !gone {
                return Err(trouble.judge());
            }
        }
        Ok(Done::changed(CommandResult::Done(true), id, claims))
    }

    /// Removes everybody else.
    async fn empty(
        &self,
        call: &Call,
        id: &GroupId,
        seen: Seen,
    ) -> Result<Option<Claim>, EngineError> {
        let people = seen.people.unwrap_or_default();
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
        let expected = self
            .book
            .also_expect(self.by.session, id, &call.id, What::Go(ids));
        expected.await.map_err(crate::engines::waha::own)?;
        let told = self.changed(id, &others, Change::Remove).await?;
        if told.iter().any(|it| it.outcome != OutcomeKind::Ok) {
            return Err(not_allowed("remove everybody from this group"));
        }
        let who = book::people(done_with(&told));
        Ok(Some(Claim::Went(who, NotificationType::Remove)))
    }

    async fn ask_people(
        &self,
        id: &GroupId,
        path: &str,
        people: &[ParticipantInput],
    ) -> Result<Body, Trouble> {
        let body = json!({ "participants": entries(people) });
        let ask = Ask::change(Method::POST, within(id, path), Some(body));
        self.client.groups(self.by, ask).await
    }

    /// A refusal about a group's people: the account is not in the group, or no admin of it.
    async fn about_members(&self, id: &GroupId, trouble: Trouble, what: &str) -> EngineError {
        if !matches!(trouble.cause.whatsapp(), Some(401 | 403 | 404)) {
            return trouble.judge();
        }
        match self.look(id).await {
            Err(error) => error,
            Ok(_) => not_allowed(what),
        }
    }

    /// Puts answers beside those who were named, whatever id the answer calls them by.
    async fn match_up(
        &self,
        named: &[ParticipantInput],
        mut answered: Vec<Answered>,
        meaning: fn(u16) -> OutcomeKind,
    ) -> Vec<Option<Outcome>> {
        let missing = |answered: &[Answered]| {
            named
                .iter()
                .any(|person| !answered.iter().any(|it| it.ids.contains(&person.id)))
        };
        if missing(&answered) {
            let known = |it: &Answered| named.iter().any(|person| it.ids.contains(&person.id));
            for answer in answered.iter_mut().filter(|it| !known(it)).take(LOOKUPS) {
                let Some(lid) = answer.ids.first().cloned() else {
                    continue;
                };
                let phone = self.lids.phone(self.client, self.by, &lid).await;
                answer.ids.extend(phone);
            }
        }
        let outcome_of = |person: &ParticipantInput| {
            let answer = answered.iter().find(|it| it.ids.contains(&person.id))?;
            Some(Outcome {
                invite: answer.invite.clone(),
                ..outcome(&person.id, meaning(answer.code), answer.code)
            })
        };
        named.iter().map(outcome_of).collect()
    }
}

fn find<'a>(people: &'a [Person], id: &ParticipantId) -> Option<&'a Person> {
    people.iter().find(|person| person.is(id))
}
