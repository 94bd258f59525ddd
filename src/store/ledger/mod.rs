//! The ledger: the outcome of every command that changes something, so that a repeated command has no second effect
//! and gets the same reply.
//!
//! The executor records `started` before an effect and `done` after it ([`Ledger::claim`],
//! [`Ledger::complete`]), and decides what to do about a command that is `started`.

mod rows;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Error;
use super::batch::ReadSet;
use super::db::Pool;
use super::shards::{Fence, FencedBatcher};
use crate::clock::Clock;
use crate::contract::{CommandId, ErrorBody, Event, SessionName, Timestamp};

pub(super) use rows::Row;
use rows::Rows;

/// The outcome of a command: the content of its reply and its events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The reply's `result`, or its `error`.
    pub outcome: Result<Box<RawValue>, ErrorBody>,
    /// What happened in the group, in order.
    pub events: Vec<Event>,
    /// When the command was done.
    pub at: Timestamp,
}

/// The key of a command: one id has one effect within a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The session.
    pub session: SessionName,
    /// The command's id.
    pub command_id: CommandId,
}

/// SHA-256 of a command's type and payload.
pub type Fingerprint = [u8; 32];

/// The ledger's answer about a command that is about to be executed.
#[derive(Debug, Clone)]
pub enum Claim {
    /// The command was not in the ledger. After a claim, it is `started` now, and the claimant is its owner.
    New,
    /// The command is done, with this record.
    Done(Record),
    /// The id belongs to a command with another type or payload.
    Reused,
    /// It was started and not finished.
    ///
    /// The owner may be the claimant itself: an earlier claim whose answer was lost in an outage.
    Started {
        /// Who started it.
        owner: Arc<str>,
        /// When, and how often.
        starts: Starts,
    },
}

/// The starts of a command whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Starts {
    /// The first start.
    pub first: Timestamp,
    /// The last start.
    pub last: Timestamp,
    /// The number of starts, without those that certainly had no effect.
    pub times: u32,
}

/// The commands that the purge removes.
#[derive(Debug, Clone, Copy)]
pub struct PurgeLimits {
    /// Those that were finished before this …
    pub finished: Timestamp,
    /// … and those that were never finished, if they were started before this as well.
    pub started: Timestamp,
}

/// The state of a command in the ledger.
#[derive(Debug, Clone)]
pub enum CommandState {
    /// It was started, and is not done yet.
    Started,
    /// It is done.
    Done(Record),
}

/// A handle to the ledger; cheap to clone.
#[derive(Debug, Clone)]
pub struct Ledger {
    batcher: FencedBatcher,
    pool: Pool,
    clock: Arc<dyn Clock>,
}

impl Ledger {
    pub(super) fn new(batcher: FencedBatcher, pool: Pool, clock: Arc<dyn Clock>) -> Self {
        Self {
            batcher,
            pool,
            clock,
        }
    }

    /// The same ledger, whose writes are fenced.
    #[must_use]
    pub fn under(&self, fence: Option<Fence>) -> Self {
        Self {
            batcher: self.batcher.under(fence),
            ..self.clone()
        }
    }

