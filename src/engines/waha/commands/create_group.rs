//! `CreateGroup`: the new group, and the outcome for each requested member.

use serde_json::json;

use super::match_answers::find;
use super::{Completed, Operation, entries, outcome};
use crate::contract::{CommandResult, CreateGroup, GroupId, OutcomeKind, Role};
use crate::engines::sync::Observation;
use crate::engines::sync::creation_records::CreationRecord;
use crate::engines::sync::{Completeness, GroupSnapshot, Person};
use crate::engines::waha::client::{ApiRequest, within};
use crate::engines::waha::error::{FailureCause, Intent, quoted};
use crate::engines::waha::wire::{
    self, Body, ParticipantAnswer, adding, created, named, refusal_text,
};
use crate::engines::{Call, EngineError};
use crate::outbound::Method;

impl Operation<'_> {
    pub(super) async fn create(
        &self,
        call: &Call,
        asked: &CreateGroup,
    ) -> Result<Completed, EngineError> {
        let body = json!({ "name": asked.name, "participants": entries(&asked.participants) });
        let ask = ApiRequest::change(Method::POST, String::new(), Some(body));
        let body = self.client.groups(self.caller, ask).await?;
        if let Some(words) = refusal_text(&body) {
            return Err(self.creation_refused(words));
        }
        let Some(made) = wire::group(body.json()) else {
            let cause = FailureCause::Unreadable("no group");
            return Err(cause.into_engine_error(Intent::Change, &self.caller.server.name));
        };
        // The group exists, whatever follows.
        self.record_created_group(call, asked, &made.id).await?;
        self.created(asked, made, created(body.json())).await
    }

    /// Records the command's group. If this answer was late, the search of another command may have
    /// claimed the group: then this command has to search as well.
    async fn record_created_group(
        &self,
        call: &Call,
        asked: &CreateGroup,
        id: &GroupId,
    ) -> Result<(), EngineError> {
        let record = CreationRecord::new(call.id.clone(), asked, self.state_store.now());
        let claimed = self
            .state_store
            .assign_created_group(self.caller.session, record, id)
            .await;
        match claimed {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::NoAnswer {
                message: "WAHA answered with a group that already belongs to another command"
                    .to_owned(),
            }),
            // The group is searched for once the store is available again.
            Err(error) => Err(EngineError::NoAnswer {
                message: format!("the new group could not be recorded: {error}"),
            }),
        }
    }

    /// The result of a `CreateGroup` whose group exists, as WAHA showed it.
    pub(in crate::engines::waha) async fn created(
        &self,
        asked: &CreateGroup,
        shown: GroupSnapshot,
        answered: Vec<ParticipantAnswer>,
    ) -> Result<Completed, EngineError> {
        let (mut snapshot, is_believed) = self.read_new_group(shown).await;
        snapshot.subject.get_or_insert_with(|| asked.name.clone());
        let people = snapshot.people.get_or_insert_default();
        if people.is_empty() {
            people.extend(self.me.first().map(|me| Person {
                id: me.clone(),
                lid: None,
                role: Role::Superadmin,
            }));
        }
        if snapshot.owner.is_none() {
            snapshot.owner = self.me.first().cloned();
        }
        let matched = self
            .match_answers(&asked.participants, answered, adding)
            .await;
        let people = snapshot.people.get_or_insert_default();
        self.identify(people, &asked.participants).await;
        let outcomes = asked.participants.iter().zip(matched);
        let outcomes = outcomes.map(|(named, matched)| match matched {
            Some(matched) => matched,
            None if is_believed && find(people, &named.id).is_some() => {
                outcome(&named.id, OutcomeKind::Ok, 200)
            }
            // NOWEB does not say why somebody is not in the new group.
            None => outcome(&named.id, OutcomeKind::Unknown, 400),
        });
        let outcomes = outcomes.collect();
        let observation = Observation::OwnJoined(Box::new(snapshot.clone()));
        let id = snapshot.id.clone();
        let mut group = snapshot
            .into_group()
            .ok_or_else(|| self.unreadable("no group"))?;
        group.outcomes = Some(outcomes);
        let result = CommandResult::Group(Box::new(group));
        Ok(Completed::changed(result, &id, vec![observation]))
    }

    /// Reads a new group; also returns whether its member list is reliable. Baileys lists in its
    /// answer everybody who was requested, including those whom WhatsApp refused; and NOWEB's store
    /// may not have the group yet, or only a part of it. The older list of members always comes from
    /// WhatsApp.
    async fn read_new_group(&self, shown: GroupSnapshot) -> (GroupSnapshot, bool) {
        if let Ok(snapshot) = self.read_group(&shown.id).await
            && snapshot.extent() == Completeness::Complete
        {
            return (snapshot, true);
        }
        let path = within(&shown.id, "/participants");
        if let Ok(Body::Json(list)) = self.client.groups(self.caller, ApiRequest::get(path)).await {
            let mut people = named(&list);
            let phone_directory = self.phone_directory;
            phone_directory
                .resolve(self.client, self.caller, &shown.id, &mut people)
                .await;
            if self.me.iter().any(|me| find(&people, me).is_some()) {
                let people = Some(people);
                return (GroupSnapshot { people, ..shown }, true);
            }
        }
        // As many entries as the group has members: the list is complete and contains nobody else.
        if shown.size.is_some() && shown.extent() == Completeness::Complete {
            return (shown, true);
        }
        let bare = GroupSnapshot {
            people: None,
            ..shown
        };
        (bare, false)
    }

    /// WEBJS's text instead of a group. "An unknown error" has been observed together with a group
    /// that was created nevertheless.
    fn creation_refused(&self, words: &str) -> EngineError {
        if words.to_lowercase().contains("unknown") {
            return EngineError::Failing {
                message: format!(
                    "WhatsApp Web does not report whether it created the group: {}",
                    quoted(words)
                ),
                is_open: true,
            };
        }
        FailureCause::RefusalText(words.to_owned())
            .into_engine_error(Intent::Change, &self.caller.server.name)
    }
}
