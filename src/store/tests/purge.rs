//! The purge: what it takes, and that it holds nobody up.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Database, both, key, record};
use crate::contract::Timestamp;
use crate::store::Store;
use crate::store::ledger::{Claim, PurgeLimits, Record};

const PRINT: [u8; 32] = [7; 32];

fn at(milliseconds: i64) -> Timestamp {
    Timestamp(jiff::Timestamp::from_millisecond(milliseconds).unwrap())
}

/// Everything that was last touched before.
fn before(milliseconds: i64) -> PurgeLimits {
    PurgeLimits {
        finished: at(milliseconds),
        started: at(milliseconds),
    }
}

#[tokio::test]
async fn what_was_begun_and_not_finished_is_remembered_longer() {
    for database in both() {
        let store = database.open().await;
        let ledger = store.ledger();
        ledger.claim(key("begun"), PRINT, "me").await.unwrap();
        for (id, finished) in [("old", 1000), ("older", 1000), ("young", 9000)] {
            ledger.claim(key(id), PRINT, "me").await.unwrap();
            let record = Record {
                at: at(finished),
                ..record("done")
            };
            ledger.complete(key(id), record).await.unwrap();
        }
        let limits = PurgeLimits {
            finished: at(5000),
            started: at(0),
        };
        assert_eq!(ledger.purge(limits, 100).await.unwrap(), 2);
        let left = ledger.claim(key("begun"), PRINT, "you").await.unwrap();
        assert!(matches!(left, Claim::Started { .. }));
        // What came and went after it is not counted.
        assert!(ledger.size().await.unwrap() <= 2);
        assert_eq!(ledger.purge(before(9001), 100).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn the_purge_takes_the_oldest_first_and_spares_the_young() {
    for database in both() {
        let store = database.open().await;
        let ledger = store.ledger();
        for n in 0..10 {
            // Half of them finished (at 1000), half started and left (at 0).
            let id = format!("c{n}");
            ledger.claim(key(&id), PRINT, "me").await.unwrap();
            if n % 2 == 0 {
                ledger.complete(key(&id), record("done")).await.unwrap();
            }
        }
        database.clock.0.store(5000, Ordering::Relaxed);
        ledger.claim(key("young"), PRINT, "me").await.unwrap();
        assert_eq!(ledger.size().await.unwrap(), 11);
        assert_eq!(ledger.purge(before(0), 100).await.unwrap(), 0);
        assert_eq!(ledger.purge(before(1), 100).await.unwrap(), 5);
        assert_eq!(ledger.purge(before(5000), 3).await.unwrap(), 3);
        assert_eq!(ledger.purge(before(5000), 3).await.unwrap(), 2);
        assert_eq!(ledger.purge(before(5000), 3).await.unwrap(), 0);
        let young = ledger.claim(key("young"), PRINT, "you").await.unwrap();
        assert!(matches!(young, Claim::Started { .. }));
    }
}

async fn fill(database: &Database, store: &Store, rows: u32) {
    let numbers = if database.is_postgres() {
        format!("SELECT n FROM generate_series(1, {rows}) AS s(n)")
    } else {
        format!(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) \
             SELECT n FROM s"
        )
    };
    let sql = format!(
        "INSERT INTO ledger (session, command_id, fingerprint, state, owner, started_at, \
         finished_at, record) SELECT 'bulk', CAST(n AS TEXT), '', 'done', '', n, n, '{{}}' \
         FROM ({numbers}) AS numbers"
    );
    store.batcher.raw(&sql).await.unwrap();
}

#[tokio::test]
async fn purging_a_million_rows_in_slices_holds_nobody_up() {
    for database in both() {
        let config = crate::config::Store {
            timeout: Duration::from_mins(2),
            ..database.config()
        };
        let store = database.open_with(config).await;
        // PostgreSQL's writers do not exclude each other, so fewer rows show as much.
        let rows = if database.is_postgres() {
            200_000
        } else {
            1_000_000
        };
        fill(&database, &store, rows).await;
        let ledger = store.ledger();
        let purge = async {
            let mut deleted = 0;
            // A tenth of them; the rest goes the same way.
            while deleted < 100_000 {
                deleted += ledger.purge(before(2_000_000), 1000).await.unwrap();
            }
        };
        let mut slowest = Duration::ZERO;
        let work = async {
            for n in 0..100 {
                let begun = Instant::now();
                ledger
                    .claim(key(&format!("c{n}")), PRINT, "me")
                    .await
                    .unwrap();
                slowest = slowest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::join!(purge, work);
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    }
}

#[tokio::test]
async fn a_record_that_is_kept_counts_as_finished_anew() {
    for database in both() {
        let store = database.open().await;
        let ledger = store.ledger();
        for id in ["kept", "old"] {
            ledger.claim(key(id), PRINT, "me").await.unwrap();
            ledger.complete(key(id), record("done")).await.unwrap();
        }
        database.clock.0.store(5000, Ordering::Relaxed);
        ledger.keep(key("kept")).await.unwrap();
        ledger.keep(key("unknown")).await.unwrap();
        assert_eq!(ledger.purge(before(4000), 100).await.unwrap(), 1);
        let kept = ledger.peek(key("kept"), PRINT).await.unwrap();
        assert!(matches!(kept, Claim::Done(_)), "{kept:?}");
        let old = ledger.peek(key("old"), PRINT).await.unwrap();
        assert!(matches!(old, Claim::New), "{old:?}");
    }
}
