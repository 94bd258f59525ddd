//! What is known of all groups, in the store: reports go in, events come out, in one transaction.
//!
//! `known` says what follows from a report; `ops` publishes it.

mod expected_changes;
mod refresh_queue;
mod reload_limit;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::{GroupKey, GroupState, Lag, MemberStatus, Observation, Report, SessionState, Source};
use crate::clock::Clock;
use crate::contract::{GroupId, ParticipantId, SessionName, Timestamp};
use crate::engines::waha::phone_directory::PhoneDirectory;
use crate::engines::waha::wire::Person;
use crate::store::Error;
use crate::store::known_groups::{KnownGroups, KnownKey, Notification};

/// The book; clones share it.
#[derive(Debug, Clone)]
pub(in crate::engines::waha) struct StateStore {
    groups: KnownGroups,
    clock: Arc<dyn Clock>,
    phone_directory: PhoneDirectory,
    lag: Lag,
    refresh_queue: Arc<RefreshQueue>,
    /// Groups whose notifications wait for a look.
    // A std mutex: held for a set operation and never across an await.
    waiting: Arc<Mutex<BTreeSet<KnownKey>>>,
    /// When groups were asked for anew; milliseconds.
    // A std mutex: held for map operations and never across an await.
    refreshed: Arc<Mutex<BTreeMap<SessionName, i64>>>,
}

/// So many groups wait to be looked at, at most; the others are looked at with all groups.
const MAX_REFRESHES: usize = 10_000;

/// Groups that had better be looked at, and sessions.
#[derive(Debug, Default)]
struct RefreshQueue {
    /// And when, in milliseconds.
    // A std mutex: held for map operations and never across an await.
    open: Mutex<BTreeMap<KnownKey, i64>>,
    news: Notify,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines::waha) enum Applied {
    /// So many events follow from it; none where all was known.
    Events(usize),
    /// It is older than what is known.
    Outdated,
    /// It came before.
    Duplicate,
    /// It waits until the group has been looked at.
    Held,
}

impl StateStore {
    pub(in crate::engines::waha) fn new(
        groups: KnownGroups,
        clock: Arc<dyn Clock>,
        phone_directory: PhoneDirectory,
        lag: Lag,
    ) -> Self {
        Self {
            groups,
            clock,
            phone_directory,
            lag,
            refresh_queue: Arc::default(),
            waiting: Arc::default(),
            refreshed: Arc::default(),
        }
    }

    /// Now, in milliseconds.
    pub(in crate::engines::waha) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Takes in a report about a group; one with a notification's id is taken in once.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(in crate::engines::waha) async fn apply(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: Option<String>,
        mut report: Report,
    ) -> Result<Applied, Error> {
        self.name(&mut report);
        let lag = self.lag;
        let (own, key) = keys(session, group);
        let notification = Notification {
            id,
            at: Timestamp(self.clock.now()),
            rows: vec![own.clone(), key.clone()],
        };
        let (session, group) = (session.clone(), group.clone());
        let key_to_refresh = key.clone();
        let taken = self.groups.take(notification, move |rows| {
            let mut known: GroupState = rows.get(&key)?.unwrap_or_default();
            let mut about: SessionState = rows.get(&own)?.unwrap_or_default();
            let group_key = GroupKey {
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
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waits {
            waiting.insert(key.clone());
        } else {
            waiting.remove(key);
        }
    }

    /// The groups whose notifications wait for a look, as far as they came to this worker.
    pub(in crate::engines::waha) fn groups_with_held(&self) -> Vec<KnownKey> {
        let waiting = self.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.iter().cloned().collect()
    }

    /// Adds the ids that people are known by, wherever they are told by one alone.
    fn name(&self, report: &mut Report) {
        for observation in &mut report.observations {
            match observation {
                Observation::MembersJoined(people, _)
                | Observation::MembersLeft(people, _)
                | Observation::Promoted(people)
                | Observation::Demoted(people) => {
                    self.phone_directory.complete(people);
                }
                Observation::OwnJoined(group)
                | Observation::Updated(group)
                | Observation::Snapshot(group) => {
                    let people = group.people.as_deref_mut().unwrap_or_default();
                    let is_complete = self.phone_directory.complete(people);
                    // A look asks WAHA for their phones; the join waits for it.
                    if !is_complete && matches!(report.source, Source::Notification(_)) {
                        group.people = None;
                    }
                }
                Observation::OwnLeft(_)
                | Observation::InviteChanged(_)
                | Observation::InviteShown(_)
                | Observation::Missing => {}
            }
        }
        if let Some(author) = &mut report.author {
            self.phone_directory.complete(std::slice::from_mut(author));
        }
    }

    /// Whether the account is in a group, as far as is known; none where nothing is.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn is_inside(
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

    /// The groups that a session's account is known to be in, and that nothing was heard of since.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn groups_inside(
        &self,
        session: &SessionName,
        since: i64,
    ) -> Result<Vec<GroupId>, Error> {
        let mut inside = Vec::new();
        for group in self.groups.of(session).await? {
            let still =
                move |known: GroupState| known.is_inside() && !known.own_change_since(since);
            if self.read(session, Some(&group), still).await? {
                inside.push(group);
            }
        }
        Ok(inside)
    }

    /// The members of a group of whom the phone alone is known, and who are not among these people.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn members_without_lid(
        &self,
        session: &SessionName,
        group: &GroupId,
        people: Vec<Person>,
    ) -> Result<Vec<ParticipantId>, Error> {
        let unpaired = move |known: GroupState| known.members_without_lid(&people);
        self.read(session, Some(group), unpaired).await
    }

    /// What was heard last of a person in a group, by whichever id; none where nothing was. An answer
    /// that contradicts what was told since the request was begun is not to be believed over it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn member_status(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: &ParticipantId,
    ) -> Result<Option<MemberStatus>, Error> {
        let ids = self.phone_directory.ids_of(id);
        let person = move |known: GroupState| known.member_status(&ids);
        self.read(session, Some(group), person).await
    }

    pub(in crate::engines::waha) async fn read<S, T>(
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
        let read = self.groups.take(notification, move |rows| {
            Ok(ask(rows.get(&key)?.unwrap_or_default()))
        });
        Ok(read.await?.unwrap_or_default())
    }

    pub(in crate::engines::waha) async fn update<T: Send + Default + 'static>(
        &self,
        key: KnownKey,
        step: impl Fn(&mut crate::store::known_groups::StateRows<'_>, &KnownKey) -> Result<T, Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let notification = self.notification(key.clone());
        let changed = self.groups.take(notification, move |rows| step(rows, &key));
        changed.await.map(Option::unwrap_or_default)
    }

    fn notification(&self, key: KnownKey) -> Notification {
        Notification {
            id: None,
            at: Timestamp(self.clock.now()),
            rows: vec![key],
        }
    }

    /// Forgets notifications that came before a time.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(in crate::engines::waha) async fn forget(&self, before: Timestamp) -> Result<(), Error> {
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

/// People by their ids alone.
pub(in crate::engines::waha) fn people(
    ids: impl IntoIterator<Item = ParticipantId>,
) -> Vec<Person> {
    ids.into_iter()
        .map(|id| Person {
            id,
            lid: None,
            role: crate::contract::Role::Participant,
        })
        .collect()
}
