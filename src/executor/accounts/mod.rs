//! The safety limits of an account: how many operations it may do, and when it is paused.
//!
//! An operation is deferred for one of three reasons. Its account has used up its bucket for that kind of
//! operation; WhatsApp has rate-limited that kind; or the account was reported restricted, which defers all
//! its operations. After a pause one operation is tried, and the others follow when it is answered without
//! a rate limit; after a restriction, when it succeeds or is refused.
//!
//! The limits are kept in the memory of the process: a session's commands are in one queue that one worker
//! consumes at a time, so all of them are counted there. The next worker of a session's queue starts with
//! full buckets, and this one forgets the session.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config;
use crate::contract::{Command, CommandType, SessionName};
use crate::engines::EngineError;
use crate::observability::events;

/// With more sessions than this, those whose bucket is full again are forgotten: each time their number has
/// doubled, since that looks at all of them.
const MANY: usize = 1_024;

/// The kind of an operation, each with its own bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    CreateGroup,
    AddParticipants,
    Change,
    Read,
}

/// The most people that one command adds, however large the bucket is.
const MOST_ADDED: usize = 256;

/// What a command takes from a bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    kind: Kind,
    amount: NonZeroU32,
}

impl Cost {
    /// The cost of a command that names so many people; none if it does nothing with the account.
    pub(super) fn of(command: CommandType, people: usize) -> Option<Self> {
        let kind = Kind::of(command)?;
        let amount = match kind {
            Kind::AddParticipants => u32::try_from(people).unwrap_or(u32::MAX),
            _ => 1,
        };
        let amount = NonZeroU32::new(amount).unwrap_or(NonZeroU32::MIN);
        Some(Self { kind, amount })
    }

    fn of_command(command: &Command) -> Option<Self> {
        let people = match command {
            Command::AddParticipants(add) => add.participants.len(),
            _ => 0,
        };
        Self::of(command.command_type(), people)
    }
}

/// What a pause applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    Account,
    Kind(Kind),
}

/// A pause, and the number of consecutive pauses before it without a success.
#[derive(Debug, Clone)]
struct Pause {
    until: Instant,
    earlier: u32,
    /// The queue of the command that caused it.
    queue: Option<Arc<str>>,
}

type Pauses = HashMap<(SessionName, Scope), Pause>;

/// The accounts that this process acts for.
#[derive(Debug)]
pub(super) struct Accounts {
    /// None if accounts are not limited.
    buckets: Option<[Bucket; 4]>,
    settings: config::Safety,
    shortest: Duration,
    longest: Duration,
    // A std mutex: held for a map operation and never across an await.
    pauses: Mutex<Pauses>,
}

/// The buckets of one kind of operation, of all sessions.
#[derive(Debug)]
struct Bucket {
    sessions: RateLimiter<SessionName, HashMapStateStore<SessionName>, RuntimeClock>,
    /// With more sessions than this, some may be forgotten.
    most: AtomicUsize,
}

impl Bucket {
    fn new(quota: Quota) -> Self {
        Self {
            sessions: RateLimiter::hashmap_with_clock(quota, RuntimeClock),
            most: AtomicUsize::new(MANY),
        }
    }

