//! What happens when the database cannot be used, and after it can be again.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::proxy::Proxy;

use super::{Database, both, key, postgres, record, sqlite};
use crate::config;
use crate::contract::Timestamp;
use crate::store::ledger::{Claim, Ledger, PurgeLimits};
use crate::store::{Error, Store};

const PRINT: [u8; 32] = [7; 32];

pub(super) async fn claim(ledger: &Ledger, id: &str) -> Result<Claim, Error> {
    ledger.claim(key(id), PRINT, "me").await
}

#[tokio::test]
async fn a_read_only_database_is_said_to_be_unavailable_and_recovers() {
    for database in both() {
        let store = database.open().await;
        let ledger = store.ledger();
        claim(&ledger, "before").await.unwrap();
        let (off, on) = if database.is_postgres() {
            (
                "SET default_transaction_read_only = on",
                "SET default_transaction_read_only = off",
            )
        } else {
            ("PRAGMA query_only = 1", "PRAGMA query_only = 0")
        };
        store.batcher.raw(off).await.unwrap();
        let error = claim(&ledger, "during").await.unwrap_err();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.is_transient());
        // The connection was given up with the failure, and a new one can write.
        claim(&ledger, "after").await.unwrap();
        store.batcher.raw(on).await.unwrap();
        assert!(matches!(
            claim(&ledger, "during").await.unwrap(),
            Claim::New
        ));
    }
}

#[tokio::test]
async fn a_full_disk_is_said_to_be_unavailable_and_recovers() {
    let database = sqlite();
    let store = database.open().await;
    let ledger = store.ledger();
    claim(&ledger, "a").await.unwrap();
    store
        .batcher
        .raw("PRAGMA max_page_count = 1")
        .await
        .unwrap();
    let large = record(&"x".repeat(1_000_000));
    let error = ledger.complete(key("a"), large.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("full"), "{cause}");
    assert!(ledger.complete(key("a"), large).await.unwrap().is_none());
}

#[tokio::test]
async fn a_store_that_somebody_locks_is_unavailable_until_they_let_go() {
    let database = sqlite();
    let config = config::Store {
        timeout: Duration::from_millis(200),
        ..database.config()
    };
    let store = database.open_with(config).await;
    let other = database.open().await;
    other.batcher.raw("BEGIN EXCLUSIVE").await.unwrap();
    let error = claim(&store.ledger(), "a").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    other.batcher.raw("ROLLBACK").await.unwrap();
    assert!(matches!(
        claim(&store.ledger(), "a").await.unwrap(),
        Claim::New
    ));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_unnoticed() {
    let database = postgres();
    let store = database.open().await;
    claim(&store.ledger(), "a").await.unwrap();
    let server = Postgres::shared().unwrap();
    server
        .cut_connections(database.postgres.as_ref().unwrap())
        .unwrap();
    assert!(matches!(
        claim(&store.ledger(), "a").await.unwrap(),
        Claim::Started { .. }
    ));
    store.ping().await.unwrap();
}

/// A store beyond a proxy, with one connection for reading beside the writer's.
async fn beyond_a_proxy(database: &Database) -> (Store, Proxy) {
    let mut url: url::Url = database.url.parse().unwrap();
    let target = url.socket_addrs(|| Some(5432)).unwrap();
    let proxy = Proxy::start(target[0]).await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.address().port())).unwrap();
    let config = config::Store {
        url: String::from(url).into(),
        url_file: None,
        connections: 1,
        timeout: Duration::from_secs(1),
    };
    (database.open_with(config).await, proxy)
}

/// For what must not wait until the operating system gives a connection up, minutes later.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_purge_that_nobody_answers_holds_commands_up_for_a_moment_only() {
    let database = postgres();
    let (store, proxy) = beyond_a_proxy(&database).await;
    claim(&store.ledger(), "a").await.unwrap();
    proxy.freeze_those("");
    let ledger = store.ledger();
    let epoch = Timestamp(jiff::Timestamp::UNIX_EPOCH);
    let limits = PurgeLimits {
        finished: epoch,
        started: epoch,
    };
    let purged = tokio::time::timeout(SOON, ledger.purge(limits, 10)).await;
    let error = purged.unwrap().unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(store.ping().await.is_err(), "no outage was noted");
    let claimed = tokio::time::timeout(SOON, claim(&ledger, "b")).await;
    assert!(matches!(claimed.unwrap().unwrap(), Claim::New));
}

#[tokio::test]
async fn a_question_that_nobody_answers_is_given_up_with_its_connection() {
    let database = postgres();
    let (store, proxy) = beyond_a_proxy(&database).await;
    store.ping().await.unwrap();
    // It is asked, and the answer does not come through.
    let freeze = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.freeze_those("");
    };
    let sql = "SELECT CAST(pg_sleep(0.9) AS TEXT)";
    let ask = store.pool.fetch("testing", sql, Vec::new());
    let (answer, ()) = tokio::join!(tokio::time::timeout(SOON, ask), freeze);
    let Err(error) = answer.unwrap() else {
        panic!("an answer came through a frozen connection");
    };
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    // Its place in the pool is free again.
    store.ping().await.unwrap();
}

#[tokio::test]
async fn while_the_server_is_down_commands_fail_and_then_go_on() {
    let mut server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let store = database.open().await;
    claim(&store.ledger(), "a").await.unwrap();
    server.stop().unwrap();
    let error = claim(&store.ledger(), "b").await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    server.start_again().unwrap();
    assert!(matches!(
        claim(&store.ledger(), "b").await.unwrap(),
        Claim::New
    ));
    assert!(matches!(
        claim(&store.ledger(), "a").await.unwrap(),
        Claim::Started { .. }
    ));
    store.ping().await.unwrap();
}

#[tokio::test]
async fn a_new_sqlite_file_is_its_owners_alone() {
    let database = sqlite();
    let store = database.open().await;
    claim(&store.ledger(), "a").await.unwrap();
    let path = database.url.strip_prefix("sqlite:").unwrap();
    for path in [path.to_owned(), format!("{path}-wal")] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

#[tokio::test]
async fn workers_that_start_together_migrate_once() {
    // SQLite refuses several that open a new file by chance only.
    let databases = both().into_iter().chain((0..30).map(|_| sqlite()));
    for database in databases {
        let opened = futures_util::future::join_all((0..6).map(|_| database.open())).await;
        for store in opened {
            store.ping().await.unwrap();
            claim(&store.ledger(), "a").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_url_that_names_no_store_is_refused_without_repeating_it() {
    let database = sqlite();
    for url in [
        "mysql://u:secret@h/d",
        "sqlite:",
        "sqlite::memory:",
        "postgres://u:secret@[bad/d",
    ] {
        let config = config::Store {
            url: url.to_owned().into(),
            url_file: None,
            ..database.config()
        };
        let Err(error) = Store::open(&config, database.clock.clone()).await else {
            panic!("{url}")
        };
        let said = format!("{error} {error:?}");
        assert!(
            said.contains("[store.url]") && !said.contains("secret"),
            "{said}"
        );
    }
    let config = config::Store {
        url: "sqlite:/no/such/dir/x.db".to_owned().into(),
        url_file: None,
        ..database.config()
    };
    let Err(error) = Store::open(&config, database.clock.clone()).await else {
        panic!()
    };
    assert!(matches!(
        error,
        Error::Unavailable {
            doing: "creating the database file",
            ..
        }
    ));
}
