//! The store: all state that outlives the process, in SQLite or PostgreSQL. All SQL is in this module; no other
//! names the database crate.
//!
//! Writes of commands go through one writer (`batch`), which commits many of them in one transaction; reads and
//! small writes go through a pool of connections (`db`). Each subject has a file with its tables, its types and
//! its handle, such as [`ledger`].

mod batch;
mod db;
pub mod deliveries;
pub mod endpoints;
mod error;
pub mod installation;
pub mod known_groups;
pub mod lanes;
pub mod leases;
pub mod ledger;
mod migrate;
mod outage;
pub mod pending_events;
pub mod resharding;
pub mod sandbox_groups;
pub mod shards;
#[cfg(test)]
mod tests;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config;
use crate::observability::events;

use outage::{Access, Outages};

pub use error::Error;
pub use outage::RetryPermit;

const CONNECTING: &str = "connecting";

/// The pause before a SQLite file that another process had locked is opened again.
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// A handle to the store; clones share one writer and one pool.
#[derive(Debug, Clone)]
pub struct Store {
    batcher: batch::WriteBatcher,
    pool: db::Pool,
    outages: Arc<Outages>,
    clock: Arc<dyn Clock>,
    heartbeats: workers::Heartbeats,
    me: Arc<str>,
    installation: installation::Installation,
    /// The query for the rights that this role lacks in PostgreSQL.
    rights: Arc<str>,
    /// Notified when events were added.
    events_added: Arc<tokio::sync::Notify>,
}

