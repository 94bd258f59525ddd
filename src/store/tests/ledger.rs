//! The ledger: claims, records, owners, and what a restart leaves.

use super::{both, key, record, sqlite, text};
use crate::store::Error;
use crate::store::ledger::{Claim, Ledger};

const PRINT: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [8; 32];

async fn claim(ledger: &Ledger, id: &str, owner: &str) -> Claim {
    ledger.claim(key(id), PRINT, owner).await.unwrap()
}

#[tokio::test]
async fn a_command_is_new_then_started_then_done() {
    for database in both() {
        let ledger = database.open().await.ledger();
        assert!(matches!(claim(&ledger, "a", "me").await, Claim::New));
        let Claim::Started { owner, .. } = claim(&ledger, "a", "you").await else {
            panic!()
        };
        assert_eq!(&*owner, "me");
        assert!(
            ledger
                .complete(key("a"), record("first"))
                .await
                .unwrap()
                .is_none()
        );
        let Claim::Done(found) = claim(&ledger, "a", "you").await else {
            panic!()
        };
        assert_eq!(text(&found), "\"first\"");
        assert!(matches!(claim(&ledger, "b", "me").await, Claim::New));
    }
}

#[tokio::test]
async fn an_id_with_another_fingerprint_is_reused_whether_started_or_done() {
    for database in both() {
        let ledger = database.open().await.ledger();
        claim(&ledger, "a", "me").await;
        let reused = ledger.claim(key("a"), OTHER, "me").await.unwrap();
        assert!(matches!(reused, Claim::Reused));
        ledger.complete(key("a"), record("done")).await.unwrap();
        let reused = ledger.claim(key("a"), OTHER, "me").await.unwrap();
        assert!(matches!(reused, Claim::Reused));
    }
}

#[tokio::test]
async fn the_first_record_stands() {
    for database in both() {
        let ledger = database.open().await.ledger();
        claim(&ledger, "a", "me").await;
        ledger.complete(key("a"), record("first")).await.unwrap();
        let earlier = ledger
            .complete(key("a"), record("second"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(text(&earlier), "\"first\"");
        let unclaimed = ledger.complete(key("b"), record("x")).await.unwrap_err();
        assert!(matches!(unclaimed, Error::NotClaimed));
    }
}

#[tokio::test]
async fn only_the_owner_releases_and_only_what_is_not_done() {
    for database in both() {
        let ledger = database.open().await.ledger();
        claim(&ledger, "a", "me").await;
        ledger.release(key("a"), "you").await.unwrap();
        assert!(matches!(
            claim(&ledger, "a", "you").await,
            Claim::Started { .. }
        ));
        ledger.release(key("a"), "me").await.unwrap();
        assert!(matches!(claim(&ledger, "a", "you").await, Claim::New));
        ledger.complete(key("a"), record("done")).await.unwrap();
        ledger.release(key("a"), "you").await.unwrap();
        assert!(matches!(claim(&ledger, "a", "you").await, Claim::Done(_)));
    }
}

#[tokio::test]
async fn of_many_that_take_over_one_succeeds() {
    for database in both() {
        let stores = [database.open().await, database.open().await];
        claim(&stores[0].ledger(), "a", "dead").await;
        let tries = (0..20).map(|n| {
            let ledger = stores[n % 2].ledger();
            async move {
                ledger
                    .take_over(key("a"), "dead", &format!("w{n}"))
                    .await
                    .unwrap()
            }
        });
        let taken = futures_util::future::join_all(tries).await;
        assert_eq!(
            taken.iter().filter(|taken| **taken).count(),
            1,
            "{}",
            database.url
        );
    }
}

#[tokio::test]
async fn of_two_workers_that_claim_everything_at_once_each_command_has_one_owner() {
    for database in both() {
        let stores = [database.open().await, database.open().await];
        let claims = (0..400).map(|n: usize| {
            let ledger = stores[n % 2].ledger();
            async move { claim(&ledger, &format!("c{}", n / 4), &format!("w{n}")).await }
        });
        let claims = futures_util::future::join_all(claims).await;
        let new = claims
            .iter()
            .filter(|claim| matches!(claim, Claim::New))
            .count();
        assert_eq!(new, 100, "{}", database.url);
    }
}

#[tokio::test]
async fn the_ledger_survives_a_restart() {
    for database in both() {
        {
            let ledger = database.open().await.ledger();
            claim(&ledger, "a", "me").await;
            claim(&ledger, "b", "me").await;
            ledger.complete(key("a"), record("kept")).await.unwrap();
        }
        let ledger = database.open().await.ledger();
        let Claim::Done(found) = claim(&ledger, "a", "you").await else {
            panic!()
        };
        assert_eq!(text(&found), "\"kept\"");
        assert!(matches!(
            claim(&ledger, "b", "you").await,
            Claim::Started { .. }
        ));
    }
}

#[tokio::test]
async fn what_was_asked_before_the_last_handle_is_dropped_is_written() {
    let database = sqlite();
    let (store, writer) = crate::store::Store::open(&database.config(), database.clock.clone())
        .await
        .unwrap();
    let ledger = store.ledger();
    drop(store);
    let asked = async move {
        let claims = (0..50).map(|n| {
            let ledger = ledger.clone();
            async move { claim(&ledger, &format!("c{n}"), "me").await }
        });
        let claims = futures_util::future::join_all(claims).await;
        claims
            .iter()
            .filter(|claim| matches!(claim, Claim::New))
            .count()
    };
    // The writer ends by itself once the last handle is gone.
    let (new, ()) = tokio::join!(asked, writer);
    assert_eq!(new, 50);
}

#[tokio::test]
async fn starts_are_counted_whoever_has_the_command_and_across_restarts() {
    for database in both() {
        let starts = |claim: Claim| match claim {
            Claim::Started { starts, .. } => starts,
            other => panic!("{other:?}"),
        };
        let first = {
            let ledger = database.open().await.ledger();
            claim(&ledger, "a", "me").await;
            let first = starts(claim(&ledger, "a", "me").await);
            ledger.restart(key("a"), "you").await.unwrap();
            ledger.restart(key("a"), "me").await.unwrap();
            first
        };
        let ledger = database.open().await.ledger();
        assert!(ledger.take_over(key("a"), "me", "you").await.unwrap());
        let twice = starts(claim(&ledger, "a", "you").await);
        assert_eq!((first.times, twice.times), (1, 2), "{}", database.url);
        assert_eq!(first.first, twice.first);
        assert!(twice.last >= first.last);
        // The second one did nothing; the first one may have.
        ledger.release(key("a"), "you").await.unwrap();
        assert_eq!(starts(claim(&ledger, "a", "you").await).times, 1);
        ledger.release(key("a"), "you").await.unwrap();
        assert!(matches!(claim(&ledger, "a", "you").await, Claim::New));
    }
}