    /// Records that `owner` starts a command, unless it is in the ledger already.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn claim(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        owner: &str,
    ) -> Result<Claim, Error> {
        let owner: Arc<str> = owner.into();
        let now = self.clock.now().as_millisecond();
        self.submit(key, move |rows, key| {
            let known = known(rows, key, fingerprint)?;
            if matches!(known, Claim::New) {
                rows.put(key.clone(), Row::started(fingerprint, owner.clone(), now));
            }
            Ok(known)
        })
        .await
    }

    /// What [`Ledger::claim`] would return, without a claim.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn peek(&self, key: Key, fingerprint: Fingerprint) -> Result<Claim, Error> {
        self.submit(key, move |rows, key| known(rows, key, fingerprint))
            .await
    }

    /// Records the outcome of a claimed command.
    ///
    /// The first record wins: if another worker's came before, that one is returned, and the reply is made from
    /// it.
    ///
    /// # Errors
    /// [`Error::NotClaimed`] when the claim was released or purged; else when the store cannot be
    /// used, and a retry is safe.
    pub async fn complete(&self, key: Key, record: Record) -> Result<Option<Record>, Error> {
        self.submit(key, move |rows, key| {
            let row = rows.get(key).ok_or(Error::NotClaimed)?;
            if let Some(earlier) = row.record()? {
                return Ok(Some(earlier));
            }
            let done = row.clone().done(&record)?;
            rows.put(key.clone(), done);
            Ok(None)
        })
        .await
    }

    /// Lets the record of a command count as finished now, so that it is kept for another `ledger.retention`.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn keep(&self, key: Key) -> Result<(), Error> {
        let now = self.clock.now().as_millisecond();
        self.submit(key, move |rows, key| {
            if let Some(row) = rows.get(key) {
                let row = row.clone().finished_at(now);
                rows.put(key.clone(), row);
            }
            Ok(())
        })
        .await
    }

    /// Removes the start of a command by `owner`, as if it had never arrived; of several starts
    /// ([`Ledger::restart`]), the last one.
    ///
    /// For failures before the engine was called. Done commands and the claims of others stay.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn release(&self, key: Key, owner: &str) -> Result<(), Error> {
        let owner: Arc<str> = owner.into();
        self.submit(key, move |rows, key| {
            if let Some(row) = rows.get(key).filter(|row| row.is_started_by(&owner)) {
                match row.clone().started_once_less() {
                    Some(row) => rows.put(key.clone(), row),
                    None => rows.remove(key),
                }
            }
            Ok(())
        })
        .await
    }

    /// Passes a started command from one owner to another; false if it had another owner by then.
    ///
    /// Of several workers that try, one succeeds.
    ///
    /// # Errors
    /// When the store cannot be used. A retry is safe, but the first attempt may have succeeded.
    pub async fn take_over(&self, key: Key, from: &str, to: &str) -> Result<bool, Error> {
        let (from, to): (Arc<str>, Arc<str>) = (from.into(), to.into());
        self.submit(key, move |rows, key| {
            let Some(row) = rows.get(key).filter(|row| row.is_started_by(&from)) else {
                return Ok(false);
            };
            let row = row.clone().owned_by(to.clone());
            rows.put(key.clone(), row);
            Ok(true)
        })
        .await
    }

    /// Removes up to `at_most` commands that are older than `limits`; returns how many.
    ///
    /// Meant to be called in a loop, with slices small enough (a thousand, say) for the writer to
    /// fit between two batches.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn purge(&self, limits: PurgeLimits, at_most: u32) -> Result<u64, Error> {
        rows::purge(self.batcher.unfenced(), &self.pool, limits, at_most).await
    }

    /// About how many commands the ledger holds; for a gauge, so it may be a little behind.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn size(&self) -> Result<u64, Error> {
        rows::size(&self.pool).await
    }

    /// Records that `owner` starts a command again, since no effect of the earlier start was found.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn restart(&self, key: Key, owner: &str) -> Result<(), Error> {
        let owner: Arc<str> = owner.into();
        let now = self.clock.now().as_millisecond();
        self.submit(key, move |rows, key| {
            if let Some(row) = rows.get(key).filter(|row| row.is_started_by(&owner)) {
                let row = row.clone().started_again(now);
                rows.put(key.clone(), row);
            }
            Ok(())
        })
        .await
    }

    /// The state of a command, if it is in the ledger; for status queries.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn find(&self, key: &Key) -> Result<Option<CommandState>, Error> {
        rows::find(&self.pool, key).await
    }

    async fn submit<F, T>(&self, key: Key, step: F) -> Result<T, Error>
    where
        F: Fn(&mut Rows, &Key) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let needs = ReadSet::default().with::<Row>([key.clone()]);
        self.batcher
            .submit(needs, move |rows| step(rows.table()?, &key))
            .await
    }
}

fn known(rows: &Rows, key: &Key, fingerprint: Fingerprint) -> Result<Claim, Error> {
    let Some(row) = rows.get(key) else {
        return Ok(Claim::New);
    };
    if row.fingerprint != fingerprint {
        return Ok(Claim::Reused);
    }
    Ok(match row.record()? {
        Some(record) => Claim::Done(record),
        None => Claim::Started {
            owner: Arc::clone(&row.owner),
            starts: row.times_started(),
        },
    })
}
