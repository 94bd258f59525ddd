//! Commands that are lost while they rest: each is missed once, named, and may be sent again. What merely
//! waits is not missed.

use std::time::Duration;

use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker, store_in};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::run;
use super::queues::Queues;
use super::scene::{PATIENCE, create, effects, options};

/// A group's commands cannot be done while this is `true`.
const OUTAGE: &str = "engine.sandbox.faults.second.outage";

/// A worker whose commands for the session `second` rest.
struct Stage {
    broker: &'static RabbitMq,
    producer: Producer,
    worker: Worker,
    options: Options,
    prefix: String,
    group: String,
    _folder: TempDir,
}

impl Stage {
    /// Commands rest for `tier`, in a group that is there already.
    async fn with(tier: &str, settings: impl FnOnce(Options) -> Options) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        let (folder, prefix) = (
            tempfile::tempdir().unwrap(),
            groupmq_test_support::prefix(),
        );
        let options = options(&broker.url(), &prefix)
            .set("store.url", store_in(folder.path()))
            .set("topology.delay_tiers", tier)
            .set("topology.shards", "2")
            .set("retry.within", "0s")
            .set("retry.lost_after", "1s");
        let options = settings(options);
        let mut worker = Worker::start(&options).await.unwrap();
        let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
        let make = Command::new("make", "CreateGroup", "second", &create("group"));
        let made = producer.call(make).await.unwrap();
        let group = made["result"]["id"].as_str().unwrap().to_owned();
        worker.stop().await.unwrap();
        let options = options.set(OUTAGE, "true");
        Self {
            broker,
            producer,
            worker: Worker::start(&options).await.unwrap(),
            options,
            prefix,
            group,
            _folder: folder,
        }
    }

    fn rename(&self, id: &str) -> Command {
        let payload = json!({"groupId": self.group, "subject": id});
        Command::new(id, "SetGroupSubject", "second", &payload)
    }

    /// Sends commands, each of which then rests.
    async fn rest(&self, commands: Vec<Command>) {
        let count = commands.len();
        self.producer.send_all(commands).await.unwrap();
        let queue = self.delay();
        self.until("all rest", async || self.waiting(&queue).await == count)
            .await;
    }

    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !is_so().await {
            let log = self.worker.log();
            assert!(begun.elapsed() < PATIENCE, "not yet: {what}\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn delay(&self) -> String {
        let tier = self.prefix.clone() + ".delay.";
        format!("{tier}3000")
    }

    async fn waiting(&self, queue: &str) -> usize {
        let queues = Queues::connect(&self.broker.url()).await;
        queues.ready(queue).await
    }

    /// How many commands are lost, by the metric.
    async fn lost(&self) -> u64 {
        let (_, metrics) = self.worker.get("/metrics").await.unwrap();
        let name = "groupmq_resting_commands_lost_total ";
        let mut lines = metrics.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.parse().ok())
            .unwrap_or_default()
    }

    /// Starts the worker anew, with an engine that works or does not.
    async fn restart(&mut self, outage: bool) {
        self.worker.stop().await.unwrap();
        self.options = self.options.clone().set(OUTAGE, outage.to_string());
        self.worker = Worker::start(&self.options).await.unwrap();
    }

    /// What `doctor` says of commands that rest, and whether that is well.
    async fn doctor(&self) -> (bool, String) {
        let ran = run(&self.options, &["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let resting = checks.iter().find(|it| it["name"] == "resting").unwrap();
        let finding = resting["finding"].as_str().unwrap().to_owned();
        (resting["ok"] == true, finding)
    }
}
