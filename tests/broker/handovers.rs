//! Two workers on one queue: the one that executes is asked to stop, and the other takes over, again
//! and again. The order of each group holds, and an orderly stop repeats nothing.

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::worker::{Options, store_in};

use super::crew::{Counts, Crew, endure};
use super::load::Amount;
use super::torture::Chance;

const HANDOVERS: usize = 4;

/// The engine fails often, and each failure means a rest.
fn restless(options: Options) -> Options {
    options
        .set("engine.sandbox.faults.default.error_rate", "0.2")
        .set("retry.within", "0s")
        .set("retry.attempts", "1000")
        .set("topology.delay_tiers", "50ms,100ms,200ms")
}

async fn handed_over(
    what: &str,
    store: &str,
    settings: impl FnOnce(Options) -> Options,
    backlog: usize,
) -> Counts {
    let mut chance = Chance::new();
    println!("{what}: seed {}", chance.seed);
    let ordeal = async |crew: &mut Crew<'_>| {
        for _ in 0..HANDOVERS {
            crew.complete(2).await;
            crew.work(backlog, &mut chance).await;
            crew.dismiss().await;
        }
    };
    let amount = Amount {
        groups: 40,
        backlog,
    };
    endure(what, store, amount, settings, ordeal).await
}

#[tokio::test]
async fn a_queue_that_goes_from_hand_to_hand_keeps_its_order() {
    let database = Postgres::shared().unwrap().database().unwrap();
    let what = "handed over on PostgreSQL";
    handed_over(what, &database.url, |options| options, 500).await;
}

#[tokio::test]
async fn a_queue_that_goes_from_hand_to_hand_over_one_file_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let what = "handed over on SQLite";
    handed_over(what, &store_in(folder.path()), |options| options, 500).await;
}

#[tokio::test]
async fn commands_that_rest_keep_their_order_from_hand_to_hand() {
    let database = Postgres::shared().unwrap().database().unwrap();
    let what = "handed over while commands rest";
    let counts = handed_over(what, &database.url, restless, 200).await;
    assert!(counts.rests > 0);
}
