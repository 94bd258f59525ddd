//! What keeps an account safe: how much it may do, and when it had better do nothing.
//!
//! Three things make an operation wait. Its account has used up its bucket for that kind of
//! operation; WhatsApp has asked for patience with that kind; or the account was reported restricted,
//! and then all its operations wait. After a pause one operation goes ahead, and the others follow
//! when it is answered otherwise; after a restriction, when it succeeds or is refused.
//!
//! All of this is the process's own memory: with a session's commands in one queue that one worker
//! consumes at a time, that is where they all come by. Whoever gets a session's queue next begins
//! anew, and what was known of the session here is forgotten.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::config;
use crate::contract::{Command, SessionName};
use crate::engines::EngineError;
use crate::observability::events;

/// So many sessions with a bucket that is not full, and those that are full again are forgotten.
const MANY: usize = 1_024;

/// What an account's operations are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    CreateGroup,
    AddParticipants,
    Change,
    Read,
}

/// What has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    Account,
    Kind(Kind),
}

/// A pause, and how many came before it without a success between.
#[derive(Debug, Clone)]
struct Pause {
    until: Instant,
    earlier: u32,
    /// Over which its command came.
    queue: Option<Arc<str>>,
}

type Pauses = HashMap<(SessionName, Scope), Pause>;

/// The accounts that this process acts for.
#[derive(Debug)]
pub(super) struct Accounts {
    /// None where accounts are not limited.
    buckets: Option<[Bucket; 4]>,
    shortest: Duration,
    longest: Duration,
    // A std mutex: held for a map operation and never across an await.
    pauses: Mutex<Pauses>,
}

type Bucket = RateLimiter<SessionName, HashMapStateStore<SessionName>, RuntimeClock>;

/// The runtime's clock, which tests can move.
#[derive(Debug, Clone, Copy)]
struct RuntimeClock;

impl governor::clock::Clock for RuntimeClock {
    type Instant = std::time::Instant;

    fn now(&self) -> Self::Instant {
        Instant::now().into_std()
    }
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::CreateGroup,
        Self::AddParticipants,
        Self::Change,
        Self::Read,
    ];

    /// The bucket that a command takes from, and how much; none where it does nothing with the
    /// account.
    fn of(command: &Command) -> Option<(Self, NonZeroU32)> {
        Some(match command {
            Command::CreateGroup(_) => (Self::CreateGroup, NonZeroU32::MIN),
            Command::AddParticipants(add) => {
                let people = u32::try_from(add.participants.len()).unwrap_or(u32::MAX);
                let people = NonZeroU32::new(people).unwrap_or(NonZeroU32::MIN);
                (Self::AddParticipants, people)
            }
            Command::ListGroups(_)
            | Command::GetGroup(_)
            | Command::GetInfoAdminOnly(_)
            | Command::GetParticipants(_)
            | Command::GetInviteCode(_) => (Self::Read, NonZeroU32::MIN),
            Command::DeleteGroup(_)
            | Command::LeaveGroup(_)
            | Command::SetGroupSubject(_)
            | Command::SetGroupDescription(_)
            | Command::SetInfoAdminOnly(_)
            | Command::RemoveParticipants(_)
            | Command::PromoteAdmin(_)
            | Command::DemoteAdmin(_)
            | Command::RevokeInviteCode(_) => (Self::Change, NonZeroU32::MIN),
            Command::SetWebhook(_)
            | Command::RemoveWebhook(_)
            | Command::ListWebhooks(_)
            | Command::TestWebhook(_) => return None,
        })
    }

    /// As it stands in the configuration, and in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::CreateGroup => "create_group",
            Self::AddParticipants => "add_participants",
            Self::Change => "change",
            Self::Read => "read",
        }
    }

    const fn bucket(self, settings: &config::Safety) -> config::Bucket {
        match self {
            Self::CreateGroup => settings.create_group,
            Self::AddParticipants => settings.add_participants,
            Self::Change => settings.change,
            Self::Read => settings.read,
        }
    }
}

impl Accounts {
    pub(super) fn new(settings: &config::Safety, limited: bool) -> Self {
        let bucket = |kind: Kind| {
            let bucket = kind.bucket(settings);
            let quota = Quota::with_period(bucket.refill)
                .unwrap_or(Quota::per_second(bucket.burst))
                .allow_burst(bucket.burst);
            RateLimiter::hashmap_with_clock(quota, RuntimeClock)
        };
        Self {
            buckets: limited.then(|| Kind::ALL.map(bucket)),
            shortest: settings.pause_min,
            longest: settings.pause_max,
            pauses: Mutex::default(),
        }
    }

