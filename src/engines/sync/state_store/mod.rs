//! Stores the state of all groups: applies reports and stores the resulting events in one transaction.
//!
//! The reducer computes the effects of a report; `ops` publishes the events.

mod expected_changes;
mod refresh_queue;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{GroupKey, GroupState, Lag, MemberStatus, Observation, Report, SessionState, Source};
use crate::clock::Clock;
use crate::contract::{CommandId, EngineName, GroupId, ParticipantId, SessionName, Timestamp};
use crate::engines::sync::Person;
use crate::engines::sync::PhoneDirectory;
use crate::store::Error;
use crate::store::known_groups::{KnownGroups, KnownKey, Notification};

/// The state store; clones share it.
#[derive(Debug, Clone)]
pub(in crate::engines) struct StateStore {
    engine: EngineName,
    groups: KnownGroups,
    clock: Arc<dyn Clock>,
    phone_directory: PhoneDirectory,
    lag: Lag,
    refresh_queue: Arc<RefreshQueue>,
    /// Groups with held notifications.
    // A std mutex: held for a set operation and never across an await.
    waiting: Arc<Mutex<BTreeSet<KnownKey>>>,
}

/// The maximum number of queued groups; others are read with the comparison of all groups.
const MAX_REFRESHES: usize = 10_000;

/// Groups and sessions to be read again.
#[derive(Debug, Default)]
struct RefreshQueue {
    /// With the due times, in milliseconds.
    // A std mutex: held for map operations and never across an await.
    open: Mutex<BTreeMap<KnownKey, i64>>,
    news: Notify,
}

/// The outcome of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines) enum Applied {
    /// The number of resulting events; zero if nothing changed.
    Events(usize),
    /// It is older than the state.
    Outdated,
    /// A notification with the same id was applied before.
    Duplicate,
    /// It is held until the group has been read.
    Held,
}

impl StateStore {
    pub(in crate::engines) fn new(
        engine: EngineName,
        groups: KnownGroups,
        clock: Arc<dyn Clock>,
        phone_directory: PhoneDirectory,
        lag: Lag,
    ) -> Self {
        Self {
            engine,
            groups,
            clock,
            phone_directory,
            lag,
            refresh_queue: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// Now, in milliseconds.
    pub(in crate::engines) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Applies a report about a group; a notification is applied once by its id.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn apply(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: Option<String>,
        mut report: Report,
    ) -> Result<Applied, Error> {
        self.name(&mut report);
        let (lag, engine) = (self.lag, self.engine);
        let (own, key) = keys(session, group);
        let notification = Notification {
            id,
            at: Timestamp(self.clock.now()),
            rows: vec![own.clone(), key.clone()],
        };
        let (session, group) = (session.clone(), group.clone());
        let key_to_refresh = key.clone();
        let taken = self.groups.apply(notification, move |rows| {
            let mut known: GroupState = rows.get(&key)?.unwrap_or_default();
            let mut about: SessionState = rows.get(&own)?.unwrap_or_default();
            let group_key = GroupKey {
                engine,
                session: &session,
                group: &group,
            };
            let effects = known.apply(group_key, &mut about, &report, lag);
            for event in &effects.events {
                rows.publish(event, &report.trace)?;
            }
            rows.put(&key, &known)?;
            rows.put(&own, &about)?;
            Ok((effects, known.has_held()))
        });
        Ok(match taken.await? {
            None => Applied::Duplicate,
            Some((effects, waits)) => {
                self.track_held(&key_to_refresh, waits);
                if let Some(due) = effects.refresh_at {
                    self.request_refresh_at(key_to_refresh, due);
                }
                let events = effects.events.len();
                if effects.held {
                    Applied::Held
                } else if events == 0 && effects.outdated {
                    Applied::Outdated
                } else {
                    Applied::Events(events)
                }
            }
        })
    }

    fn track_held(&self, key: &KnownKey, waits: bool) {
        let mut waiting = self.waiting.lock();
        if waits {
            waiting.insert(key.clone());
        } else {
            waiting.remove(key);
        }
    }

    /// The groups with held notifications that this worker received.
    pub(in crate::engines) fn groups_with_held(&self) -> Vec<KnownKey> {
        let waiting = self.waiting.lock();
        waiting.iter().cloned().collect()
    }

    /// Adds people's missing ids if they are known.
    fn name(&self, report: &mut Report) {
        for observation in &mut report.observations {
            match observation {
                Observation::MembersJoined(people, _)
                | Observation::MembersLeft(people, _)
                | Observation::Promoted(people)
                | Observation::Demoted(people)
                | Observation::JoinRequests { people, .. } => {
                    self.phone_directory.complete(people);
                }
                Observation::OwnJoined(group)
                | Observation::Updated(group)
                | Observation::Snapshot(group) => {
                    let people = group.people.as_deref_mut().unwrap_or_default();
                    let is_complete = self.phone_directory.complete(people);
                    // A snapshot looks up their phones; the join waits for it.
                    if !is_complete && matches!(report.source, Source::Notification(_)) {
                        group.people = None;
                    }
                }
                Observation::OwnLeft(_)
                | Observation::PictureChanged(_)
                | Observation::InviteChanged(_)
                | Observation::InviteShown(_)
                | Observation::Missing => {}
            }
        }
        if let Some(author) = &mut report.author {
            self.phone_directory.complete(std::slice::from_mut(author));
        }
    }

    /// Whether the account is a member of a group; none if nothing is known.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn is_inside(
        &self,
        session: &SessionName,
        group: &GroupId,
    ) -> Result<Option<bool>, Error> {
        let inside = |known: GroupState| match (known.is_inside(), known.was_inside()) {
            (false, false) => None,
            (inside, _) => Some(inside),
        };
        self.read(session, Some(group), inside).await
    }

    /// Whether a command of ours is recorded as about to change a group.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn is_pending(
        &self,
        session: &SessionName,
        group: &GroupId,
        command: &CommandId,
    ) -> Result<bool, Error> {
        let command = command.clone();
        let pending = move |known: GroupState| known.is_pending(&command);
        self.read(session, Some(group), pending).await
    }

