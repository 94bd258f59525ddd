//! A panic in the task of a command, outside of what is guarded: the process ends with the reason, and what
//! it had in hand is done by another worker, once.
//!
//! Nothing that a person can do makes the binary panic. So this test starts itself as that process: the real
//! worker, with an engine that panics.

use std::process::exit;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use groupmq::app::{self, Engines};
use groupmq::clock::Clock;
use groupmq::config::{Config, Sources};
use groupmq::contract::EngineName;
use groupmq::engines::{Call, Engine, EngineError, Executed, Found};
use groupmq::lifecycle::Ending;
use groupmq::observability::log;
use groupmq::store::Store;
use groupmq::store::ledger::Begun;
use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::json;

use super::scene::{PATIENCE, create, options};
use super::world;

/// In whose environment this stands is that process.
const DOOMED: &str = "PANICS_IN_A_COMMAND";

/// Does what the sandbox does, never says so for the session `default`, and panics when asked what became
/// of it.
#[derive(Debug)]
struct Panicking(Arc<dyn Engine>);

#[async_trait]
impl Engine for Panicking {
    fn name(&self) -> EngineName {
        self.0.name()
    }

    async fn execute(&self, call: &Call) -> Result<Executed, EngineError> {
        let executed = self.0.execute(call).await?;
        if call.session.as_str() != "default" {
            return Ok(executed);
        }
        Err(EngineError::NoAnswer {
            message: "as the test wants".to_owned(),
        })
    }

    async fn find(&self, _: &Call, _: Begun) -> Result<Found, EngineError> {
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

/// As `groupmq run`, with that engine.
async fn doomed() -> i32 {
    let config = Sources::from_process(None).load().unwrap();
    let log = log::init(&config.log).unwrap();
    let ending = app::run(config, log.lost(), panicking).await.unwrap();
    log.finish();
    match ending {
        Ending::Failed(reason) => {
            log::last_words(&reason);
            1
        }
        Ending::Drained | Ending::Abandoned => 0,
    }
}

async fn panics(worker: &Worker) -> u64 {
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("groupmq_engine_panics_total "));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_task_panics_ends_the_process_and_is_answered_once_by_another() {
    if std::env::var_os(DOOMED).is_some() {
        exit(doomed().await);
    }
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let options = options(&broker.url(), &prefix)
        .set("store.url", &store)
        .set("engine.sandbox.ledger", "apart");
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let name =
        "panics::a_command_whose_task_panics_ends_the_process_and_is_answered_once_by_another";
    let front = [
        "env",
        &format!("{DOOMED}=1"),
        this,
        "--exact",
        name,
        "--nocapture",
    ];
    let slow = "engine.sandbox.faults.second.delay";
    let panicking = options
        .clone()
        .behind(front.map(str::to_owned))
        .set(slow, "5s");
    let mut worker = Worker::start(&panicking).await.unwrap();
    let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();

    // What keeps the process for long enough to look at it.
    let looks = Command::new("looks", "ListGroups", "second", &json!({}));
    producer.send(looks).await.unwrap();
    let lost = Command::new("lost", "CreateGroup", "default", &create("One"));
    producer.send(lost).await.unwrap();
    let begun = Instant::now();
    while panics(&worker).await == 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", worker.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(worker.until_ended(PATIENCE).await.unwrap(), 1);
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("a panic, which is"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(
        line.contains("as the test wants") && line.contains("panics.rs"),
        "{line}"
    );
    assert_eq!(
        log.lines().last().unwrap(),
        "a task panicked; the log says where"
    );
    // What ran beside it was finished.
    assert_eq!(producer.reply("looks").await.unwrap()["status"], "ok");
    assert!(producer.seen().replies("lost").is_empty());

    let _other = Worker::start(&options).await.unwrap();
    let reply = producer.reply("lost").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    let groups = world::groups(&store).await;
    let effects: Vec<_> = groups.values().map(|group| &group.changed_by).collect();
    assert_eq!(effects, [&["lost"]]);
}
