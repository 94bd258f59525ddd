//! A new group, and what became of the people who were wanted in it.

use serde_json::json;

use super::answers::find;
use super::{Done, Errand, entries, outcome};
use crate::contract::{CommandResult, CreateGroup, GroupId, OutcomeKind, Role};
use crate::engines::waha::client::{Ask, within};
use crate::engines::waha::error::{Cause, Intent, quoted};
use crate::engines::waha::known::Claim;
use crate::engines::waha::makings::Making;
use crate::engines::waha::wire::{
    self, Answered, Body, Extent, Person, Seen, adding, created, named, refusal_text,
};
use crate::engines::{Call, EngineError};
use crate::outbound::Method;

impl Errand<'_> {
    pub(super) async fn create(
        &self,
        call: &Call,
        asked: &CreateGroup,
    ) -> Result<Done, EngineError> {
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
        // Made it is, whatever comes now.
        self.claim(call, asked, &made.id).await?;
        self.made(asked, made, created(body.json())).await
    }

    /// Writes down whose group it is. The search of another command may have taken it for its own, when
    /// this answer was long in coming: then this one has to be searched for as well.
    async fn claim(
        &self,
        call: &Call,
        asked: &CreateGroup,
        id: &GroupId,
    ) -> Result<(), EngineError> {
        let making = Making::new(call.id.clone(), asked, self.book.now());
        let claimed = self.book.claim_making(self.by.session, making, id).await;
        match claimed {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::NoAnswer {
                message: "WAHA answered with a group that another command has been answered with"
                    .to_owned(),
            }),
            // What has been made is searched for once the store is back.
            Err(error) => Err(EngineError::NoAnswer {
                message: format!("the new group could not be written down: {error}"),
            }),
        }
    }

    /// The result of a `CreateGroup` whose group is there, as it was shown.
    pub(in crate::engines::waha) async fn made(
        &self,
        asked: &CreateGroup,
        shown: Seen,
        answered: Vec<Answered>,
    ) -> Result<Done, EngineError> {
        let (mut seen, is_believed) = self.look_at_new(shown).await;
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
        let people = seen.people.get_or_insert_default();
        self.recognise(people, &asked.participants).await;
        let outcomes = asked.participants.iter().zip(told);
        let outcomes = outcomes.map(|(named, told)| match told {
            Some(told) => told,
            None if is_believed && find(people, &named.id).is_some() => {
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

    /// Looks at a new group, and tells whether its people can be believed. Baileys lists in its answer
    /// whoever was wanted, also who was refused; and NOWEB's store may not have the group yet, or not all
    /// of it. The older list of people is WhatsApp's own, always.
    async fn look_at_new(&self, shown: Seen) -> (Seen, bool) {
        if let Ok(seen) = self.look(&shown.id).await
            && seen.extent() == Extent::Whole
        {
            return (seen, true);
        }
        let path = within(&shown.id, "/participants");
        if let Ok(Body::Json(list)) = self.client.groups(self.by, Ask::get(path)).await {
            let mut people = named(&list);
            let lids = self.lids;
            lids.resolve(self.client, self.by, &shown.id, &mut people)
                .await;
            if self.me.iter().any(|me| find(&people, me).is_some()) {
                let people = Some(people);
                return (Seen { people, ..shown }, true);
            }
        }
        // As many as the group has: then it lists who is in it, and nobody else.
        if shown.size.is_some() && shown.extent() == Extent::Whole {
            return (shown, true);
        }
        let bare = Seen {
            people: None,
            ..shown
        };
        (bare, false)
    }

    /// WEBJS's words in the place of a group. "An unknown error" has been seen beside a group that
    /// was made all the same.
    fn creation_refused(&self, words: &str) -> EngineError {
        if words.to_lowercase().contains("unknown") {
            return EngineError::Failing {
                message: format!(
                    "WhatsApp Web does not know whether it made the group: {}",
                    quoted(words)
                ),
                is_open: true,
            };
        }
        Cause::Words(words.to_owned()).judge(Intent::Change, &self.by.server.name)
    }
}
