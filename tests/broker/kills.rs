//! Workers that are killed while commands flow: each command is done once, in order.

use std::cell::Cell;
use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::worker::{Options, Worker, store_in};
use rand::Rng as _;

use super::load::Load;
use super::scene::{PATIENCE, Scene};
use super::torture::{self, Chance};

/// How many groups the commands are about.
const GROUPS: usize = 25;

/// Workers on one queue and one store: one executes, the others stand by.
struct Crew {
    options: Options,
    workers: Vec<Worker>,
    /// How often one of them was killed, and how often before it was ready.
    killed: usize,
    unready: usize,
}

impl Crew {
    /// Kills one of them, or all at once, and starts them again; now and then kills what is just
    /// starting, too.
    async fn lose(&mut self, chance: &mut Chance) {
        let all = chance.rng.random_bool(0.25);
        let one = chance.rng.random_range(0..self.workers.len());
        let lost = if all {
            0..self.workers.len()
        } else {
            one..one + 1
        };
        for number in lost.clone() {
            self.workers[number].kill().unwrap();
            self.killed += 1;
        }
        for number in lost {
            if chance.rng.random_bool(0.2) {
                let mut starting = Worker::spawn(&self.options).unwrap();
                pause(chance, 200).await;
                starting.kill().unwrap();
                self.unready += 1;
            }
            self.workers[number] = Worker::start(&self.options).await.unwrap();
        }
    }
}

async fn pause(chance: &mut Chance, most: u64) {
    let pause = chance.rng.random_range(0..most);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// Kills workers at random moments under load, then sees what they have left behind.
async fn killed_again_and_again(what: &str, store: &str, workers: usize) {
    let kills = torture::kills(6);
    let mut chance = Chance::new();
    println!("{what}: seed {}", chance.seed);
    let scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let mut load = Load::on(scene.groups(GROUPS).await);
    let Scene {
        producer,
        worker,
        options,
        ..
    } = scene;
    let mut crew = Crew {
        options,
        workers: vec![worker],
        killed: 0,
        unready: 0,
    };
    while crew.workers.len() < workers {
        crew.workers
            .push(Worker::start(&crew.options).await.unwrap());
    }
    let enough = Cell::new(false);
    let losing = async {
        while crew.killed < kills {
            // At any point of the work, and of what is done about a command.
            let further = chance.rng.random_range(0..300);
            let until = producer.seen().answered() + further;
            producer.answered(until, PATIENCE).await.unwrap();
            pause(&mut chance, 40).await;
            crew.lose(&mut chance).await;
        }
        enough.set(true);
    };
    tokio::join!(load.feed(&producer, &enough), losing);
    let counted = load.assert_once_each(&producer, store).await;
    println!(
        "{what}: {} kills and {} more before it was ready; {counted}",
        crew.killed, crew.unready,
    );
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
