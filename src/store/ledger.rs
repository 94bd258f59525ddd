//! The ledger: what became of every command that changes something, so that a command that comes
//! again has no second effect and gets the same answer.
//!
//! An engine with effects outside the store records `started` before and `done` after
//! ([`Ledger::claim`], [`Ledger::complete`]); the sandbox writes `done` together with its groups
//! ([`super::sandbox_groups`]). What to do about a command found `started` is the executor's
//! business.

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

/// What a command came to: all that its reply and its events are made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The reply's `result`, or its `error`.
    pub outcome: Result<Box<RawValue>, ErrorBody>,
    /// What happened in the group, in order.
    pub events: Vec<Event>,
    /// When it was done.
    pub at: Timestamp,
}

/// What a command is known by: one id has one effect within a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The session.
    pub session: SessionName,
    /// The command's id.
    pub command_id: CommandId,
}

/// SHA-256 of a command's type and payload.
pub type Fingerprint = [u8; 32];

/// What the ledger says of a command that is about to be executed.
#[derive(Debug, Clone)]
pub enum Claim {
    /// Nothing was known. Where that was claimed, it is `started` now, in the name of whoever asked.
    New,
    /// It is done already, with this record.
    Done(Record),
    /// The id stands for a command with another type or payload.
    Reused,
    /// It was started and not finished.
    ///
    /// The owner may be whoever asks: an earlier claim whose answer was lost with the store.
    Started {
        /// Who started it.
        owner: String,
        /// When, and how often.
        begun: Begun,
    },
}

/// The beginnings of a command whose end nobody saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// The first of them.
    pub first: Timestamp,
    /// The last one.
    pub last: Timestamp,
    /// How many there were; those that certainly did nothing do not count.
    pub times: u32,
}

/// Which commands the purge takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Those that were finished before this …
    pub finished: Timestamp,
    /// … and those that were never finished, if they were started before this as well.
    pub started: Timestamp,
}

/// What the ledger knows of a command.
#[derive(Debug, Clone)]
pub enum Found {
    /// It was begun, and not finished yet.
    Started,
    /// It is done.
    Done(Record),
}

/// The way to the ledger; cheap to clone.
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

    /// The same ledger, in which what is written stands under a fence.
    #[must_use]
    pub fn under(&self, fence: Option<Fence>) -> Self {
        Self {
            batcher: self.batcher.under(fence),
            ..self.clone()
        }
    }

    /// Records that `owner` starts a command, unless the ledger knows it already.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn claim(
        &self,
        key: Key,
        fingerprint: Fingerprint,
        owner: &str,
    ) -> Result<Claim, Error> {
        let owner = owner.to_owned();
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

    /// What a claim would be told, without claiming anything.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn look(&self, key: Key, fingerprint: Fingerprint) -> Result<Claim, Error> {
        self.submit(key, move |rows, key| known(rows, key, fingerprint))
            .await
    }

    /// Records what a claimed command came to.
    ///
    /// The first record stands: where another worker's came before, that one is handed back and
    /// is the one to reply with.
    ///
    /// # Errors
    /// [`Error::NotClaimed`] when the claim was released or purged; else when the store cannot be
    /// used, and asking again is safe.
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

    /// Forgets that `owner` started a command, which then counts as never seen; of one that was started
    /// more than once ([`Ledger::restart`]), the last time.
    ///
    /// For failures before the engine began. What is done stays done, and another's claim stays.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn release(&self, key: Key, owner: &str) -> Result<(), Error> {
        let owner = owner.to_owned();
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

    /// Passes a started command from one owner to another; tells whether it was still theirs.
    ///
    /// Of several workers that try, one succeeds.
    ///
    /// # Errors
    /// When the store cannot be used. Asking again is safe, but a lost answer may have been yes.
    pub async fn take_over(&self, key: Key, from: &str, to: &str) -> Result<bool, Error> {
        let (from, to) = (from.to_owned(), to.to_owned());
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

    /// Forgets up to `at_most` commands that are older than `limits`; tells how many.
    ///
    /// Meant to be called in a loop, with slices small enough (a thousand, say) for the writer to
    /// fit between two batches.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn purge(&self, limits: Limits, at_most: u32) -> Result<u64, Error> {
        rows::purge(self.batcher.unfenced(), &self.pool, limits, at_most).await
    }

    /// About how many commands the ledger holds; for a gauge, so it may be a little behind.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn size(&self) -> Result<u64, Error> {
        rows::size(&self.pool).await
    }

    /// Records that `owner` starts a command once more, since nothing was found of what it did before.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn restart(&self, key: Key, owner: &str) -> Result<(), Error> {
        let owner = owner.to_owned();
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

    /// What a command came to, if the ledger knows; for somebody who only asks.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn find(&self, key: &Key) -> Result<Option<Found>, Error> {
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
            owner: row.owner.clone(),
            begun: row.begun(),
        },
    })
}
