//! A broker, a worker and a producer, put together.

use std::time::Duration;

use groupmq_test_support::producer::{Command, Producer, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Options, Worker};
use serde_json::{Value, json};

/// A machine that compiles at the same time is slow.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A worker that is ready and a producer that listens.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) producer: Producer,
    pub(crate) worker: Worker,
    pub(crate) options: Options,
    pub(crate) prefix: String,
}

impl Scene {
    /// On the shared broker.
    pub(crate) async fn shared() -> Self {
        Self::shared_with(|options| options).await
    }

    /// On the shared broker, with settings.
    pub(crate) async fn shared_with(settings: impl FnOnce(Options) -> Options) -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        Self::at(&broker.url(), settings).await
    }

    /// On any broker, with settings.
    pub(crate) async fn at(url: &str, settings: impl FnOnce(Options) -> Options) -> Self {
        Self::split(url, url, settings).await
    }

    /// The worker and the producer reach the broker in different ways.
    pub(crate) async fn split(
        worker_url: &str,
        producer_url: &str,
        settings: impl FnOnce(Options) -> Options,
    ) -> Self {
        let prefix = groupmq_test_support::prefix();
        let options = options(worker_url, &prefix).with_one_store().unwrap();
        let options = settings(options);
        let worker = Worker::start(&options).await.unwrap();
        let producer = Producer::connect(producer_url, &prefix).await.unwrap();
        Self {
            producer,
            worker,
            options,
            prefix,
        }
    }

    /// Sends a command and waits for its reply.
    pub(crate) async fn call(&self, id: &str, command_type: &str, payload: &Value) -> Value {
        let command = Command::new(id, command_type, "default", payload);
        self.producer.call(command).await.unwrap()
    }

    /// Creates groups and returns their ids.
    pub(crate) async fn groups(&self, count: usize) -> Vec<String> {
        let name = |n| format!("group-{n}");
        let new = |n| Command::new(&name(n), "CreateGroup", "default", &create(&name(n)));
        self.producer
            .send_all((0..count).map(new).collect())
            .await
            .unwrap();
        let mut ids = Vec::new();
        for n in 0..count {
            let reply = self.producer.reply(&name(n)).await.unwrap();
            let id = reply["result"]["id"].as_str();
            ids.push(id.unwrap_or_else(|| panic!("{reply}")).to_owned());
        }
        // Whoever counts answers from here on must not meet one of these.
        let told = |seen: &Seen| {
            let both = |n| seen.replies(&name(n)).iter().any(|it| !it.direct);
            (0..count).all(both).then_some(())
        };
        self.producer.until(PATIENCE, told).await.unwrap();
        ids
    }

    /// Sees that the worker still does what it should.
    pub(crate) async fn assert_works(&self, id: &str) {
        let reply = self.call(id, "ListGroups", &json!({})).await;
        assert_eq!(reply["status"], "ok", "{reply}");
    }
}

/// What a worker or a command of the binary needs to know; few queues, since each costs time.
pub(crate) fn options(url: &str, prefix: &str) -> Options {
    Options::new(env!("CARGO_BIN_EXE_groupmq"), url, prefix).set("topology.delay_tiers", "1s")
}

/// The payload of a `CreateGroup`.
pub(crate) fn create(name: &str) -> Value {
    json!({"name": name, "participants": [{"id": "491700000001@c.us"}]})
}

/// Commands that change the subject of some groups in turn, with ids `<name>-<n>`.
pub(crate) fn subjects(groups: &[String], name: &str, count: usize) -> Vec<Command> {
    let change = |(n, group)| {
        let payload = json!({"groupId": group, "subject": format!("{name} {n}")});
        let id = format!("{name}-{n}");
        Command::new(&id, "SetGroupSubject", "default", &payload)
    };
    let groups = groups.iter().cycle().take(count);
    groups.enumerate().map(change).collect()
}

/// How often something happened because of commands whose ids begin so: one event each for
/// [`subjects`], whatever was published twice.
pub(crate) fn effects(seen: &Seen, name: &str) -> usize {
    let events = seen.events();
    let caused = events.iter().filter(|event| {
        let command = event["payload"]["commandId"].as_str();
        command.is_some_and(|id| id.starts_with(name))
    });
    caused.count()
}
