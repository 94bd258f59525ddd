//! What the store says of each fault of a real server, and that it goes on once the fault is mended.

use std::time::Duration;

use groupmq_test_support::postgres::Postgres;

use super::outages::claim;
use super::{Database, postgres, sqlite};
use crate::config;
use crate::store::db::codes::{self, Class};
use crate::store::ledger::Claim;
use crate::store::{Error, Store};

/// What an administrator does, what is said of it, and how it is mended.
struct Fault {
    /// `{db}` is the database's name.
    begin: &'static [&'static str],
    said: &'static str,
    code: &'static str,
    end: &'static [&'static str],
}

const CUT: &str = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity \
                   WHERE usename = 'groupmq_worker'";

/// Each is waited out: nothing of it is said to be a fault in groupmq.
const FAULTS: &[Fault] = &[
    Fault {
        begin: &["REVOKE INSERT, UPDATE ON ledger FROM groupmq_worker"],
        said: "INSERT, UPDATE on ledger",
        code: "42501",
        end: &["GRANT INSERT, UPDATE ON ledger TO groupmq_worker"],
    },
    Fault {
        begin: &["ALTER TABLE ledger RENAME TO gone"],
        said: "a table is missing",
        code: "42P01",
        end: &["ALTER TABLE gone RENAME TO ledger"],
    },
    Fault {
        begin: &["ALTER TABLE ledger RENAME COLUMN starts TO gone"],
        said: "a column is missing",
        code: "42703",
        end: &["ALTER TABLE ledger RENAME COLUMN gone TO starts"],
    },
    Fault {
        begin: &["ALTER TABLE ledger ALTER COLUMN first_started_at TYPE TEXT"],
        said: "a table was changed meanwhile",
        code: "0A000",
        end: &[
            "ALTER TABLE ledger ALTER COLUMN first_started_at TYPE BIGINT \
             USING first_started_at::BIGINT",
        ],
    },
    Fault {
        begin: &["REVOKE USAGE ON SCHEMA public FROM PUBLIC, groupmq_worker"],
        said: "a table is missing",
        code: "42P01",
        end: &["GRANT USAGE ON SCHEMA public TO groupmq_worker"],
    },
    Fault {
        begin: &["ALTER ROLE groupmq_worker CONNECTION LIMIT 0", CUT],
        said: "no connection left",
        code: "53300",
        end: &["ALTER ROLE groupmq_worker CONNECTION LIMIT -1"],
    },
    Fault {
        begin: &["ALTER ROLE groupmq_worker NOLOGIN", CUT],
        said: "refuses the login",
        code: "28000",
        end: &["ALTER ROLE groupmq_worker LOGIN"],
    },
    Fault {
        begin: &["REVOKE CONNECT ON DATABASE {db} FROM PUBLIC", CUT],
        said: "lacks a right",
        code: "42501",
        end: &["GRANT CONNECT ON DATABASE {db} TO PUBLIC"],
    },
    Fault {
        begin: &[
            "ALTER DATABASE {db} SET default_transaction_read_only = on",
            CUT,
        ],
        said: "takes no changes",
        code: "25006",
        // Its own connections are read-only as well.
        end: &[
            "SET default_transaction_read_only = off",
            "ALTER DATABASE {db} RESET ALL",
        ],
    },
    Fault {
        begin: &["ALTER ROLE groupmq_worker SET search_path = elsewhere", CUT],
        said: "a table is missing",
        code: "42P01",
        end: &["ALTER ROLE groupmq_worker RESET search_path", CUT],
    },
    Fault {
        // Ours count.
        begin: &[
            "ALTER DATABASE {db} SET statement_timeout = 1",
            "ALTER DATABASE {db} SET lock_timeout = 1",
            "ALTER DATABASE {db} SET idle_in_transaction_session_timeout = 1",
            CUT,
        ],
        said: "",
        code: "",
        end: &[],
    },
];

