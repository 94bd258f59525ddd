//! The store: everything that has to outlive the worker, in SQLite or PostgreSQL. All SQL lives
//! here; nobody else names the database crate.
//!
//! Writes of commands go through one writer (`commit`) that puts many of them into one
//! transaction; reads go through a pool beside it. Each subject has a file with its tables, its
//! types and its handle: [`ledger`], [`sandbox_groups`].

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

use crate::clock::Clock;
use crate::config;
use crate::observability::events;

use outage::{Access, Outages};

pub use error::Error;
pub use outage::Probe;

const CONNECTING: &str = "connecting";

/// A handle on the store; clones share one writer and one pool.
#[derive(Debug, Clone)]
pub struct Store {
    batcher: batch::WriteBatcher,
    pool: db::Pool,
    outages: Arc<Outages>,
    clock: Arc<dyn Clock>,
    beats: workers::Beats,
    me: Arc<str>,
    installation: installation::Installation,
    /// Asks PostgreSQL which rights are lacking.
    rights: Arc<str>,
    /// Events were added.
    news: Arc<tokio::sync::Notify>,
}

impl Store {
    /// Opens the store, creating file and tables as far as they are missing, and hands back its writer
    /// beside it.
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
                beats: workers::Beats::default(),
                me,
                installation,
                rights: rights().into(),
                news: Arc::default(),
            },
            writing,
        ))
    }

    /// Makes the tables that are missing, and tells which migrations that took.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn migrate(config: &config::Store) -> Result<Vec<String>, Error> {
        let target = db::Target::of(config)?;
        target.create_file()?;
        migrate::run(&mut connect(&target, config).await?).await
    }

    /// Which migrations are missing.
    ///
    /// # Errors
    /// When the database cannot be reached, or was migrated by a newer version.
    pub async fn missing_migrations(config: &config::Store) -> Result<Vec<String>, Error> {
        let target = db::Target::of(config)?;
        migrate::missing(&mut connect(&target, config).await?).await
    }

    /// Tells whether the database answers, lets us do what a worker does and, as far as is known, takes
    /// changes.
    ///
    /// # Errors
    /// When it does not, with what it said.
    pub async fn ping(&self) -> Result<(), Error> {
        // Not tried here: every worker writes now and then (`Workers::beat`).
        let writing = match self.outages.of_writing() {
            Some(error) if !error.is_of_rights() => return Err(error),
            writing => writing,
        };
        let lacking = self.lacking_rights().await;
        if let Ok(Some(rights)) = lacking {
            // Others may get on without these, so this is no outage; the alert is to hear of it.
            let error = Error::Rights(rights);
            events::store_failed(&error);
            return Err(error);
        }
        self.outages.note(Access::Read, &lacking);
        lacking.and(writing.map_or(Ok(()), Err))
    }

    /// What a worker needs and its role may not; asking shows that the database answers.
    async fn lacking_rights(&self) -> Result<Option<String>, Error> {
        let sql = if self.pool.is_postgres() {
            &*self.rights
        } else {
            "SELECT NULL FROM ledger LIMIT 1"
        };
        let doing = "asking whether it is there";
        let rows = self.pool.look(doing, sql, Vec::new()).await?;
        rows.first().map_or(Ok(None), |row| row.get(0))
    }

    /// Whether a pooler such as pgbouncer stands before the database.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pool.is_pooled()
    }

    /// After an outage ([`Error::is_outage`]): waits until the store is back, or until it is the
    /// caller's turn to find out by trying. A try every half second is all that the store sees,
    /// however many wait.
    ///
    /// # Cancellation
    /// Dropping the future gives the turn up.
    pub async fn over(&self) -> Probe<'_> {
        self.outages.over().await
    }

    /// Asks as long as there is an outage. What is asked must be safe to ask again.
    ///
    /// # Errors
    /// Any other than an outage.
    pub async fn through_outages<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut probe = None;
        loop {
            let answer = ask().await;
            drop(probe.take());
            match answer {
                Err(error) if error.is_outage() => probe = Some(self.over().await),
                answer => return answer,
            }
        }
    }

    /// Which store this is.
    #[must_use]
    pub const fn installation(&self) -> &installation::Installation {
        &self.installation
    }

    /// The record of every command that changes something.
    #[must_use]
    pub fn ledger(&self) -> ledger::Ledger {
        ledger::Ledger::new(self.fenced(), self.pool.clone(), self.clock.clone())
    }

    /// Which workers are alive.
    #[must_use]
    pub fn workers(&self) -> workers::Workers {
        self.workers_as(self.me.clone())
    }

    /// The same as another worker sees it.
    #[cfg(test)]
    pub(crate) fn workers_named(&self, name: &str) -> workers::Workers {
        self.workers_as(name.into())
    }

    fn workers_as(&self, name: Arc<str>) -> workers::Workers {
        let (pool, clock) = (self.pool.clone(), self.clock.clone());
        workers::Workers::new(pool, clock, self.beats.clone(), name)
    }

    /// A SQLite store in a folder, for tests that are about something else.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
    pub(crate) async fn in_folder(folder: &std::path::Path) -> Self {
        let settings = config::Store {
            url: format!("sqlite:{}", folder.join("store.db").display()).into(),
            url_file: None,
            connections: 1,
            timeout: std::time::Duration::from_secs(5),
        };
        let clock = Arc::new(crate::clock::SystemClock);
        let (store, writer) = Self::open(&settings, clock).await.unwrap();
        tokio::spawn(writer);
        store
    }

    /// Has the next transaction fail as on a database that is read-only, and none after that.
    #[cfg(test)]
    pub(crate) async fn fail_once(&self) {
        let pragma = self.batcher.raw("PRAGMA query_only = 1").await;
        pragma.map(drop).unwrap_or_default();
    }

    /// Who works on which command queue.
    #[must_use]
    pub fn shards(&self) -> shards::Shards {
        shards::Shards::new(self.pool.clone(), self.me.clone())
    }

    /// The same as another worker sees it.
    #[cfg(test)]
    pub(crate) fn shards_named(&self, name: &str) -> shards::Shards {
        shards::Shards::new(self.pool.clone(), name.into())
    }

    /// Changes of the number of command queues.
    #[must_use]
    pub fn resharding(&self) -> resharding::Resharding {
        resharding::Resharding::new(self.pool.clone())
    }

    /// Lanes in which commands rest.
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

    /// Groups as the sessions of an engine beyond the store know them.
    #[must_use]
    pub fn known_groups(&self) -> known_groups::KnownGroups {
        known_groups::KnownGroups::new(self.batcher.clone(), self.pool.clone(), self.news.clone())
    }

    /// Events that wait for the broker.
    #[must_use]
    pub fn pending_events(&self) -> pending_events::PendingEvents {
        pending_events::PendingEvents::new(self.pool.clone(), self.news.clone())
    }

    /// The sandbox's world.
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
        // Before all others: what is read after it is what the queue's last owner wrote.
        .with::<shards::EpochRow>()
        // Groups before the ledger: a command that has waited for a group then sees the last command too.
        .with::<sandbox_groups::GroupRow>()
        .with::<sandbox_groups::MemberRow>()
        .with::<sandbox_groups::HistoryRow>()
        .with::<ledger::Row>()
        .with::<lanes::LaneRow>()
        .with::<lanes::DeferredRow>()
        .with::<known_groups::KnownRow>()
        .with::<known_groups::SeenRow>()
        .with::<pending_events::EventRow>()
}

async fn connect(target: &db::Target, config: &config::Store) -> Result<db::Link, Error> {
    let limit = config.timeout.saturating_mul(db::PATIENCE);
    let link = tokio::time::timeout(limit, target.link()).await;
    link.map_err(|_| Error::timed_out(CONNECTING))?
        .map_err(|error| Error::of(CONNECTING, error))
}

/// A statement for PostgreSQL, which answers with the rights that a worker needs and does not have; an
/// error where a table is missing.
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