    /// The groups of which a session's account is a member, without own changes since then.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn groups_inside(
        &self,
        session: &SessionName,
        since: i64,
    ) -> Result<Vec<GroupId>, Error> {
        let mut inside = Vec::new();
        for group in self.groups.of_session(session).await? {
            let still =
                move |known: GroupState| known.is_inside() && !known.own_change_since(since);
            if self.read(session, Some(&group), still).await? {
                inside.push(group);
            }
        }
        Ok(inside)
    }

    /// The members of a group of whom only the phone is known, and who are not among these people.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn members_without_lid(
        &self,
        session: &SessionName,
        group: &GroupId,
        people: Vec<Person>,
    ) -> Result<Vec<ParticipantId>, Error> {
        let unpaired = move |known: GroupState| known.members_without_lid(&people);
        self.read(session, Some(group), unpaired).await
    }

    /// The newest observation of a person in a group, by any id. If it is newer than a request, it
    /// takes precedence over the request's answer.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn member_status(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: &ParticipantId,
    ) -> Result<Option<MemberStatus>, Error> {
        let ids = self.phone_directory.ids_of(id);
        let person = move |known: GroupState| known.member_status(&ids);
        self.read(session, Some(group), person).await
    }

    pub(in crate::engines) async fn read<S, T>(
        &self,
        session: &SessionName,
        group: Option<&GroupId>,
        ask: impl Fn(S) -> T + Send + 'static,
    ) -> Result<T, Error>
    where
        S: serde::de::DeserializeOwned + Default,
        T: Send + Default + 'static,
    {
        let key = KnownKey {
            session: session.clone(),
            group: group.cloned(),
        };
        let notification = self.notification(key.clone());
        let read = self.groups.apply(notification, move |rows| {
            Ok(ask(rows.get(&key)?.unwrap_or_default()))
        });
        Ok(read.await?.unwrap_or_default())
    }

    pub(in crate::engines) async fn update<T: Send + Default + 'static>(
        &self,
        key: KnownKey,
        step: impl Fn(&mut crate::store::known_groups::StateRows<'_>, &KnownKey) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let notification = self.notification(key.clone());
        let changed = self
            .groups
            .apply(notification, move |rows| step(rows, &key));
        changed.await.map(Option::unwrap_or_default)
    }

    fn notification(&self, key: KnownKey) -> Notification {
        Notification {
            id: None,
            at: Timestamp(self.clock.now()),
            rows: vec![key],
        }
    }

    /// Deletes the ids of notifications received before a time.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn forget(&self, before: Timestamp) -> Result<(), Error> {
        self.groups.forget(before).await
    }
}

fn keys(session: &SessionName, group: &GroupId) -> (KnownKey, KnownKey) {
    let key = |group: Option<&GroupId>| KnownKey {
        session: session.clone(),
        group: group.cloned(),
    };
    (key(None), key(Some(group)))
}

/// People with one id each.
pub(in crate::engines) fn people(ids: impl IntoIterator<Item = ParticipantId>) -> Vec<Person> {
    ids.into_iter()
        .map(|id| Person {
            id,
            lid: None,
            role: crate::contract::Role::Participant,
        })
        .collect()
}
