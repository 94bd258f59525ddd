//! Workers that share a queue and a store, and what they go through while commands flow.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use groupmq_test_support::producer::Producer;
use groupmq_test_support::worker::{Options, Worker};
use rand::Rng as _;

use super::load::{Amount, Load};
use super::scene::{PATIENCE, Scene};
use super::torture::Chance;

/// One executes, the others stand by.
pub(crate) struct Crew<'a> {
    options: Options,
    /// The longest-serving one first: where none was killed, it is the one that executes.
    workers: Vec<Worker>,
    producer: &'a Producer,
    pub(crate) counts: Counts,
}

/// What workers went through.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// How often one was killed.
    pub(crate) kills: usize,
    /// How often one was killed before it was ready.
    pub(crate) early_kills: usize,
    /// How often one was stopped in an orderly way.
    pub(crate) stops: usize,
    /// How often a command rested because the engine failed.
    pub(crate) rests: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} more of a worker that was not ready, {} stops, {} rests",
            self.kills, self.early_kills, self.stops, self.rests
        )
    }
}

impl Crew<'_> {
    /// Waits until some more commands are answered, fewer than `most`, and a little longer: for any
    /// point of the work, and of what is done about a command.
    pub(crate) async fn work(&self, most: usize, chance: &mut Chance) {
        let further = chance.rng.random_range(0..most);
        let until = self.producer.seen().answered() + further;
        self.producer.answered(until, 4 * PATIENCE).await.unwrap();
        pause(chance, 40).await;
    }

    /// Kills one, or all at once; now and then kills one that is just starting, too.
    pub(crate) async fn lose(&mut self, chance: &mut Chance) {
        let lost = if chance.rng.random_bool(0.25) {
            self.workers.drain(..).collect()
        } else {
            let one = chance.rng.random_range(0..self.workers.len());
            vec![self.workers.remove(one)]
        };
        for mut worker in lost {
            worker.kill().unwrap();
            self.counts.kills += 1;
            self.counts.rests += rests(&worker);
            if chance.rng.random_bool(0.2) {
                let mut starting = Worker::spawn(&self.options).unwrap();
                pause(chance, 200).await;
                starting.kill().unwrap();
                self.counts.early_kills += 1;
            }
        }
    }

    /// Asks the one that has been there longest to stop.
    pub(crate) async fn dismiss(&mut self) {
        let mut worker = self.workers.remove(0);
        assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
        self.counts.stops += 1;
        self.counts.rests += rests(&worker);
    }

    /// Starts as many as are missing.
    pub(crate) async fn complete(&mut self, size: usize) {
        while self.workers.len() < size {
            let worker = Worker::start(&self.options).await.unwrap();
            self.workers.push(worker);
        }
    }
}

/// Has workers go through something while commands flow; then sees that each
/// command was done once, in order.
pub(crate) async fn endure(
    what: &str,
    store: &str,
    amount: Amount,
    settings: impl FnOnce(Options) -> Options,
    ordeal: impl AsyncFnOnce(&mut Crew<'_>),
) -> Counts {
    let scene = Scene::shared_with(|options| settings(options.set("store.url", store))).await;
    let mut load = Load::on(scene.groups(amount.groups).await);
    let Scene {
        producer,
        worker,
        options,
        ..
    } = scene;
    let mut crew = Crew {
        producer: &producer,
        options,
        workers: vec![worker],
        counts: Counts::default(),
    };
    let enough = Cell::new(false);
    let going_through = async {
        ordeal(&mut crew).await;
        enough.set(true);
    };
    tokio::join!(load.feed(&producer, amount.backlog, &enough), going_through);
    let counted = load.assert_once_each(&producer, store).await;
    crew.counts.rests += crew.workers.iter().map(rests).sum::<usize>();
    println!("{what}: {}; {counted}", crew.counts);
    crew.counts
}

async fn pause(chance: &mut Chance, most: u64) {
    let pause = chance.rng.random_range(0..most);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

/// How often a command rested, by a worker's log.
fn rests(worker: &Worker) -> usize {
    worker.log().matches("command deferred").count()
}
