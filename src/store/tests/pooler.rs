//! A pooler between the store and PostgreSQL.

use std::time::Duration;

use futures_util::future::join_all;
use groupmq_test_support::pgbouncer::Pgbouncer;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::groups::ME;
use super::lists::{GROUPS, break_off, fill, made};
use super::outages::claim;
use super::{Database, key, postgres, record};
use crate::config;
use crate::contract::ListGroups;
use crate::store::Store;
use crate::store::ledger::Claim;

/// What somebody waits for in vain.
const LIMIT: Duration = Duration::from_millis(700);

/// What is enough for many commands at once, on a busy machine too.
const ENOUGH: Duration = Duration::from_secs(9);

/// Each transaction gets another session of two.
const TRANSACTION: &[&str] = &["pool_mode=transaction", "default_pool_size=2"];
/// As operators set it for clients that insist on options: what they ask for is ignored.
const IGNORING: &[&str] = &[
    "pool_mode=transaction",
    "default_pool_size=2",
    "ignore_startup_parameters=extra_float_digits,options",
];
const SESSION: &[&str] = &["pool_mode=session", "default_pool_size=40"];
const SESSION_IGNORING: &[&str] = &[
    "pool_mode=session",
    "default_pool_size=40",
    "ignore_startup_parameters=options",
];

fn pooler(database: &Database, settings: &[&str]) -> Pgbouncer {
    Pgbouncer::start(database.postgres.as_ref().unwrap(), settings).unwrap()
}

async fn through(pooler: &Pgbouncer, database: &Database, timeout: Duration) -> Store {
    let config = config::Store {
        url: pooler.url(&database.url).into(),
        timeout,
        ..database.config()
    };
    database.open_with(config).await
}

async fn text(store: &Store, sql: &str) -> String {
    let rows = store.pool.fetch("testing", sql, Vec::new()).await.unwrap();
    rows[0].get(0).unwrap()
}

const PREPARED: &str = "SELECT COUNT(*)::text FROM pg_prepared_statements";

#[tokio::test]
async fn behind_a_pooler_several_stores_keep_each_command_once_and_leave_nothing_in_sessions() {
    for settings in [TRANSACTION, IGNORING, SESSION, SESSION_IGNORING] {
        let database = postgres();
        let pooler = pooler(&database, settings);
        let stores = join_all((0..3).map(|_| through(&pooler, &database, ENOUGH))).await;
        let each = |n: usize| {
            let ledger = stores[n % stores.len()].ledger();
            let stores = &stores;
            async move {
                let id = format!("c-{}", n / 2);
                let claimed = claim(&ledger, &id).await.unwrap();
                let is_new = matches!(claimed, Claim::New);
                if is_new {
                    ledger.complete(key(&id), record(&id)).await.unwrap();
                }
                stores[n % stores.len()].ping().await.unwrap();
                is_new
            }
        };
        let new = join_all((0..200).map(each)).await;
        let new = new.into_iter().filter(|is_new| *is_new).count();
        assert_eq!(new, 100, "{settings:?}");
        for store in &stores {
            assert_eq!(text(store, PREPARED).await, "0", "{settings:?}");
            let limit = text(store, "SELECT current_setting('statement_timeout')").await;
            assert_eq!(limit, "9s", "{settings:?}");
        }
    }
}

#[tokio::test]
async fn without_a_pooler_statements_stay_prepared() {
    let database = postgres();
    let store = database.open().await;
    text(&store, "SELECT 'a'").await;
    assert_ne!(text(&store, PREPARED).await, "0");
    // The writer's own connection.
    claim(&store.ledger(), "a").await.unwrap();
    let sql = "DO $$ BEGIN ASSERT (SELECT COUNT(*) FROM pg_prepared_statements) > 0; END $$";
    store.batcher.raw(sql).await.unwrap();
}

#[tokio::test]
async fn behind_a_pooler_a_row_that_somebody_locks_is_not_waited_for_without_end() {
    for settings in [TRANSACTION, SESSION_IGNORING] {
        let database = postgres();
        let pooler = pooler(&database, settings);
        let store = through(&pooler, &database, LIMIT).await;
        let other = database.open().await;
        claim(&store.ledger(), "a").await.unwrap();
        other.batcher.raw("BEGIN").await.unwrap();
        let lock = "SELECT 1 FROM ledger FOR UPDATE";
        other.batcher.raw(lock).await.unwrap();
        let done = store.ledger().complete(key("a"), record("a")).await;
        let error = done.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        other.batcher.raw("ROLLBACK").await.unwrap();
        store
            .ledger()
            .complete(key("a"), record("a"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_pooler_that_knows_no_transactions_is_refused_with_its_own_words() {
    let database = postgres();
    let pooler = pooler(&database, &["pool_mode=statement"]);
    let config = config::Store {
        url: pooler.url(&database.url).into(),
        ..database.config()
    };
    let opened = Store::open(&config, database.clock.clone()).await;
    let error = opened.map(drop).unwrap_err().in_full();
    assert!(
        error.contains("pgbouncer") && error.contains("SQLSTATE 08P01"),
        "{error}"
    );
    assert!(error.contains("transaction"), "{error}");
}

#[tokio::test]
async fn a_pooler_that_comes_in_between_is_noticed_and_its_url_read_from_the_file() {
    let database = postgres();
    let pooler = pooler(&database, TRANSACTION);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, format!("{}\n", database.url)).unwrap();
    let config = config::Store {
        url_file: Some(file.clone()),
        ..database.config()
    };
    let store = database.open_with(config).await;
    claim(&store.ledger(), "a").await.unwrap();
    let server = database.postgres.as_ref().unwrap();
    std::fs::write(&file, pooler.url(&database.url)).unwrap();
    let cut = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    server.run(&[cut]).unwrap();
    assert!(matches!(claim(&store.ledger(), "b").await, Ok(Claim::New)));
    // The writer has found the pooler, so that the pool keeps nothing in sessions either.
    let limit = text(&store, "SELECT current_setting('statement_timeout')").await;
    assert_eq!(limit, "10s");
    assert_eq!(text(&store, PREPARED).await, "0");
}

#[tokio::test]
async fn behind_a_pooler_lists_are_read_whole_and_broken_off_as_often_as_wanted() {
    let database = postgres();
    let pooler = pooler(&database, TRANSACTION);
    let store = through(&pooler, &database, ENOUGH).await;
    let groups = store.sandbox_groups();
    let made = made(GROUPS, &mut StdRng::seed_from_u64(18));
    fill(&groups, &made).await;
    let (me, all) = (ME.parse().unwrap(), ListGroups::default());
    for _ in 0..5 {
        // More often than the pooler has sessions.
        for _ in 0..3 {
            break_off(&groups).await;
        }
        let whole = groups.of_account(&me, &all).await.unwrap();
        let count = groups.count_of_account(&me).await.unwrap();
        assert_eq!(u64::try_from(whole.len()).unwrap(), count);
    }
}