impl Store {
    /// Opens the store, creates the file and the tables that are missing, and returns the store and its writer.
    ///
    /// The caller spawns the writer; nothing is written before that. Once every handle has been dropped, the
    /// writer writes all jobs that were submitted, and ends.
    ///
    /// # Errors
    /// When the URL names no store, or the database cannot be reached, created or migrated.
    pub async fn open(
        config: &config::Store,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), Error> {
        let mut target = db::Target::of(config)?;
        target.create_file()?;
        let mut link = connect(&target, config).await?;
        migrate::run(&mut link).await?;
        let installation = installation::Installation::open(link, &mut target).await?;
        let outages = Arc::new(Outages::default());
        let pool = target
            .pool(config.connections, config.timeout, Arc::clone(&outages))
            .map_err(|error| Error::of(CONNECTING, error))?;
        let (batcher, writer) =
            batch::writer(target, config.timeout, Arc::clone(&outages), tables());
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
                batcher,
                pool,
                outages,
                clock,
                heartbeats: workers::Heartbeats::default(),
                me,
                installation,
                rights: rights().into(),
                events_added: Arc::default(),
            },
            writing,
        ))
    }

    /// Runs the migrations that are missing, and returns their names.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(config: &config::Store) -> Result<Vec<String>, Error> {
        let target = db::Target::of(config)?;
        target.create_file()?;
        migrate::run(&mut connect(&target, config).await?).await
    }

    /// Returns the migrations that are missing.
    ///
    /// # Errors
    /// When the database cannot be reached, or was migrated by a newer version.
    pub async fn missing_migrations(config: &config::Store) -> Result<Vec<String>, Error> {
        let target = db::Target::of(config)?;
        migrate::missing(&mut connect(&target, config).await?).await
    }

    /// Checks that the database answers, that the role has the rights that a worker needs and that, as far as is
    /// known, writes succeed.
    ///
    /// # Errors
    /// When a check fails, with what the database answered.
    pub async fn ping(&self) -> Result<(), Error> {
        // No write is tried here: every worker writes regularly (`Workers::heartbeat`).
        let writing = match self.outages.write_failure() {
            Some(error) if !error.is_of_rights() => return Err(error),
            writing => writing,
        };
        let lacking = self.lacking_rights().await;
        if let Ok(Some(rights)) = lacking {
            // Other work may succeed without these rights, so this is no outage; the metric triggers the alert.
            let error = Error::Rights(rights);
            events::store_failed(&error);
            return Err(error);
        }
        self.outages.note(Access::Read, &lacking);
        lacking.and(writing.map_or(Ok(()), Err))
    }

    /// The rights that a worker needs and its role lacks; an answer shows that the database is available.
    async fn lacking_rights(&self) -> Result<Option<String>, Error> {
        let sql = if self.pool.is_postgres() {
            &*self.rights
        } else {
            "SELECT NULL FROM ledger LIMIT 1"
        };
        let doing = "checking that the database answers";
        let rows = self.pool.fetch_unrecorded(doing, sql, Vec::new()).await?;
        rows.first().map_or(Ok(None), |row| row.get(0))
    }

    /// Whether the connections go through a pooler such as pgbouncer.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pool.is_pooled()
    }

    /// Waits, after an outage ([`Error::is_outage`]), until the store has recovered or the caller may retry. The
    /// store gets one retry every half second, however many callers wait.
    ///
    /// # Cancellation
    /// Dropping the future gives up the place in the queue for the permit.
    pub async fn wait_for_recovery(&self) -> RetryPermit<'_> {
        self.outages.wait_for_recovery().await
    }

    /// Runs an operation, and retries it during an outage; it must be safe to repeat.
    ///
    /// # Errors
    /// Any other than an outage.
    pub async fn through_outages<T, F>(&self, mut operation: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut permit = None;
        loop {
            let answer = operation().await;
            drop(permit.take());
            match answer {
                Err(error) if error.is_outage() => permit = Some(self.wait_for_recovery().await),
                answer => return answer,
            }
        }
    }

    /// The identity of this store.
    #[must_use]
    pub const fn installation(&self) -> &installation::Installation {
        &self.installation
    }

    /// The ledger: the state of every command that changes something.
    #[must_use]
    pub fn ledger(&self) -> ledger::Ledger {
        ledger::Ledger::new(self.fenced(), self.pool.clone(), self.clock.clone())
    }

    /// The registry of live workers.
    #[must_use]
    pub fn workers(&self) -> workers::Workers {
        self.workers_as(self.me.clone())
    }

    /// The same, as seen by another worker.
    #[cfg(test)]
    pub(crate) fn workers_named(&self, name: &str) -> workers::Workers {
        self.workers_as(name.into())
    }

    fn workers_as(&self, name: Arc<str>) -> workers::Workers {
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        workers::Workers::new(pool, clock, self.heartbeats.clone(), name)
    }

    /// A SQLite store in a folder, for tests of other modules.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
    pub(crate) async fn in_folder(folder: &std::path::Path) -> Self {
        let settings = config::Store {
            url: format!("sqlite:{}", folder.join("store.db").display()).into(),
            url_file: None,
            connections: 1,
            timeout: Duration::from_secs(5),
        };
        let clock = Arc::new(crate::clock::SystemClock);
        let (store, writer) = Self::open(&settings, clock).await.unwrap();
        tokio::spawn(writer);
        store
    }

    /// Makes the next transaction fail as on a read-only database, and none after that.
    #[cfg(test)]
    pub(crate) async fn fail_once(&self) {
        let pragma = self.batcher.raw("PRAGMA query_only = 1").await;
        pragma.map(drop).unwrap_or_default();
    }

    /// The ownership of the command queues.
    #[must_use]
    pub fn shards(&self) -> shards::Shards {
        shards::Shards::new(self.pool.clone(), self.me.clone())
    }

    /// The same, as seen by another worker.
    #[cfg(test)]
    pub(crate) fn shards_named(&self, name: &str) -> shards::Shards {
        shards::Shards::new(self.pool.clone(), name.into())
    }

    /// The progress of changes of the number of shards.
    #[must_use]
    pub fn resharding(&self) -> resharding::Resharding {
        resharding::Resharding::new(self.pool.clone())
    }

    /// The lanes that have deferred commands.
    #[must_use]
    pub fn lanes(&self) -> lanes::Lanes {
        lanes::Lanes::new(self.fenced(), self.pool.clone())
    }

    /// Webhook endpoints.
    #[must_use]
    pub fn endpoints(&self) -> endpoints::Endpoints {
        endpoints::Endpoints::new(self.pool.clone())
    }

    /// Leases, which one process at a time holds.
    #[must_use]
    pub fn leases(&self) -> leases::Leases {
        leases::Leases::new(self.pool.clone(), self.me.clone())
    }

    /// The log of deliveries to webhooks.
    #[must_use]
    pub fn deliveries(&self) -> deliveries::Deliveries {
        deliveries::Deliveries::new(self.pool.clone())
    }

    /// Groups as the sessions of an external engine know them.
    #[must_use]
    pub fn known_groups(&self) -> known_groups::KnownGroups {
        known_groups::KnownGroups::new(
            self.batcher.clone(),
            self.pool.clone(),
            self.events_added.clone(),
        )
    }

    /// Events that the broker has not confirmed yet.
    #[must_use]
    pub fn pending_events(&self) -> pending_events::PendingEvents {
        pending_events::PendingEvents::new(self.pool.clone(), self.events_added.clone())
    }

    /// The sandbox's groups.
    #[must_use]
    pub fn sandbox_groups(&self) -> sandbox_groups::SandboxGroups {
        sandbox_groups::SandboxGroups::new(self.fenced(), self.pool.clone())
    }

    fn fenced(&self) -> shards::FencedBatcher {
        shards::FencedBatcher::new(self.batcher.clone())
    }
}

