//! A panic outside of what is guarded: the process ends with the reason, and what it had in hand is done by
//! another worker, once.
//!
//! Nothing that a person can do makes the binary panic at a moment of one's choice. So these tests start
//! themselves as that process: the real worker, with an engine that panics.

use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use groupmq::app::{self, Engines};
use groupmq::clock::Clock;
use groupmq::config::{Config, Sources};
use groupmq::contract::{EngineName, ParticipantId};
use groupmq::engines::{Call, Effect, Engine, EngineError, Found};
use groupmq::lifecycle::Ending;
use groupmq::observability::log;
use groupmq::store::Store;
use groupmq::store::ledger::Starts;
use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker, store_in};
use serde_json::json;
use tempfile::TempDir;

use super::scene::{PATIENCE, create, options};
use super::world;

/// In whose environment this stands is that process; its value says where to panic.
const DOOMED: &str = "PANICS_IN";
const TASK: &str = "task";
const THREAD: &str = "thread";

/// A sandbox that panics when the session `default` asks for something, once that has had its effect.
#[derive(Debug)]
struct Panicking(Arc<dyn Engine>);

#[async_trait]
impl Engine for Panicking {
    fn name(&self) -> EngineName {
        self.0.name()
    }

    async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        let effect = self.0.execute(call).await?;
        if call.session.as_str() != "default" {
            return Ok(effect);
        }
        if std::env::var_os(DOOMED).is_some_and(|place| place == THREAD) {
            // As a library's own: it takes nobody along.
            std::thread::spawn(|| panic!("as the test wants"));
            return Ok(effect);
        }
        // A panic of the engine while it executes is caught; not so when it is asked what became of that.
        Err(EngineError::NoAnswer {
            message: "as the test wants".to_owned(),
        })
    }

    async fn account(&self, _: &Call) -> Result<Vec<ParticipantId>, EngineError> {
        Ok(Vec::new())
    }

    async fn find(&self, _: &Call, _: Starts) -> Result<Found, EngineError> {
        panic!("as the test wants");
    }

    async fn check(&self) -> Result<String, EngineError> {
        self.0.check().await
    }
}

fn panicking(config: &Config, store: &Store, clock: Arc<dyn Clock>) -> anyhow::Result<Engines> {
    let engine = app::engine(config, store, clock)?.engine;
    Ok(Engines {
        engine: Arc::new(Panicking(engine)),
        waha: None,
    })
}

/// `groupmq run` with that engine, where this process is to be that.
fn run_if_doomed() {
    if std::env::var_os(DOOMED).is_none() {
        return;
    }
    let config = Sources::from_process(None).load().unwrap();
    let log = log::init(&config.log).unwrap();
    let runtime = app::runtime().unwrap();
    let ending = runtime.block_on(app::run(config, &log, panicking));
    log.finish();
    match ending.unwrap() {
        Ending::Failed(reason) => {
            log::last_words(&reason);
            exit(1)
        }
        Ending::Drained | Ending::Abandoned => exit(0),
    }
}

/// A worker and a producer; the worker is this program, in the test of this name.
struct Place {
    worker: Worker,
    producer: Producer,
    /// Of other workers.
    options: Options,
    store: String,
    _folder: TempDir,
}

impl Place {
    async fn new(test: &str, panics_in: &str) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        let prefix = groupmq_test_support::prefix();
        let folder = tempfile::tempdir().unwrap();
        let store = store_in(folder.path());
        let options = options(&broker.url(), &prefix).set("store.url", &store);
        let this = std::env::current_exe().unwrap();
        let place = format!("{DOOMED}={panics_in}");
        let test = format!("panics::{test}");
        let this = this.to_str().unwrap();
        let front = ["env", &place, this, "--exact", &test, "--nocapture"];
        let front = front.map(str::to_owned);
        // Long enough to look at the process while it ends.
        let slow = "engine.sandbox.faults.second.delay";
        let doomed = options.clone().behind(front).set(slow, "5s");
        Self {
            worker: Worker::start(&doomed).await.unwrap(),
            producer: Producer::connect(&broker.url(), &prefix).await.unwrap(),
            options,
            store,
            _folder: folder,
        }
    }

    /// Has the worker panic over the command `lost`, and sees that it is counted and logged, and that the
    /// process ends with a failing code and this reason, when it has finished what was not concerned.
    async fn assert_ends(&mut self, reason: &str) {
        let looks = Command::new("looks", "ListGroups", "second", &json!({}));
        self.producer.send(looks).await.unwrap();
        let lost = Command::new("lost", "CreateGroup", "default", &create("One"));
        self.producer.send(lost).await.unwrap();
        let begun = Instant::now();
        while panics(&self.worker).await == 0 {
            assert!(begun.elapsed() < PATIENCE, "{}", self.worker.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let code = self.worker.until_ended(PATIENCE).await.unwrap();
        let log = self.worker.log();
        assert_eq!(code, 1, "{log}");
        let line = log.lines().find(|line| line.contains("a panic, which is"));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        let place = line.contains("as the test wants") && line.contains("panics.rs");
        assert!(place, "{line}");
        assert_eq!(log.lines().last(), Some(reason));
        let looks = self.producer.reply("looks").await.unwrap();
        assert_eq!(looks["status"], "ok", "{looks}");
    }

    /// Another worker answers the command, and it has had one effect.
    async fn assert_answered_once(&self) {
        let _other = Worker::start(&self.options).await.unwrap();
        let reply = self.producer.reply("lost").await.unwrap();
        assert_eq!(reply["status"], "ok", "{reply}");
        let groups = world::groups(&self.store).await;
        let effects: Vec<_> = groups.values().map(|group| &group.changed_by).collect();
        assert_eq!(effects, [&["lost"]]);
    }
}

async fn panics(worker: &Worker) -> u64 {
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("groupmq_engine_panics_total "));
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn a_command_whose_task_panics_ends_the_process_and_is_answered_once_by_another() {
    run_if_doomed();
    let test = "a_command_whose_task_panics_ends_the_process_and_is_answered_once_by_another";
    app::runtime().unwrap().block_on(async {
        let mut place = Place::new(test, TASK).await;
        place
            .assert_ends("a task panicked; the log says where")
            .await;
        assert!(place.producer.seen().replies("lost").is_empty());
        place.assert_answered_once().await;
    });
}

#[test]
fn a_thread_of_a_library_that_panics_ends_the_process() {
    run_if_doomed();
    app::runtime().unwrap().block_on(async {
        let mut place =
            Place::new("a_thread_of_a_library_that_panics_ends_the_process", THREAD).await;
        place
            .assert_ends("a thread panicked; the log says where")
            .await;
        place.assert_answered_once().await;
    });
}
