//! The store's tests: the same against SQLite and PostgreSQL, wherever both can show it.

mod faults;
mod groups;
mod installation;
mod ledger;
mod lists;
mod outages;
mod pooler;
mod purge;
mod roles;
mod shards;
mod sizes;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use groupmq_test_support::postgres::{self, Postgres};
use serde_json::value::to_raw_value;
use tempfile::TempDir;

use super::Store;
use super::ledger::{Key, Record};
use crate::clock::Clock;
use crate::config;
use crate::contract::Timestamp;

/// A clock that the test sets.
#[derive(Debug, Default)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// An empty database.
#[derive(Debug)]
struct Database {
    url: String,
    clock: Arc<ManualClock>,
    postgres: Option<postgres::Database>,
    /// Held for its drop.
    _dir: Option<TempDir>,
}

fn sqlite() -> Database {
    let dir = TempDir::new().unwrap();
    let url = format!("sqlite:{}", dir.path().join("test.db").display());
    Database {
        url,
        clock: Arc::default(),
        postgres: None,
        _dir: Some(dir),
    }
}

fn postgres() -> Database {
    let database = Postgres::shared().unwrap().database().unwrap();
    Database::of(database)
}

fn both() -> [Database; 2] {
    [sqlite(), postgres()]
}

impl Database {
    fn of(database: postgres::Database) -> Self {
        Self {
            url: database.url.clone(),
            clock: Arc::default(),
            postgres: Some(database),
            _dir: None,
        }
    }

    fn config(&self) -> config::Store {
        config::Store {
            url: self.url.clone().into(),
            url_file: None,
            connections: 2,
            timeout: Duration::from_secs(10),
        }
    }

    async fn open(&self) -> Store {
        self.open_with(self.config()).await
    }

    #[expect(clippy::disallowed_methods, reason = "tests have no lifecycle")]
    async fn open_with(&self, config: config::Store) -> Store {
        let (store, writer) = Store::open(&config, self.clock.clone()).await.unwrap();
        tokio::spawn(writer);
        store
    }

    fn is_postgres(&self) -> bool {
        self.postgres.is_some()
    }
}

fn key(id: &str) -> Key {
    Key {
        session: "default".parse().unwrap(),
        command_id: id.parse().unwrap(),
    }
}

fn record(result: &str) -> Record {
    Record {
        outcome: Ok(to_raw_value(result).unwrap()),
        events: Vec::new(),
        at: Timestamp(jiff::Timestamp::from_millisecond(1000).unwrap()),
    }
}

fn text(record: &Record) -> String {
    record.outcome.as_ref().unwrap().get().to_owned()
}
