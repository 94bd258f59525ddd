//! Reads groups for a command. WAHA's data may be older than the state: NOWEB's store learns of a new
//! group late, or never if the notification is lost. So a group of which the account is known to be a
//! member is reloaded from WhatsApp and read again before it is reported as missing.

use std::time::Duration;

use super::{Operation, group_not_found, not_a_member};
use crate::contract::GroupId;
use crate::engines::EngineError;
use crate::engines::sync::{GroupSnapshot, Person};
use crate::engines::waha::client::{ApiFailure, ApiRequest, within};
use crate::engines::waha::error::FailureCause;
use crate::engines::waha::wire::{self, Body};
use crate::outbound::Method;
use crate::store::known_groups::KnownKey;

/// The delays before a missing group is read again.
const AGAIN: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(1),
];

impl Operation<'_> {
    /// Reads a group, with phones as far as WAHA knows them.
    ///
    /// # Errors
    /// When there is no such group, or the account is not in it.
    pub(in crate::engines::waha) async fn read_group(
        &self,
        id: &GroupId,
    ) -> Result<GroupSnapshot, EngineError> {
        if let Some(snapshot) = self.fetch_group(id).await? {
            return self.check_usable(snapshot).await;
        }
        // An unknown group is reported as missing.
        let known = self.state_store.is_inside(self.caller.session, id).await;
        match known.unwrap_or_default() {
            None => return Err(group_not_found()),
            Some(false) => return Err(not_a_member()),
            Some(true) => {}
        }
        for wait in AGAIN {
            tokio::time::sleep(wait).await;
            self.reload_groups_limited().await;
            if let Some(snapshot) = self.fetch_group(id).await? {
                return self.check_usable(snapshot).await;
            }
        }
        // A comparison finds out whether the account has left it.
        self.state_store.request_refresh(KnownKey {
            session: self.caller.session.clone(),
            group: None,
        });
        Err(EngineError::Unavailable {
            message:
                "WAHA does not show the group, though the session's account is known to be in it"
                    .to_owned(),
            source: None,
        })
    }

    /// Requests a group once. None: WAHA's own list does not contain it, or the answer is empty.
    ///
    /// # Errors
    /// As [`Operation::read_group`]; in that case WhatsApp itself was asked.
    pub(in crate::engines::waha) async fn fetch_group(
        &self,
        id: &GroupId,
    ) -> Result<Option<GroupSnapshot>, EngineError> {
        let failure = match self
            .client
            .groups(self.caller, ApiRequest::get(within(id, "")))
            .await
        {
            // WEBJS returns an empty answer if there is no such chat.
            Ok(body) => return Ok(wire::group(body.json()).filter(|snapshot| snapshot.id == *id)),
            Err(failure) => failure,
        };
        match failure.cause.whatsapp() {
            // WhatsApp forbids reading only to accounts that are not in the group.
            Some(401 | 403) => Err(not_a_member()),
            Some(404) if failure.cause.is_of_a_list() => Ok(None),
            Some(404) => {
                let known = self.state_store.is_inside(self.caller.session, id).await;
                Err(match known {
                    Ok(Some(false)) => not_a_member(),
                    _ => group_not_found(),
                })
            }
            _ => Err(failure.into_engine_error()),
        }
    }

    /// Refuses a command about a group of which the account is known to be no member any more, unless
    /// WAHA shows it as one: WAHA answers some requests about such a group with what it has kept.
    ///
    /// # Errors
    /// As [`Operation::read_group`].
    pub(super) async fn check_still_inside(&self, id: &GroupId) -> Result<(), EngineError> {
        let inside = self.state_store.is_inside(self.caller.session, id).await;
        if matches!(inside, Ok(Some(false))) {
            self.read_group(id).await?;
        }
        Ok(())
    }

    /// Checks that the group is usable, and completes its members' ids.
    async fn check_usable(
        &self,
        mut snapshot: GroupSnapshot,
    ) -> Result<GroupSnapshot, EngineError> {
        if snapshot.is_stub() {
            // It may stay so for hours, and the group's other commands would wait as long.
            return Err(EngineError::Failing {
                message: "WAHA lists the group but has not loaded its members yet".to_owned(),
                is_open: false,
            });
        }
        let id = &snapshot.id;
        if let Some(people) = &mut snapshot.people {
            self.phone_directory
                .resolve(self.client, self.caller, id, people)
                .await;
        }
        if self.excludes_own_account(&snapshot) {
            return Err(not_a_member());
        }
        Ok(snapshot)
    }

    /// All groups in WAHA's list. The list is requested again if a group is missing that a command
    /// created a while ago.
    pub(super) async fn list_groups(&self) -> Result<Vec<GroupSnapshot>, EngineError> {
        let mut listed = self.fetch_list().await?;
        let made = self
            .state_store
            .created_groups(self.caller.session)
            .await
            .unwrap_or_default();
        let mut missing = Vec::new();
        for id in made.iter().filter(|id| !has(&listed, id)) {
            let inside = self.state_store.is_inside(self.caller.session, id).await;
            if matches!(inside, Ok(Some(true))) {
                missing.push(id);
            }
        }
        for wait in AGAIN {
            if missing.iter().all(|id| has(&listed, id)) {
                break;
            }
            tokio::time::sleep(wait).await;
            self.reload_groups_limited().await;
            listed = self.fetch_list().await?;
        }
        Ok(listed)
    }

    async fn fetch_list(&self) -> Result<Vec<GroupSnapshot>, EngineError> {
        let body = self
            .client
            .groups(self.caller, ApiRequest::get(String::new()))
            .await?;
        wire::groups(body.json()).ok_or_else(|| self.unreadable("no list of groups"))
    }

    /// Makes WAHA reload all groups from WhatsApp: NOWEB returns what it has in memory. True if the
    /// data is as new as possible; a WAHA without this request returns current data.
    pub(in crate::engines::waha) async fn reload_groups(&self) -> bool {
        match self.request_reload().await {
            Ok(_) => true,
            Err(failure) => matches!(failure.cause, FailureCause::NotImplemented),
        }
    }

    pub(super) async fn request_reload(&self) -> Result<Body, ApiFailure> {
        let ask = ApiRequest::change(Method::POST, "/refresh".to_owned(), None);
        self.client.groups(self.caller, ask).await
    }

    /// As [`Operation::reload_groups`], but not twice in a short time for one session: WhatsApp limits
    /// it.
    pub(super) async fn reload_groups_limited(&self) {
        if self
            .reload_limit
            .may_reload(self.caller.session, self.state_store.now())
        {
            self.reload_groups().await;
        }
    }

    /// Whether the account is certainly not among a group's members: WEBJS still shows groups that
    /// were left.
    pub(in crate::engines::waha) fn excludes_own_account(&self, snapshot: &GroupSnapshot) -> bool {
        let Some(people) = snapshot.people.as_ref().filter(|people| !people.is_empty()) else {
            return false;
        };
        let listed = people.iter().any(|it| self.me.iter().any(|me| it.is(me)));
        // If all members are listed by private ids and the own one is unknown, it cannot be
        // determined.
        let comparable = self.me.len() > 1 || !people.iter().any(Person::is_private);
        !self.me.is_empty() && comparable && !listed
    }
}

fn has(listed: &[GroupSnapshot], id: &GroupId) -> bool {
    listed.iter().any(|snapshot| snapshot.id == *id)
}