#[tokio::test]
async fn a_fault_is_named_with_what_to_do_and_over_once_it_is_mended() {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let there = database.postgres.as_ref().unwrap();
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/postgres/roles.sql");
    groupmq_test_support::postgres::psql(&there.url, &["-f", roles]).unwrap();
    let role = |role| config::Store {
        url: there.as_role(role).into(),
        ..database.config()
    };
    Store::migrate(&role("groupmq_owner")).await.unwrap();
    let store = database.open_with(role("groupmq_worker")).await;
    let run = |statements: &[&str]| {
        let named: Vec<_> = statements
            .iter()
            .map(|it| it.replace("{db}", there.name()))
            .collect();
        let named: Vec<_> = named.iter().map(String::as_str).collect();
        there.run(&named).unwrap();
    };
    for (n, fault) in FAULTS.iter().enumerate() {
        let id = format!("c-{n}");
        run(fault.begin);
        if !fault.code.is_empty() {
            let error = claim(&store.ledger(), &id).await.expect_err(fault.code);
            assert!(error.is_outage(), "{:?}: {error:?}", fault.begin);
            let said = error.in_full();
            assert!(said.contains(&format!("SQLSTATE {}", fault.code)), "{said}");
            let unready = store.ping().await.unwrap_err().in_full();
            assert!(unready.contains("cannot be used now"), "{unready}");
            assert!(
                said.contains(fault.said) || unready.contains(fault.said),
                "{said}\n{unready}"
            );
        }
        run(fault.end);
        let claimed = claim(&store.ledger(), &id).await;
        assert!(
            matches!(claimed, Ok(Claim::New)),
            "{:?}: {claimed:?}",
            fault.end
        );
        store.ping().await.unwrap();
    }
}

#[tokio::test]
async fn rights_that_only_some_tables_lack_are_named_one_by_one() {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let there = database.postgres.as_ref().unwrap();
    database.open().await;
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO lesser";
    let revoke = "REVOKE DELETE ON pending_events, lanes FROM lesser";
    there
        .run(&["CREATE ROLE lesser LOGIN", grant, revoke])
        .unwrap();
    let config = config::Store {
        url: there.as_role("lesser").into(),
        ..database.config()
    };
    let store = database.open_with(config).await;
    let error = store.ping().await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("DELETE on lanes"), "{said}");
    assert!(said.contains("DELETE on pending_events"), "{said}");
    assert!(!said.contains("ledger"), "{said}");
    there.run(&[grant]).unwrap();
    store.ping().await.unwrap();
}

/// Has the server itself raise an error with a code.
async fn raised(store: &Store, code: &str) -> Error {
    let sql = format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$");
    store.batcher.raw(&sql).await.unwrap_err()
}

#[tokio::test]
async fn every_code_that_the_server_sends_has_its_words_and_its_class() {
    let database = postgres();
    let store = database.open().await;
    for &(start, class, words) in codes::POSTGRES {
        let code = match start {
            "" => "ZZZZZ".to_owned(),
            // No row is about this code itself.
            start => format!("{start:9<5}"),
        };
        let error = raised(&store, &code).await;
        let is_so = match class {
            Class::Outage => matches!(error, Error::Unavailable { .. }),
            Class::Conflict => matches!(error, Error::Contended { .. }),
            Class::Refusal => matches!(error, Error::Refused { .. }),
        };
        assert!(is_so, "{code}: {error:?}");
        if class != Class::Conflict {
            let said = error.to_string();
            assert!(said.contains(words) && said.contains(&code), "{said}");
        }
    }
}

