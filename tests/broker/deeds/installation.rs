//! What deeds are done to: a broker, a store, workers, endpoints and a producer; and what must have become
//! of it in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use groupmq_test_support::postgres::{Database, Postgres};
use groupmq_test_support::producer::{Producer, Seen};
use groupmq_test_support::rabbitmq::{self, RabbitMq};
use groupmq_test_support::receiver::{Answer, Receiver};
use groupmq_test_support::worker::{Options, Worker, store_in};
use parking_lot::Mutex;
use rand::Rng as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::run;
use crate::load::Load;
use crate::scene::{PATIENCE, options};
use crate::sharing;
use crate::torture::Chance;
use crate::world::Remembered;

const WORKERS: usize = 3;

/// Commands that wait or are under way, at most.
const BACKLOG: usize = 200;

/// What leaves a delay queue for an exchange that is not there is offered again only after so long
/// (`dead_letter_worker_publisher_confirm_timeout`), wherever that exchange is by then.
const BROKERS_PATIENCE: Duration = Duration::from_mins(3);

/// The paths of two endpoints: of one that is always well, and of one that often is not.
const STEADY: &str = "/steady";
const FLAPS: &str = "/flaps";

/// With what a process may end by itself: it failed, or the broker refused.
const MAY_END_WITH: [i32; 2] = [1, 5];

/// Where groupmq remembers.
pub(super) enum Backing {
    Postgres(Postgres, Database),
    Sqlite(TempDir),
}

/// The flow of commands.
#[derive(Debug, Default)]
pub(super) struct Tide {
    sent: AtomicUsize,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    is_sending: AtomicBool,
}

