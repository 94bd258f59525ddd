//! Workers that are killed at random moments while commands flow: each command is done once, in
//! order, with either store, with one worker and with two.

use groupmq_test_support::pgbouncer::Pgbouncer;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::worker::store_in;

use super::crew::{Crew, endure};
use super::load::Amount;
use super::torture::{self, Chance};

async fn killed_again_and_again(what: &str, store: &str, workers: usize) {
    let mut chance = Chance::new();
    println!("{what}: seed {}", chance.seed);
    let kills = torture::kills(5);
    let ordeal = async |crew: &mut Crew<'_>| {
        while crew.counts.kills < kills {
            crew.complete(workers).await;
            crew.work(300, &mut chance).await;
            crew.lose(&mut chance).await;
        }
        crew.complete(workers).await;
    };
    // More than a worker holds at a time.
    let amount = Amount {
        groups: 25,
        backlog: 500,
    };
    endure(what, store, amount, |options| options, ordeal).await;
}

async fn on_sqlite(what: &str, workers: usize) {
    let folder = tempfile::tempdir().unwrap();
    killed_again_and_again(what, &store_in(folder.path()), workers).await;
}

async fn on_postgres(what: &str, workers: usize) {
    let database = Postgres::shared().unwrap().database().unwrap();
    killed_again_and_again(what, &database.url, workers).await;
}

#[tokio::test]
async fn one_worker_on_sqlite_does_each_command_once_however_often_it_is_killed() {
    on_sqlite("SQLite, one worker", 1).await;
}

#[tokio::test]
async fn two_workers_on_sqlite_do_each_command_once_however_often_they_are_killed() {
    on_sqlite("SQLite, two workers", 2).await;
}

#[tokio::test]
async fn one_worker_on_postgres_does_each_command_once_however_often_it_is_killed() {
    on_postgres("PostgreSQL, one worker", 1).await;
}

#[tokio::test]
async fn two_workers_on_postgres_do_each_command_once_however_often_they_are_killed() {
    on_postgres("PostgreSQL, two workers", 2).await;
}

#[tokio::test]
async fn two_workers_behind_a_pooler_do_each_command_once_however_often_they_are_killed() {
    let database = Postgres::shared().unwrap().database().unwrap();
    // Fewer sessions than connections, so that each serves all.
    let settings = ["pool_mode=transaction", "default_pool_size=3"];
    let pooler = Pgbouncer::start(&database, &settings).unwrap();
    killed_again_and_again("pgbouncer, two workers", &pooler.url(&database.url), 2).await;
}