/// The code of what happens to a statement of a store whose limit is short.
async fn ends_with(sql: &[&str], pause: Duration) -> String {
    let database = postgres();
    let config = config::Store {
        timeout: Duration::from_millis(200),
        ..database.config()
    };
    let store = database.open_with(config).await;
    let (last, first) = sql.split_last().unwrap();
    for sql in first {
        store.batcher.raw(sql).await.unwrap();
    }
    tokio::time::sleep(pause).await;
    let error = store.batcher.raw(last).await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    assert!(matches!(claim(&store.ledger(), "a").await, Ok(Claim::New)));
    error.in_full()
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_waited_out() {
    let said = ends_with(&["SELECT pg_sleep(30)"], Duration::ZERO).await;
    assert!(said.contains("57014"), "{said}");
}

#[tokio::test]
async fn a_statement_whose_connection_an_administrator_ends_is_waited_out() {
    let end = "SELECT pg_terminate_backend(pg_backend_pid())";
    let said = ends_with(&[end], Duration::ZERO).await;
    assert!(said.contains("57P01"), "{said}");
}

#[tokio::test]
async fn a_transaction_that_the_server_ends_since_the_process_was_paused_is_waited_out() {
    // The pause is the fault itself; the server notices it in its own time.
    let said = ends_with(&["BEGIN", "SELECT 1"], Duration::from_secs(2)).await;
    assert!(said.contains("25P03"), "{said}");
}

#[tokio::test]
async fn a_password_that_was_changed_is_taken_from_the_file_of_the_url() {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let there = database.postgres.as_ref().unwrap();
    let role = "CREATE ROLE keyed LOGIN SUPERUSER PASSWORD 'first'";
    there.run(&[role]).unwrap();
    server.ask_for_password("keyed").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let config = config::Store {
        url: there.as_role("keyed:first").into(),
        url_file: Some(file.clone()),
        ..database.config()
    };
    std::fs::write(&file, there.as_role("keyed:first")).unwrap();
    let store = database.open_with(config).await;
    claim(&store.ledger(), "a").await.unwrap();
    store.ping().await.unwrap();

    let cut =
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'keyed'";
    there
        .run(&["ALTER ROLE keyed PASSWORD 'second'", cut])
        .unwrap();
    for error in [
        claim(&store.ledger(), "b").await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ] {
        let said = error.in_full();
        assert!(error.is_outage() && said.contains("28P01"), "{said}");
        assert!(!said.contains("first"), "{said}");
    }
    std::fs::write(&file, format!("{}\n", there.as_role("keyed:second"))).unwrap();
    assert!(matches!(claim(&store.ledger(), "b").await, Ok(Claim::New)));
    store.ping().await.unwrap();
    // The pool by itself: it was made with the first password.
    there.run(&[cut]).unwrap();
    store
        .pool
        .fetch("testing", "SELECT 1", Vec::new())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_without_connections_is_named_by_reads_too() {
    let server = Postgres::start().unwrap();
    let database = Database::of(server.database().unwrap());
    let there = database.postgres.as_ref().unwrap();
    there
        .run(&["CREATE ROLE other LOGIN", "CREATE ROLE few LOGIN"])
        .unwrap();
    database.open().await;
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO few";
    there.run(&[grant]).unwrap();
    let config = config::Store {
        url: there.as_role("few").into(),
        timeout: Duration::from_secs(1),
        ..database.config()
    };
    let store = database.open_with(config).await;
    let others = server.exhaust("other").unwrap();
    // Nothing is connected but what migrated; that has gone.
    let error = store.pool.fetch("testing", "SELECT 1", Vec::new()).await;
    let said = error.map(drop).unwrap_err().in_full();
    assert!(said.contains("53300"), "{said}");
    let error = claim(&store.ledger(), "a").await.unwrap_err();
    assert!(
        error.is_outage() && error.in_full().contains("53300"),
        "{error:?}"
    );
    drop(others);
    store.through_outages(|| claim_of(&store)).await.unwrap();
    store.through_outages(|| store.ping()).await.unwrap();
}

async fn claim_of(store: &Store) -> Result<Claim, Error> {
    claim(&store.ledger(), "a").await
}

#[tokio::test]
async fn a_table_that_is_missing_from_the_file_is_said_to_be_missing() {
    let database = sqlite();
    let store = database.open().await;
    claim(&store.ledger(), "a").await.unwrap();
    store
        .batcher
        .raw("ALTER TABLE ledger RENAME TO gone")
        .await
        .unwrap();
    for error in [
        claim(&store.ledger(), "b").await.unwrap_err(),
        store.ping().await.unwrap_err(),
    ] {
        assert!(error.is_outage(), "{error:?}");
        assert!(error.to_string().contains("missing"), "{error}");
    }
    store
        .batcher
        .raw("ALTER TABLE gone RENAME TO ledger")
        .await
        .unwrap();
    assert!(matches!(claim(&store.ledger(), "b").await, Ok(Claim::New)));
    store.ping().await.unwrap();
}