/// Everything together.
pub(super) struct Installation {
    pub(super) chance: Chance,
    pub(super) broker: RabbitMq,
    pub(super) backing: Backing,
    pub(super) prefix: String,
    pub(super) options: Options,
    pub(super) workers: Vec<Worker>,
    producer: Arc<Producer>,
    tide: Arc<Tide>,
    /// By path.
    taken: [(&'static str, Taken); 2],
    /// Held for its drop.
    _receiver: Receiver,
}

/// The numbers of the events that an endpoint has taken, by group.
type Taken = Arc<Mutex<BTreeMap<String, BTreeSet<u64>>>>;

impl Tide {
    /// Keeps commands flowing until they are to end.
    pub(super) async fn feed(&self, load: &mut Load, producer: &Producer) {
        self.sent.store(load.count(), Ordering::SeqCst);
        while !self.is_over.load(Ordering::SeqCst) {
            let waiting = load.count() - producer.seen().answered_directly();
            self.is_sending.store(true, Ordering::SeqCst);
            if waiting < BACKLOG && !self.is_calm.load(Ordering::SeqCst) {
                producer.send_all(load.next(20)).await.unwrap();
                self.sent.store(load.count(), Ordering::SeqCst);
            }
            self.is_sending.store(false, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it.
    pub(super) fn ebb(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Installation {
    /// All of it, ready.
    pub(super) async fn start(mut chance: Chance) -> Self {
        let plugin = rabbitmq::Options::default().plugin("rabbitmq_sharding");
        let broker = RabbitMq::start(plugin).await.unwrap();
        let (store, backing) = Backing::by(&mut chance);
        let prefix = groupmq_test_support::prefix();
        let options = sharing::with_sessions(options(&broker.url(), &prefix))
            .set("roles", "commands,webhooks")
            // A line for each command would leave no room for what a failure is explained by.
            .set("log.filter", "info,groupmq::commands=warn")
            .set("topology.shards", "4")
            .set("store.url", store)
            .set("store.timeout", "2s")
            .set("amqp.heartbeat", "2s")
            .set("egress.allow", "127.0.0.0/8")
            .set("delivery.probe_min", "200ms")
            .set("delivery.probe_max", "2s");
        let tide = Arc::<Tide>::default();
        let receiver = Receiver::start().unwrap();
        let (begun, calm) = (Instant::now(), Arc::clone(&tide));
        let flapping = move || {
            let is_down = begun.elapsed().as_secs() % 8 < 3;
            is_down && !calm.is_calm.load(Ordering::SeqCst)
        };
        let taken = [
            (STEADY, endpoint(&receiver, STEADY, || false)),
            (FLAPS, endpoint(&receiver, FLAPS, flapping)),
        ];
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(Worker::start(&options).await.unwrap());
        }
        for path in [STEADY, FLAPS] {
            let payload = format!(r#"{{"url": "{}"}}"#, receiver.url(path));
            let id = path.trim_start_matches('/');
            let set = ["webhooks", "set", id, "--payload", &payload];
            let set = run(&options, &set).await;
            assert_eq!(set.code, 0, "{set:?}");
        }
        let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
        Self {
            chance,
            broker,
            backing,
            prefix,
            options,
            workers,
            producer: Arc::new(producer),
            tide,
            taken,
            _receiver: receiver,
        }
    }

    /// The producer, and its flow of commands.
    pub(super) fn flow(&self) -> (Arc<Producer>, Arc<Tide>) {
        (Arc::clone(&self.producer), Arc::clone(&self.tide))
    }

    /// Waits for a moment of up to so many milliseconds.
    pub(super) async fn a_moment(&mut self, most: u64) {
        let moment = self.chance.rng.random_range(200..most);
        tokio::time::sleep(Duration::from_millis(moment)).await;
    }

    /// Takes one worker out.
    pub(super) fn take_a_worker(&mut self) -> Worker {
        let one = self.chance.rng.random_range(0..self.workers.len());
        self.workers.remove(one)
    }

    /// Starts another worker in the place of one that has ended.
    pub(super) fn replace(&mut self, worker: &Worker) {
        assert_no_fault(worker);
        self.workers.push(Worker::spawn(&self.options).unwrap());
    }

    /// Has the flow of commands rest until nothing waits in any queue.
    pub(super) async fn calm_down(&mut self) {
        self.tide.is_calm.store(true, Ordering::SeqCst);
        let begun = Instant::now();
        while self.tide.is_sending.load(Ordering::SeqCst) || !self.is_drained().await {
            let is_late = begun.elapsed() > BROKERS_PATIENCE + 2 * PATIENCE;
            assert!(!is_late, "something waits for good: {}", self.waits().await);
            // As often as the broker counts.
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.look_after();
        }
    }

    /// What waits, for somebody who has to find out why.
    async fn waits(&self) -> String {
        let (sent, seen) = (self.tide.sent.load(Ordering::SeqCst), self.producer.seen());
        let depths = self.broker.queue_depths().await;
        format!(
            "{} of {sent} are answered; {depths:?}",
            seen.answered_directly()
        )
    }

    /// Waits until there is a queue of this name.
    pub(super) async fn until_there(&self, name: &str) {
        let (name, begun) = (format!("{}.{name}", self.prefix), Instant::now());
        while !self
            .broker
            .queue_depths()
            .await
            .unwrap()
            .contains_key(&name)
        {
            assert!(begun.elapsed() < PATIENCE, "{name} does not come back");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Goes on with it.
    pub(super) fn rise(&self) {
        self.tide.is_calm.store(false, Ordering::SeqCst);
    }

    /// Whether everything is answered, and no queue of the prefix has had anything for some seconds.
    async fn is_drained(&self) -> bool {
        // What is deferred moves between two queues, and the broker may count each of them when it is elsewhere.
        for _ in 0..5 {
            let sent = self.tide.sent.load(Ordering::SeqCst);
            let depths = self.broker.queue_depths().await.unwrap();
            let own = format!("{}.", self.prefix);
            let waits = |(queue, depth): (&String, &u64)| queue.starts_with(&own) && *depth > 0;
            if self.producer.seen().answered_directly() < sent || depths.iter().any(waits) {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        true
    }

    /// Starts anew what has ended by itself, as Kubernetes does; it must have said why.
    pub(super) fn look_after(&mut self) {
        let mut workers = Vec::new();
        for mut worker in std::mem::take(&mut self.workers) {
            let Some(status) = worker.ended().unwrap() else {
                workers.push(worker);
                continue;
            };
            let (code, log) = (status.code(), worker.log_tail());
            assert!(
                code.is_some_and(|code| MAY_END_WITH.contains(&code)),
                "{status}\n{log}"
            );
            let reason = log.lines().last().unwrap_or_default();
            assert!(reason.starts_with("groupmq: "), "{status}\n{log}");
            println!("          ended by itself: {status}: {reason}");
            assert_no_fault(&worker);
            workers.push(Worker::spawn(&self.options).unwrap());
        }
        self.workers = workers;
    }

    /// Waits until all that was begun is done, and sees what became of everything.
    pub(super) async fn assert_whole(mut self, load: &Load) {
        let begun = Instant::now();
        self.look_after();
        for worker in &mut self.workers {
            worker.until_ready(PATIENCE).await.unwrap();
        }
        let all = load.count();
        let answered = |seen: &Seen| (seen.answered_directly() >= all).then_some(());
        let answered = self
            .producer
            .until(BROKERS_PATIENCE + 2 * PATIENCE, answered);
        if let Err(error) = answered.await {
            panic!("{error:#}\n{}", self.waits().await);
        }
        let store = self.backing.url();
        let world = load.assert_effects(&self.producer, &store).await;
        assert_rising(&self.producer.seen().events());
        for (path, taken) in &self.taken {
            assert_delivered(path, taken, &world).await;
        }
        let dead = self.producer.dead_letters().await.unwrap();
        assert!(dead.is_empty(), "{dead:?}");
        // What was deleted and nobody has needed since comes back with the next look at the topology.
        let begun_to_look = Instant::now();
        loop {
            let doctor = run(&self.options, &["doctor"]).await;
            if doctor.code == 0 {
                break;
            }
            assert!(begun_to_look.elapsed() < 2 * PATIENCE, "{doctor:?}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for worker in &mut self.workers {
            worker.until_ready(PATIENCE).await.unwrap();
            assert_no_fault(worker);
        }
        println!(
            "{all} commands; all was well after {:?}; {:?}",
            begun.elapsed(),
            self.producer.seen()
        );
    }
}

/// Waits until an endpoint has taken each event of each group.
async fn assert_delivered(path: &str, taken: &Taken, world: &BTreeMap<String, Remembered>) {
    let begun = Instant::now();
    for (group, it) in world {
        loop {
            let taken = taken.lock().get(group).cloned();
            let taken = taken.unwrap_or_default();
            let missing: Vec<_> = (1..=it.events()).filter(|n| !taken.contains(n)).collect();
            if missing.is_empty() {
                break;
            }
            let is_late = begun.elapsed() > 2 * PATIENCE;
            assert!(!is_late, "{path}: {group} lacks {missing:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Has an endpoint take events, unless it is down.
fn endpoint(receiver: &Receiver, path: &str, is_down: impl Fn() -> bool + Send + 'static) -> Taken {
    let taken = Taken::default();
    let list = Arc::clone(&taken);
    receiver.rule(path, move |delivered| {
        if is_down() {
            return Answer::status(503);
        }
        let event = serde_json::from_slice(&delivered.body).unwrap();
        if let Some((group, sequence)) = place(&event) {
            let mut taken = list.lock();
            taken.entry(group).or_default().insert(sequence);
        }
        Answer::status(204)
    });
    taken
}

impl Drop for Installation {
    #[expect(clippy::print_stderr, reason = "what a failed test is explained by")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.broker.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(60)..).unwrap_or(&[]);
            eprintln!("--- the end of the broker's log\n{}", end.join("\n"));
        }
    }
}

impl Backing {
    fn by(chance: &mut Chance) -> (String, Self) {
        let backing = if chance.rng.random_bool(0.5) {
            let server = Postgres::start().unwrap();
            let database = server.database().unwrap();
            Self::Postgres(server, database)
        } else {
            Self::Sqlite(tempfile::tempdir().unwrap())
        };
        (backing.url(), backing)
    }

    /// Where it is.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(_, database) => database.url.clone(),
            Self::Sqlite(folder) => store_in(folder.path()),
        }
    }
}

/// The group of an event, and its number there; none of what tells of an endpoint.
fn place(event: &Value) -> Option<(String, u64)> {
    let payload = &event["payload"];
    let group = payload["chatId"].as_str();
    let group = group.or(payload["group"]["id"].as_str())?;
    Some((group.to_owned(), payload["sequence"].as_u64()?))
}

/// Sees that a listener's events came in the order of each group.
fn assert_rising(events: &[Value]) {
    let mut last = BTreeMap::new();
    for (group, sequence) in events.iter().filter_map(place) {
        let before = last.insert(group, sequence);
        assert!(before < Some(sequence), "{sequence} after {before:?}");
    }
}

/// Sees that a worker met nothing that is its own fault.
fn assert_no_fault(worker: &Worker) {
    let log = worker.log();
    // The second one is the loader's, of a clock that is not wrong after all.
    let faults = ["fault in groupmq", "cannot be preloaded"];
    let is_fault = |line: &&str| faults.iter().any(|fault| line.contains(fault));
    assert_eq!(log.lines().find(is_fault), None);
}
