//! The store: everything that has to outlive the worker, in SQLite or PostgreSQL. All SQL lives
//! here; nobody else names the database crate.
//!
//! Writes of commands go through one writer (`commit`) that puts many of them into one
//! transaction; reads go through a pool beside it. Each subject has a file with its tables, its
//! types and its handle: [`ledger`], [`sandbox_groups`].

mod commit;
mod db;
mod error;
pub mod lanes;
pub mod ledger;
mod migrate;
pub mod sandbox_groups;
mod sql;
#[cfg(test)]
mod tests;
pub mod workers;

use std::sync::Arc;

use crate::clock::Clock;
use crate::config;

pub use error::Error;

/// A handle on the store; clones share one writer and one pool.
#[derive(Debug, Clone)]
pub struct Store {
    queue: commit::Queue,
    pool: db::Pool,
    clock: Arc<dyn Clock>,
    me: Arc<str>,
}

impl Store {
    /// Opens the store, creating file and tables as needed, and hands back its writer beside it.
    ///
    /// The caller spawns the writer; nothing is written before that. The writer ends, with
    /// everything that was asked of it written, once every handle has been dropped.
    ///
    /// # Errors
    /// When the URL names no store, or the database cannot be reached, created or migrated.
    pub async fn open(
        config: &config::Store,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), Error> {
        let target = db::Target::of(config)?;
        target.create_file()?;
        let connect = async {
            let mut link = target
                .link()
                .await
                .map_err(|e| Error::of("connecting", e))?;
            migrate::run(&mut link).await
        };
        connect.await?;
        let pool = target.pool(config.connections, config.timeout);
        let (queue, writer) = commit::writer(target, config.timeout);
        let writing = {
            let pool = pool.clone();
            async move {
                writer.run().await;
                pool.close().await;
            }
        };
        let me = workers::Workers::name();
        Ok((
            Self {
                queue,
                pool,
                clock,
                me,
            },
            writing,
        ))
    }

    /// Tells whether the database answers.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub async fn ping(&self) -> Result<(), Error> {
        self.pool
            .fetch("asking whether it is there", "SELECT 1", Vec::new())
            .await
            .map(drop)
    }

    /// The record of every command that changes something.
    #[must_use]
    pub fn ledger(&self) -> ledger::Ledger {
        ledger::Ledger::new(self.queue.clone(), self.pool.clone(), self.clock.clone())
    }

    /// Which workers are alive.
    #[must_use]
    pub fn workers(&self) -> workers::Workers {
        workers::Workers::new(self.pool.clone(), self.clock.clone(), self.me.clone())
    }

    /// The same as another worker sees it.
    #[cfg(test)]
    pub(crate) fn workers_named(&self, name: &str) -> workers::Workers {
        workers::Workers::new(self.pool.clone(), self.clock.clone(), name.into())
    }

    /// Lanes in which commands rest.
    #[must_use]
    pub fn lanes(&self) -> lanes::Lanes {
        lanes::Lanes::new(self.queue.clone(), self.pool.clone())
    }

    /// The sandbox's world.
    #[must_use]
    pub fn sandbox_groups(&self) -> sandbox_groups::SandboxGroups {
        sandbox_groups::SandboxGroups::new(self.queue.clone(), self.pool.clone())
    }
}