/// The tables that the write batcher loads and writes, in the order in which it locks their rows.
fn tables() -> batch::Registry {
    batch::Registry::default()
        // Before all others: rows that are read after it include what the queue's last owner wrote.
        .with::<shards::EpochRow>()
        // Groups before outcomes: a command that has waited for a group then sees the last command's outcome too.
        .with::<sandbox_groups::GroupRow>()
        .with::<sandbox_groups::MemberRow>()
        .with::<sandbox_groups::HistoryRow>()
        .with::<sandbox_groups::InviteCodeRow>()
        .with::<sandbox_groups::OutcomeRow>()
        .with::<ledger::Row>()
        .with::<lanes::LaneRow>()
        .with::<lanes::DeferredRow>()
        .with::<known_groups::KnownRow>()
        .with::<known_groups::SeenRow>()
        .with::<pending_events::EventRow>()
}

async fn connect(target: &db::Target, config: &config::Store) -> Result<db::Link, Error> {
    let limit = config.timeout.saturating_mul(db::TIMEOUT_FACTOR);
    let began = Instant::now();
    let connect = async {
        loop {
            match target.link().await {
                // Where several processes give a new file its log at the same time, SQLite refuses all but one
                // at once, without waiting for the lock.
                Err(error) if db::is_locked(&error) && began.elapsed() < config.timeout => {
                    tokio::time::sleep(LOCKED_PAUSE).await;
                }
                link => return link,
            }
        }
    };
    let link = tokio::time::timeout(limit, connect).await;
    link.map_err(|_| Error::timed_out(CONNECTING))?
        .map_err(|error| Error::of(CONNECTING, error))
}

/// A query for PostgreSQL, which returns the rights that a worker needs and its role lacks; it fails if a table
/// is missing.
fn rights() -> String {
    let tables: Vec<_> = migrate::tables().map(|it| format!("'{it}'")).collect();
    format!(
        "SELECT string_agg(concat(may, ' on ', name), '; ' ORDER BY name) FROM ( \
             SELECT name, string_agg(may, ', ' ORDER BY may) AS may \
             FROM unnest(ARRAY[{}]) AS name, \
                  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS may \
             WHERE NOT has_table_privilege(name, may) GROUP BY name) AS lacking",
        tables.join(", ")
    )
}
