//! A role that has the tables, and one that only reads and writes rows, as the runbook sets them up.

use futures_util::future::join_all;
use groupmq_test_support::postgres::{self as server, Postgres};

use super::outages::claim;
use super::{Database, key, record};
use crate::config;
use crate::store::ledger::Claim;
use crate::store::{Error, Store};

/// A database in which the administrator has run what the runbook says.
fn with_roles() -> (Postgres, Database) {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let sql = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");
    server::psql(&database.url, &["-f", sql]).unwrap();
    (server, database)
}

fn as_role(database: &Database, role: &str) -> config::Store {
    config::Store {
        url: database.postgres.as_ref().unwrap().as_role(role).into(),
        ..database.config()
    }
}

#[tokio::test]
async fn a_role_that_may_make_no_table_works_once_the_owner_has_migrated() {
    let (_server, database) = with_roles();
    let worker = as_role(&database, "groupmq_worker");
    let opened = Store::open(&worker, database.clock.clone()).await;
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error, Error::Unmigrated { .. }), "{error:?}");
    let said = error.in_full();
    for word in ["0001_ledger", "groupmq store migrate", "permission denied"] {
        assert!(said.contains(word), "{said}");
    }

    let owner = as_role(&database, "groupmq_owner");
    let made = Store::migrate(&owner).await.unwrap();
    assert_eq!(made[0], "0001_ledger");
    assert_eq!(Store::migrate(&owner).await.unwrap(), Vec::<String>::new());
    assert!(Store::missing_migrations(&worker).await.unwrap().is_empty());
    assert!(Store::migrate(&worker).await.unwrap().is_empty());

    let store = database.open_with(worker).await;
    let ledger = store.ledger();
    assert!(matches!(claim(&ledger, "a").await.unwrap(), Claim::New));
    ledger.complete(key("a"), record("a")).await.unwrap();
    store.workers().heartbeat().await.unwrap();
    store.ping().await.unwrap();
    assert!(store.batcher.raw("DROP TABLE ledger").await.is_err());
}

#[tokio::test]
async fn tables_that_a_worker_with_all_rights_has_made_are_handed_to_the_owner() {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let store = database.open().await;
    claim(&store.ledger(), "a").await.unwrap();
    let sql = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");
    server::psql(&database.url, &["-f", sql]).unwrap();
    let owner = as_role(&database, "groupmq_owner");
    assert!(Store::migrate(&owner).await.unwrap().is_empty());
    let store = database
        .open_with(as_role(&database, "groupmq_worker"))
        .await;
    let claimed = claim(&store.ledger(), "a").await.unwrap();
    assert!(matches!(claimed, Claim::Started { .. }));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn two_that_migrate_at_once_make_each_table_once() {
    for database in super::both() {
        let config = database.config();
        let made = join_all((0..4).map(|_| Store::migrate(&config))).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        let who: Vec<_> = made.iter().filter(|made| !made.is_empty()).collect();
        assert_eq!(who.len(), 1, "{made:?}");
        database.open().await.ping().await.unwrap();
    }
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused_by_their_number() {
    for database in super::both() {
        let store = database.open().await;
        let newer = "INSERT INTO _sqlx_migrations \
                     (version, description, success, checksum, execution_time) \
                     SELECT 9999, 'newer', TRUE, checksum, -1 FROM _sqlx_migrations WHERE version = 1";
        store.batcher.raw(newer).await.unwrap();
        let opened = Store::open(&database.config(), database.clock.clone()).await;
        let error = opened.map(drop).unwrap_err().in_full();
        assert!(error.contains("9999"), "{error}");
    }
}

#[tokio::test]
async fn the_rights_that_are_asked_for_are_those_on_every_table_that_was_made() {
    let database = super::postgres();
    database.open().await;
    let sql = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables \
               WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'";
    let made = database.postgres.as_ref().unwrap().run(&[sql]).unwrap();
    let mut known: Vec<_> = crate::store::migrate::tables().collect();
    known.sort_unstable();
    assert_eq!(known.join(" "), made);
}