    /// Forgets the sessions whose bucket is full again, if there are many more than after the last time.
    fn forget_some(&self) {
        if self.sessions.len() > self.most.load(Ordering::Relaxed) {
            self.sessions.retain_recent();
            let most = self.sessions.len().saturating_mul(2).max(MANY);
            self.most.store(most, Ordering::Relaxed);
        }
    }
}

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

    /// The bucket that a command takes from; none if it does nothing with the account.
    const fn of(command: CommandType) -> Option<Self> {
        Some(match command {
            CommandType::CreateGroup => Self::CreateGroup,
            CommandType::AddParticipants => Self::AddParticipants,
            CommandType::ListGroups
            | CommandType::CountGroups
            | CommandType::RefreshGroups
            | CommandType::GetGroup
            | CommandType::GetGroupPicture
            | CommandType::GetInfoAdminOnly
            | CommandType::GetMessagesAdminOnly
            | CommandType::GetMemberAddMode
            | CommandType::GetMembershipApproval
            | CommandType::GetMemberShareHistory
            | CommandType::GetParticipants
            | CommandType::GetInviteCode
            | CommandType::GetJoinInfo
            | CommandType::ListJoinRequests
            | CommandType::ListLids
            | CommandType::CountLids
            | CommandType::GetPhoneByLid
            | CommandType::GetLidByPhone => Self::Read,
            CommandType::DeleteGroup
            | CommandType::LeaveGroup
            | CommandType::SetGroupSubject
            | CommandType::SetGroupDescription
            | CommandType::SetGroupPicture
            | CommandType::DeleteGroupPicture
            | CommandType::SetInfoAdminOnly
            | CommandType::SetMessagesAdminOnly
            | CommandType::SetMemberAddMode
            | CommandType::SetMembershipApproval
            | CommandType::SetMemberShareHistory
            | CommandType::SetDisappearingMessages
            | CommandType::RemoveParticipants
            | CommandType::PromoteAdmin
            | CommandType::DemoteAdmin
            | CommandType::RevokeInviteCode
            | CommandType::JoinGroup
            | CommandType::ApproveJoinRequests
            | CommandType::RejectJoinRequests => Self::Change,
            // Each of its parts takes from a bucket of its own.
            CommandType::EnsureGroup
            | CommandType::SetWebhook
            | CommandType::RemoveWebhook
            | CommandType::ListWebhooks
            | CommandType::TestWebhook => return None,
        })
    }

    /// The name in the configuration and in metrics.
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
            Bucket::new(quota)
        };
        Self {
            buckets: limited.then(|| Kind::ALL.map(bucket)),
            settings: *settings,
            shortest: settings.pause_min,
            longest: settings.pause_max,
            pauses: Mutex::default(),
        }
    }

    /// Whether a command may go to the engine now.
    ///
    /// # Errors
    /// With the time that it has to wait.
    pub(super) fn admit(
        &self,
        session: &SessionName,
        command: &Command,
    ) -> Result<(), EngineError> {
        let Some(Cost { kind, amount }) = Cost::of_command(command) else {
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

    /// The most people that are added at once: what the bucket holds.
    pub(super) fn most_added(&self) -> usize {
        let most = self
            .buckets
            .as_ref()
            .map(|_| self.settings.add_participants.burst.get());
        most.map_or(MOST_ADDED, |most| {
            usize::try_from(most).unwrap_or(MOST_ADDED).min(MOST_ADDED)
        })
    }

    /// How long commands of these costs wait for their buckets, if those are full now.
    pub(super) fn time_for(&self, costs: &[Cost]) -> Duration {
        if self.buckets.is_none() {
            return Duration::ZERO;
        }
        let of_kind = |kind: Kind| {
            let all = costs.iter().filter(|cost| cost.kind == kind);
            let amount: u32 = all.map(|cost| cost.amount.get()).sum();
            let bucket = kind.bucket(&self.settings);
            bucket.refill * amount.saturating_sub(bucket.burst.get())
        };
        Kind::ALL.map(of_kind).into_iter().max().unwrap_or_default()
    }

    /// Records the engine's answer to a command that came from a queue.
    pub(super) fn learn<T>(
        &self,
        session: &SessionName,
        queue: Option<&str>,
        command: &Command,
        answer: &Result<T, EngineError>,
    ) {
        let Some(kind) = Kind::of(command.command_type()) else {
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
            // These errors say nothing about the account; but an answer is not a rate limit.
            Err(
                error @ (EngineError::InvalidField { .. }
                | EngineError::NotReady { .. }
                | EngineError::Unavailable { .. }
                | EngineError::Failing { .. }
                | EngineError::NotFetched { .. }
                | EngineError::Internal { .. }
                | EngineError::NoAnswer { .. }),
            ) => {
                if error.is_answer() {
                    self.resume(session, Scope::Kind(kind));
                }
            }
        }
    }

    /// Forgets the sessions whose queues this worker no longer owns.
    pub(super) fn keep(&self, has: impl Fn(&str) -> bool) {
        let mut pauses = self.pauses.lock();
        pauses.retain(|_, pause| pause.queue.as_deref().is_none_or(&has));
        events::accounts_restricted(restricted(&pauses));
    }

    /// The remaining time of a pause. The first command after its end is tried alone; the others wait until
    /// its result is known.
    fn paused(&self, session: &SessionName, scope: Scope) -> Option<Duration> {
        let mut pauses = self.pauses.lock();
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

    /// Begins a pause, or the next one; returns its length.
    fn pause(
        &self,
        session: &SessionName,
        queue: Option<&str>,
        scope: Scope,
        asked: Option<Duration>,
    ) -> Duration {
        let mut pauses = self.pauses.lock();
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

    /// Ends a pause; returns whether there was one.
    fn resume(&self, session: &SessionName, scope: Scope) -> bool {
        let mut pauses = self.pauses.lock();
        if pauses.is_empty() || pauses.remove(&(session.clone(), scope)).is_none() {
            return false;
        }
        events::accounts_restricted(restricted(&pauses));
        true
    }

    /// Takes from the bucket, or returns the time until there is enough in it.
    fn take(&self, session: &SessionName, kind: Kind, amount: NonZeroU32) -> Option<Duration> {
        let bucket = self.buckets.as_ref()?.get(kind as usize)?;
        bucket.forget_some();
        let bucket = &bucket.sessions;
        // An amount that exceeds the bucket's capacity takes all of it.
        let taken = bucket
            .check_key_n(session, amount)
            .or_else(|all| bucket.check_key_n(session, NonZeroU32::new(all.0).unwrap_or(amount)));
        let denied = taken.ok()?.err()?;
        let now = governor::clock::Clock::now(&RuntimeClock);
        Some(denied.wait_time_from(now).max(Duration::from_millis(1)))
    }
}

/// The number of restricted accounts.
fn restricted(pauses: &Pauses) -> usize {
    let restricted = |(_, scope): &&(SessionName, Scope)| *scope == Scope::Account;
    pauses.keys().filter(restricted).count()
}

#[cfg(test)]
mod tests;
