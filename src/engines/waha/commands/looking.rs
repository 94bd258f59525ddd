//! Looking at groups for a command. What WAHA shows may be older than what is known: NOWEB's store learns
//! of a new group late, or never when the notification is lost. So a group that the account is known to be
//! in is asked for again, after WAHA has asked WhatsApp, before it is said not to be there.

use std::time::Duration;

use super::{Errand, group_not_found, not_a_member};
use crate::contract::GroupId;
use crate::engines::EngineError;
use crate::engines::waha::client::{Ask, within};
use crate::engines::waha::error::Cause;
use crate::engines::waha::wire::{self, Person, Seen};
use crate::outbound::Method;
use crate::store::known_groups::KnownKey;

/// How long is waited before each further look at what is not shown.
const AGAIN: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
];

impl Errand<'_> {
    /// Reads a group, phones included where WAHA can tell them.
    ///
    /// # Errors
    /// When there is no such group, or the account is not in it.
    pub(in crate::engines::waha) async fn look(&self, id: &GroupId) -> Result<Seen, EngineError> {
        if let Some(seen) = self.show(id).await? {
            return self.read(seen).await;
        }
        // What is not known is told as it is: no such group.
        let known = self.book.is_inside(self.by.session, id).await;
        match known.unwrap_or_default() {
            None => return Err(group_not_found()),
            Some(false) => return Err(not_a_member()),
            Some(true) => {}
        }
        for wait in AGAIN {
            tokio::time::sleep(wait).await;
            self.refresh_at_times().await;
            if let Some(seen) = self.show(id).await? {
                return self.read(seen).await;
            }
        }
        // Whether the account is out of it, a comparison finds out.
        self.book.wish(KnownKey {
            session: self.by.session.clone(),
            group: None,
        });
        Err(EngineError::Unavailable {
            message:
                "WAHA does not show the group, though the session's account is known to be in it"
                    .to_owned(),
            source: None,
        })
    }

    /// Asks for a group, once. None: WAHA has it in no list of its own, or says nothing.
    ///
    /// # Errors
    /// As [`Errand::look`]; then WhatsApp itself was asked.
    pub(in crate::engines::waha) async fn show(
        &self,
        id: &GroupId,
    ) -> Result<Option<Seen>, EngineError> {
        let trouble = match self.client.groups(self.by, Ask::get(within(id, ""))).await {
            // WEBJS says nothing at all where there is no such chat.
            Ok(body) => return Ok(wire::group(body.json()).filter(|seen| seen.id == *id)),
            Err(trouble) => trouble,
        };
        match trouble.cause.whatsapp() {
            // Where reading is forbidden, it is for those who are not in the group.
            Some(401 | 403) => Err(not_a_member()),
            Some(404) if trouble.cause.is_of_a_list() => Ok(None),
            Some(404) => {
                let known = self.book.is_inside(self.by.session, id).await;
                Err(match known {
                    Ok(Some(false)) => not_a_member(),
                    _ => group_not_found(),
                })
            }
            _ => Err(trouble.judge()),
        }
    }

    /// Makes sure that a group can be used, and completes its people.
    async fn read(&self, mut seen: Seen) -> Result<Seen, EngineError> {
        if seen.is_stub() {
            // It may stay so for hours, and the group's other commands would wait as long.
            return Err(EngineError::Failing {
                message: "WAHA knows the group but has not loaded it yet".to_owned(),
                is_open: false,
            });
        }
        let id = &seen.id;
        if let Some(people) = &mut seen.people {
            self.lids.resolve(self.client, self.by, id, people).await;
        }
        if self.is_out_of(&seen) {
            return Err(not_a_member());
        }
        Ok(seen)
    }

    /// All groups as WAHA lists them. Asked again where one is missing that a command made a while ago.
    pub(super) async fn listed(&self) -> Result<Vec<Seen>, EngineError> {
        let mut listed = self.list_once().await?;
        let made = self.book.made(self.by.session).await.unwrap_or_default();
        let mut missing = Vec::new();
        for id in made.iter().filter(|id| !has(&listed, id)) {
            let inside = self.book.is_inside(self.by.session, id).await;
            if matches!(inside, Ok(Some(true))) {
                missing.push(id);
            }
        }
        for wait in AGAIN {
            if missing.iter().all(|id| has(&listed, id)) {
                break;
            }
            tokio::time::sleep(wait).await;
            self.refresh_at_times().await;
            listed = self.list_once().await?;
        }
        Ok(listed)
    }

    async fn list_once(&self) -> Result<Vec<Seen>, EngineError> {
        let body = self.client.groups(self.by, Ask::get(String::new())).await?;
        wire::groups(body.json()).ok_or_else(|| self.unreadable("no list of groups"))
    }

    /// Has WAHA ask WhatsApp for all groups anew: NOWEB shows what it has in memory. Whether what it shows
    /// is as new as it can be; a WAHA that has no such request shows what there is.
    pub(in crate::engines::waha) async fn refresh(&self) -> bool {
        let ask = Ask::change(Method::POST, "/refresh".to_owned(), None);
        match self.client.groups(self.by, ask).await {
            Ok(_) => true,
            Err(trouble) => matches!(trouble.cause, Cause::NotImplemented),
        }
    }

    /// As [`Errand::refresh`], but not at once again for the same session: WhatsApp limits it.
    async fn refresh_at_times(&self) {
        if self.book.may_refresh(self.by.session) {
            self.refresh().await;
        }
    }

    /// Whether the account is certain not to be among a group's people: WEBJS goes on showing groups
    /// that were left.
    pub(in crate::engines::waha) fn is_out_of(&self, seen: &Seen) -> bool {
        let Some(people) = seen.people.as_ref().filter(|people| !people.is_empty()) else {
            return false;
        };
        let listed = people.iter().any(|it| self.me.iter().any(|me| it.is(me)));
        // Where everybody is private and our own private id was not told, nobody can say.
        let comparable = self.me.len() > 1 || !people.iter().any(Person::is_private);
        !self.me.is_empty() && comparable && !listed
    }
}

fn has(listed: &[Seen], id: &GroupId) -> bool {
    listed.iter().any(|seen| seen.id == *id)
}
