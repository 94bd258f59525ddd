//! Commands that are lost while they rest: each is missed once, named, and may be sent again. What merely
//! waits is not missed.

use std::time::{Duration, Instant};

use groupmq_test_support::producer::{Command, Producer, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker, store_in};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::run;
use super::queues::Queues;
use super::scene::{PATIENCE, create, effects, options};

const LOST_AFTER: Duration = Duration::from_secs(1);

/// The session's commands cannot be done while this is `true`.
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
    /// Commands rest for three seconds, in a group that is there already.
    async fn with(settings: impl FnOnce(Options) -> Options) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        let (folder, prefix) = (tempfile::tempdir().unwrap(), groupmq_test_support::prefix());
        let options = options(&broker.url(), &prefix)
            .set("store.url", store_in(folder.path()))
            .set("topology.delay_tiers", "3s")
            .set("topology.shards", "2")
            .set("retry.within", "0s")
            .set("retry.lost_after", format!("{}s", LOST_AFTER.as_secs()));
        let options = settings(options);
        let mut worker = Worker::start(&options).await.unwrap();
        let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
        let command = Command::new("make", "CreateGroup", "second", &create("group"));
        let made = producer.call(command).await.unwrap();
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
    async fn rest(&self, ids: &[&str]) {
        let commands = ids.iter().map(|id| self.rename(id)).collect();
        self.producer.send_all(commands).await.unwrap();
        let queues = Queues::connect(&self.broker.url()).await;
        let (queue, count) = (self.delay(), u32::try_from(ids.len()).ok());
        self.until("all rest", async || queues.ready(&queue).await == count)
            .await;
    }

    async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !is_so().await {
            let log = self.worker.log();
            assert!(begun.elapsed() < PATIENCE, "not yet: {what}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_lost(&self, count: u64) {
        self.until("the commands are missed", async || {
            self.lost().await >= count
        })
        .await;
    }

    /// Lets the worker look a few times more.
    async fn looks(&self) {
        tokio::time::sleep(3 * LOST_AFTER).await;
    }

    fn delay(&self) -> String {
        format!("{}.delay.3s", self.prefix)
    }

    /// How often the log says that commands are lost, and that one of them is.
    fn told(&self, id: &str) -> (usize, usize) {
        let log = self.worker.log();
        let lines = || {
            log.lines()
                .filter(|line| line.contains("a deferred command did not return"))
        };
        let of_it = lines().filter(|line| line.contains(&format!("command_id=\"{id}\"")));
        (lines().count(), of_it.count())
    }

    async fn answered(&self, id: &str) {
        let reply = self.producer.reply(id).await.unwrap();
        assert_eq!(reply["status"], "ok", "{reply}");
    }

    /// How many commands are lost, by the metric.
    async fn lost(&self) -> u64 {
        let (_, metrics) = self.worker.get("/metrics").await.unwrap();
        let name = "groupmq_resting_commands_lost_total ";
        let found = metrics.lines().find_map(|line| line.strip_prefix(name));
        found
            .unwrap_or_else(|| panic!("{metrics}"))
            .parse()
            .unwrap()
    }

    /// The first `count` commands that have changed the group, in the order of their events. An event may
    /// reach its queue after the reply has reached another.
    async fn changes(&self, count: usize) -> Vec<String> {
        let changes = |seen: &Seen| {
            let changed = seen.events().into_iter().filter_map(|it| {
                let payload = &it["payload"];
                let is_change = it["event"] == "group.v2.update" && it["session"] == "second";
                is_change.then(|| payload["commandId"].as_str().unwrap().to_owned())
            });
            let changed: Vec<_> = changed.collect();
            (changed.len() >= count).then_some(changed)
        };
        self.producer.until(PATIENCE, changes).await.unwrap()
    }

    /// Starts the worker anew, with an engine that works or does not.
    async fn restart(&mut self, outage: bool) {
        self.worker.stop().await.unwrap();
        self.options = self.options.clone().set(OUTAGE, outage.to_string());
        self.worker = Worker::start(&self.options).await.unwrap();
    }

    /// What `doctor` says of deferred commands, and whether that is well.
    async fn doctor(&self) -> (bool, String) {
        let ran = run(&self.options, &["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let resting = checks.iter().find(|it| it["name"] == "resting").unwrap();
        let finding = resting["finding"].as_str().unwrap().to_owned();
        (resting["ok"] == true, finding)
    }
}

#[tokio::test]
async fn a_command_that_was_alone_in_its_group_is_missed_once_when_its_delay_queue_is_purged() {
    let mut stage = Stage::with(|options| options).await;
    assert_eq!(stage.lost().await, 0);
    stage.rest(&["alone"]).await;
    assert_eq!(stage.doctor().await.1, "deferred commands: 1, overdue: 0");
    stage
        .broker
        .ctl(&["purge_queue", &stage.delay()])
        .await
        .unwrap();

    stage.until_lost(1).await;
    stage.looks().await;
    assert_eq!(stage.lost().await, 1);
    assert_eq!(stage.told("alone"), (1, 1), "{}", stage.worker.log());
    let (well, finding) = stage.doctor().await;
    assert!(!well, "{finding}");
    assert!(
        finding.contains("alone (SetGroupSubject, session second)"),
        "{finding}"
    );

    // Another process does not miss it again, and the producer may send it again.
    stage.restart(false).await;
    stage.looks().await;
    assert_eq!(stage.lost().await, 0);
    stage.producer.send(stage.rename("alone")).await.unwrap();
    stage.answered("alone").await;
    let (well, finding) = stage.doctor().await;
    assert!(well, "{finding}");
    assert_eq!(finding, "deferred commands: 0, overdue: 0");
    let came = |seen: &_| (effects(seen, "alone") == 1).then_some(());
    stage.producer.until(PATIENCE, came).await.unwrap();
}

#[tokio::test]
async fn each_command_of_a_group_is_missed_once_when_a_policy_lets_their_delay_queue_expire() {
    let mut stage = Stage::with(|options| options).await;
    let ids = ["first", "second", "third"];
    stage.rest(&ids).await;
    let pattern = format!("^{}$", stage.delay().replace('.', "\\."));
    let policy = [
        "set_policy",
        "--apply-to",
        "queues",
        "--priority",
        "9",
        &stage.prefix,
        &pattern,
        r#"{"expires":500}"#,
    ];
    stage.broker.ctl(&policy).await.unwrap();
    stage.until_lost(3).await;
    stage
        .broker
        .ctl(&["clear_policy", &stage.prefix])
        .await
        .unwrap();
    stage.looks().await;
    assert_eq!(stage.lost().await, 3);
    for id in ids {
        assert_eq!(stage.told(id), (3, 1), "{}", stage.worker.log());
        assert!(stage.doctor().await.1.contains(id));
    }
    let (_, metrics) = stage.worker.get("/metrics").await.unwrap();
    assert!(metrics.contains("groupmq_lanes_paused 0"), "{metrics}");

    // Their group goes on.
    stage.restart(false).await;
    for id in ["next", "first", "second", "third"] {
        stage.producer.send(stage.rename(id)).await.unwrap();
        stage.answered(id).await;
    }
    let (well, finding) = stage.doctor().await;
    assert!(well, "{finding}");
}

#[tokio::test]
async fn a_deleted_delay_queue_is_no_reason_to_wait_longer() {
    let stage = Stage::with(|options| options).await;
    stage.rest(&["gone"]).await;
    stage
        .broker
        .ctl(&["delete_queue", &stage.delay()])
        .await
        .unwrap();
    stage.until_lost(1).await;
    assert_eq!(stage.told("gone"), (1, 1), "{}", stage.worker.log());
    let (status, why) = stage.worker.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "{why}");
}

#[tokio::test]
async fn what_waits_while_no_worker_runs_is_not_lost() {
    let mut stage = Stage::with(|options| options).await;
    stage.rest(&["one", "two"]).await;
    stage.worker.kill().unwrap();
    // Until long after they are back in the command queue.
    tokio::time::sleep(Duration::from_secs(3) + 5 * LOST_AFTER).await;
    stage.options = stage.options.clone().set(OUTAGE, "false");
    stage.worker = Worker::start(&stage.options).await.unwrap();
    for id in ["one", "two"] {
        stage.answered(id).await;
    }
    stage.looks().await;
    assert_eq!(stage.lost().await, 0);
    assert_eq!(stage.doctor().await.1, "deferred commands: 0, overdue: 0");
}

#[tokio::test]
async fn what_waits_behind_a_backlog_is_not_lost() {
    // All hands are full, and the command queue is not empty, for ten seconds.
    let stage = Stage::with(|options| {
        options
            .set("topology.shards", "1")
            .set("amqp.prefetch", "2")
            .set("executor.concurrency", "1")
            .set("engine.sandbox.faults.default.delay", "500ms")
    })
    .await;
    stage.rest(&["late"]).await;
    let slow = |n: usize| Command::new(&format!("slow-{n}"), "ListGroups", "default", &json!({}));
    stage
        .producer
        .send_all((0..20).map(slow).collect())
        .await
        .unwrap();
    stage.answered("slow-19").await;
    assert_eq!(stage.lost().await, 0, "{}", stage.worker.log());
    assert_eq!(stage.told("late"), (0, 0));
}

#[tokio::test]
async fn lost_commands_that_come_back_after_all_have_their_one_effect_in_order() {
    let mut stage = Stage::with(|options| options).await;
    stage.rest(&["first", "second"]).await;
    // Somebody has them in hand, where neither worker nor broker can see them.
    let thief = Queues::connect(&stage.broker.url()).await;
    thief.hold(&stage.delay(), 2).await;
    stage.until_lost(2).await;
    stage.restart(false).await;
    stage.producer.send(stage.rename("third")).await.unwrap();
    stage.answered("third").await;
    stage.producer.send(stage.rename("first")).await.unwrap();
    stage.answered("first").await;
    thief.release().await;
    stage.answered("second").await;
    let again = |seen: &Seen| (seen.replies("first").len() >= 4).then_some(());
    stage.producer.until(PATIENCE, again).await.unwrap();
    assert_eq!(stage.changes(3).await, ["third", "first", "second"]);
    let (well, finding) = stage.doctor().await;
    assert!(well, "{finding}");
    assert_eq!(stage.lost().await, 0);
}

#[tokio::test]
async fn what_is_deferred_while_its_delay_queue_is_away_gets_there_once_there_is_one_again() {
    for mode in ["declare", "passive"] {
        let mut stage = Stage::with(|options| options).await;
        stage.options = stage.options.clone().set("topology.mode", mode);
        stage.restart(true).await;
        let delete = ["delete_queue", &stage.delay()];
        stage.broker.ctl(&delete).await.unwrap();
        let ids: Vec<_> = (0..30).map(|n| format!("change-{n}")).collect();
        let commands = ids.iter().map(|id| stage.rename(id)).collect();
        stage.producer.send_all(commands).await.unwrap();
        // Dead letters and answers are not held up by that.
        let wrong = Command::new("wrong", "CreateGroup", "default", &json!({}));
        let reply = stage.producer.call(wrong).await.unwrap();
        assert_eq!(reply["status"], "error", "{reply}");
        assert_eq!(stage.producer.dead_letters().await.unwrap().len(), 1);
        if mode == "passive" {
            let is_named = async || {
                let (status, said) = stage.worker.get("/readyz").await.unwrap();
                status == 503 && said.contains(&format!("queue {}", stage.delay()))
            };
            stage.until("the queue is named", is_named).await;
            // They are looked for in vain meanwhile, if they count as deferred.
            stage.looks().await;
            let declared = stage.options.clone().set("topology.mode", "declare");
            let applied = run(&declared, &["topology", "apply"]).await;
            assert_eq!(applied.code, 0, "{applied:?}");
        }
        stage.worker.until_ready(PATIENCE).await.unwrap();
        stage
            .until("all are deferred", async || {
                stage.doctor().await.1.contains("deferred commands: 30")
            })
            .await;
        assert_eq!(stage.lost().await, 0, "{}", stage.worker.log());
        stage.restart(false).await;
        for id in &ids {
            stage.answered(id).await;
        }
        assert_eq!(stage.changes(ids.len()).await, ids, "{mode}");
        assert_eq!(stage.lost().await, 0, "{}", stage.worker.log());
    }
}
