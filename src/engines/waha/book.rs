//! What is known of all groups, in the store: reports go in, events come out, in one transaction.
//!
//! `known` says what follows from a report; `ops` publishes it.

mod own;
mod refreshes;
mod sessions;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::known::{Claim, Known, KnownSession, Lag, Place, Report, Source, Standing};
use super::lids::Lids;
use super::wire::Person;
use crate::clock::Clock;
use crate::contract::{GroupId, ParticipantId, SessionName, Timestamp};
use crate::store::Error;
use crate::store::known_groups::{KnownGroups, KnownKey, Notification};

/// The book; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Book {
    groups: KnownGroups,
    clock: Arc<dyn Clock>,
    lids: Lids,
    lag: Lag,
    wishes: Arc<Wishes>,
    /// Groups whose notifications wait for a look.
    // A std mutex: held for a set operation and never across an await.
    waiting: Arc<Mutex<BTreeSet<KnownKey>>>,
    /// When groups were asked for anew; milliseconds.
    // A std mutex: held for map operations and never across an await.
    refreshed: Arc<Mutex<BTreeMap<SessionName, i64>>>,
}

/// So many groups wait to be looked at, at most; the others are looked at with all groups.
const WISHES: usize = 10_000;

/// Groups that had better be looked at, and sessions.
#[derive(Debug, Default)]
struct Wishes {
    /// And when, in milliseconds.
    // A std mutex: held for map operations and never across an await.
    open: Mutex<BTreeMap<KnownKey, i64>>,
    news: Notify,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// So many events follow from it; none where all was known.
    Told(usize),
    /// It is older than what is known.
    Outdated,
    /// It came before.
    Again,
    /// It waits until the group has been looked at.
    Held,
}

impl Book {
    pub(super) fn new(groups: KnownGroups, clock: Arc<dyn Clock>, lids: Lids, lag: Lag) -> Self {
        Self {
            groups,
            clock,
            lids,
            lag,
            wishes: Arc::default(),
            waiting: Arc::default(),
            refreshed: Arc::default(),
        }
    }

    /// Now, in milliseconds.
    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    /// Takes in a report about a group; one with a notification's id is taken in once.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(super) async fn hear(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: Option<String>,
        mut report: Report,
    ) -> Result<Heard, Error> {
        self.name(&mut report);
        let lag = self.lag;
        let (own, key) = keys(session, group);
        let notification = Notification {
            id,
            at: Timestamp(self.clock.now()),
            rows: vec![own.clone(), key.clone()],
        };
        let (session, group) = (session.clone(), group.clone());
        let wish = key.clone();
        let taken = self.groups.take(notification, move |rows| {
            let mut known: Known = rows.get(&key)?.unwrap_or_default();
            let mut about: KnownSession = rows.get(&own)?.unwrap_or_default();
            let place = Place {
                session: &session,
                group: &group,
            };
            let follows = known.hear(place, &mut about, &report, lag);
            for event in &follows.events {
                rows.tell(event, &report.trace)?;
            }
            rows.put(&key, &known)?;
            rows.put(&own, &about)?;
            Ok((follows, known.has_held()))
        });
        Ok(match taken.await? {
            None => Heard::Again,
            Some((follows, waits)) => {
                self.note_waiting(&wish, waits);
                if let Some(due) = follows.look_at {
                    self.wish_at(wish, due);
                }
                let told = follows.events.len();
                if follows.held {
                    Heard::Held
                } else if told == 0 && follows.outdated {
                    Heard::Outdated
                } else {
                    Heard::Told(told)
                }
            }
        })
    }

    fn note_waiting(&self, key: &KnownKey, waits: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waits {
            waiting.insert(key.clone());
        } else {
            waiting.remove(key);
        }
    }

    /// The groups whose notifications wait for a look, as far as they came to this worker.
    pub(super) fn waiting(&self) -> Vec<KnownKey> {
        let waiting = self.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        waiting.iter().cloned().collect()
    }

    /// Adds the ids that people are known by, wherever they are told by one alone.
    fn name(&self, report: &mut Report) {
        for claim in &mut report.claims {
            match claim {
                Claim::Came(people, _)
                | Claim::Went(people, _)
                | Claim::Promoted(people)
                | Claim::Demoted(people) => {
                    self.lids.complete(people);
                }
                Claim::Joined(group) | Claim::Updated(group) | Claim::Compared(group) => {
                    let people = group.people.as_deref_mut().unwrap_or_default();
                    let is_complete = self.lids.complete(people);
                    // A look asks WAHA for their phones; the join waits for it.
                    if !is_complete && matches!(report.source, Source::Notification(_)) {
                        group.people = None;
                    }
                }
                Claim::Left(_) | Claim::Invite(_) | Claim::InviteShown(_) | Claim::Missing => {}
            }
        }
        if let Some(author) = &mut report.author {
            self.lids.complete(std::slice::from_mut(author));
        }
    }

    /// Whether the account is in a group, as far as is known; none where nothing is.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn is_inside(
        &self,
        session: &SessionName,
        group: &GroupId,
    ) -> Result<Option<bool>, Error> {
        let inside = |known: Known| match (known.is_inside(), known.was_inside()) {
            (false, false) => None,
            (inside, _) => Some(inside),
        };
        self.read(session, Some(group), inside).await
    }

    /// The groups that a session's account is known to be in, and that nothing was heard of since.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn inside(
        &self,
        session: &SessionName,
        since: i64,
    ) -> Result<Vec<GroupId>, Error> {
        let mut inside = Vec::new();
        for group in self.groups.of(session).await? {
            let still = move |known: Known| known.is_inside() && !known.moved_since(since);
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
    pub(super) async fn unpaired(
        &self,
        session: &SessionName,
        group: &GroupId,
        people: Vec<Person>,
    ) -> Result<Vec<ParticipantId>, Error> {
        let unpaired = move |known: Known| known.unpaired(&people);
        self.read(session, Some(group), unpaired).await
    }

    /// What was heard last of a person in a group, by whichever id; none where nothing was. An answer
    /// that contradicts what was told since the request was begun is not to be believed over it.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn person(
        &self,
        session: &SessionName,
        group: &GroupId,
        id: &ParticipantId,
    ) -> Result<Option<Standing>, Error> {
        let ids = self.lids.ids_of(id);
        let person = move |known: Known| known.person(&ids);
        self.read(session, Some(group), person).await
    }

    pub(super) async fn read<S, T>(
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

    pub(super) async fn change<T: Send + Default + 'static>(
        &self,
        key: KnownKey,
        step: impl Fn(&mut crate::store::known_groups::Known<'_>, &KnownKey) -> Result<T, Error>
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
    pub(super) async fn forget(&self, before: Timestamp) -> Result<(), Error> {
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
pub(super) fn people(ids: impl IntoIterator<Item = ParticipantId>) -> Vec<Person> {
    ids.into_iter()
        .map(|id| Person {
            id,
            lid: None,
            role: crate::contract::Role::Participant,
        })
        .collect()
}