    /// Whether a command may go to the engine now.
    ///
    /// # Errors
    /// With how long it has to wait.
    pub(super) fn admit(
        &self,
        session: &SessionName,
        command: &Command,
    ) -> Result<(), EngineError> {
        let Some((kind, amount)) = Kind::of(command) else {
            return Ok(());
        };
        if let Some(wait) = self.paused(session, Scope::Account) {
            return Err(EngineError::NotReady {
                message: format!(
                    "the account of session {session} is restricted or banned by WhatsApp; look at \
                     the phone, then send the command again"
                ),
                after: Some(wait),
            });
        }
        if let Some(wait) = self.paused(session, Scope::Kind(kind)) {
            return Err(EngineError::RateLimited {
                message: format!(
                    "WhatsApp limits the request rate of session {session} for this operation"
                ),
                after: Some(wait),
            });
        }
        let Some(wait) = self.take(session, kind, amount) else {
            return Ok(());
        };
        events::account_limited(kind.as_str());
        Err(EngineError::RateLimited {
            message: format!(
                "session {session} has done as much of this as is safe for its account (safety.{})",
                kind.as_str()
            ),
            after: Some(wait),
        })
    }

    /// Takes note of what the engine said about a command that came over a queue.
    pub(super) fn learn<T>(
        &self,
        session: &SessionName,
        queue: Option<&str>,
        command: &Command,
        answer: &Result<T, EngineError>,
    ) {
        let Some((kind, _)) = Kind::of(command) else {
            return;
        };
        match answer {
            Ok(_) | Err(EngineError::Refused { .. }) => {
                self.resume(session, Scope::Kind(kind));
                if self.resume(session, Scope::Account) {
                    events::account_unrestricted(session.as_str());
                }
            }
            Err(EngineError::RateLimited { after, .. }) => {
                let pause = self.pause(session, queue, Scope::Kind(kind), *after);
                events::account_rate_limited(session.as_str(), kind.as_str(), pause);
            }
            Err(EngineError::Restricted { after, .. }) => {
                self.resume(session, Scope::Kind(kind));
                let pause = self.pause(session, queue, Scope::Account, *after);
                events::account_restricted(session.as_str(), pause);
            }
            // They tell nothing about the account; but whoever answers does not ask for patience.
            Err(
                error @ (EngineError::NotReady { .. }
                | EngineError::Unavailable { .. }
                | EngineError::Failing { .. }
                | EngineError::Internal { .. }
                | EngineError::NoAnswer { .. }),
            ) => {
                if error.is_answer() {
                    self.resume(session, Scope::Kind(kind));
                }
            }
        }
    }

    /// Forgets the sessions whose queues are not this worker's any more.
    pub(super) fn keep(&self, has: impl Fn(&str) -> bool) {
        let mut pauses = self.lock();
        pauses.retain(|_, pause| pause.queue.as_deref().is_none_or(&has));
        events::accounts_restricted(restricted(&pauses));
    }

    /// How much of a pause is left. Whoever finds it over goes ahead alone: until it is known what
    /// came of that, the others wait on.
    fn paused(&self, session: &SessionName, scope: Scope) -> Option<Duration> {
        let mut pauses = self.lock();
        if pauses.is_empty() {
            return None;
        }
        let pause = pauses.get_mut(&(session.clone(), scope))?;
        let left = pause.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            pause.until = Instant::now() + self.shortest;
            return None;
        }
        Some(left)
    }

    /// Begins a pause, or the next one; how long it is.
    fn pause(
        &self,
        session: &SessionName,
        queue: Option<&str>,
        scope: Scope,
        asked: Option<Duration>,
    ) -> Duration {
        let mut pauses = self.lock();
        let key = (session.clone(), scope);
        let earlier = pauses.get(&key).map_or(0, |pause| pause.earlier + 1);
        let grown = self
            .shortest
            .saturating_mul(2_u32.saturating_pow(earlier))
            .min(self.longest);
        let length = asked.unwrap_or(grown);
        let pause = Pause {
            until: Instant::now() + length,
            earlier,
            queue: queue.map(Arc::from),
        };
        pauses.insert(key, pause);
        events::accounts_restricted(restricted(&pauses));
        length
    }

    /// Ends a pause; whether there was one.
    fn resume(&self, session: &SessionName, scope: Scope) -> bool {
        let mut pauses = self.lock();
        if pauses.is_empty() || pauses.remove(&(session.clone(), scope)).is_none() {
            return false;
        }
        events::accounts_restricted(restricted(&pauses));
        true
    }

    /// Takes from the bucket, or says when there will be enough in it.
    fn take(&self, session: &SessionName, kind: Kind, amount: NonZeroU32) -> Option<Duration> {
        let bucket = self.buckets.as_ref()?.get(kind as usize)?;
        if bucket.len() > MANY {
            bucket.retain_recent();
        }
        // More than the bucket ever holds takes all of it.
        let taken = bucket
            .check_key_n(session, amount)
            .or_else(|all| bucket.check_key_n(session, NonZeroU32::new(all.0).unwrap_or(amount)));
        let denied = taken.ok()?.err()?;
        let now = governor::clock::Clock::now(&RuntimeClock);
        Some(denied.wait_time_from(now).max(Duration::from_millis(1)))
    }

    fn lock(&self) -> MutexGuard<'_, Pauses> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many accounts are restricted.
fn restricted(pauses: &Pauses) -> usize {
    let restricted = |(_, scope): &&(SessionName, Scope)| *scope == Scope::Account;
    pauses.keys().filter(restricted).count()
}

#[cfg(test)]
mod tests;
