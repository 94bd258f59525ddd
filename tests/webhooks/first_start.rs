//! The first start: commands wait already, and not one of their events is missed by an endpoint, whichever
//! process begins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use groupmq::amqp::{Names, Target};
use groupmq::clock::{Clock as _, SystemClock};
use groupmq::config::Sources;
use groupmq::contract::{Event, SessionName, SigningSecret, Timestamp};
use groupmq::fanout::{self, Fanout};
use groupmq::store::Store;
use groupmq::store::endpoints::{NewEndpoint, Origin};
use groupmq::store::known_groups::Notification;
use groupmq_test_support::announcer::Announcement;
use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Receiver;
use groupmq_test_support::worker::{Options, Worker, store_in};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::scene::{PATIENCE, open, quick, settings, store_at};

const COMMANDS: usize = 500;

/// What one command of [`create`] causes, in the order of the names.
const EVENTS: [&str; 2] = ["group.join", "group.v2.join"];

/// Nothing has run yet, but the store, the broker and a receiver are there.
struct Start {
    url: String,
    prefix: String,
    options: Options,
    receiver: Receiver,
    folder: TempDir,
}

impl Start {
    async fn shared() -> Self {
        let broker = RabbitMq::shared().await.unwrap();
        Self::at(&broker.url())
    }

    fn at(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let prefix = groupmq_test_support::prefix();
        Self {
            // A first attempt that fails must not be made up for by quick ones.
            options: quick(url, &prefix)
                .set("delivery.probe_min", "5s")
                .set("delivery.probe_max", "30s")
                .set("store.url", store_in(folder.path())),
            url: url.to_owned(),
            prefix,
            receiver: Receiver::start().unwrap(),
            folder,
        }
    }

    /// The same settings, and an endpoint at `/hook` beside them.
    fn with_endpoint(&self) -> Options {
        let file = self.folder.path().join("groupmq.toml");
        let url = self.receiver.url("/hook");
        let endpoint = format!("[[webhooks]]\nid = \"hook\"\nurl = \"{url}\"\n");
        std::fs::write(&file, endpoint).unwrap();
        self.options.clone().file(&file)
    }

    /// Has commands wait in their queue, and the broker have nothing else: no exchange that an endpoint's
    /// queue could be bound to, and much to declare.
    async fn commands_wait(&self) -> Producer {
        let pieces = run(&self.options, &["topology", "apply"]).await;
        let producer = Producer::connect(&self.url, &self.prefix).await.unwrap();
        let commands = (0..COMMANDS).map(create).collect();
        producer.send_all(commands).await.unwrap();
        let (_connection, channel) = channel(&self.url).await;
        let kept = ["commands", "commands.0", "replies"];
        for piece in pieces.lines() {
            let mut words = piece.split_whitespace();
            let (Some(kind), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            if kept
                .iter()
                .any(|it| name == format!("{}.{it}", self.prefix))
            {
                continue;
            }
            match kind {
                "exchange" => {
                    let options = ExchangeDeleteOptions::default();
                    channel.exchange_delete(name.into(), options).await.unwrap();
                }
                "queue" => delete_queue(&channel, name).await,
                _ => {}
            }
        }
        producer
    }

    /// Waits for every event of every command.
    async fn all_arrive(&self) {
        let all = COMMANDS * EVENTS.len();
        self.receiver
            .takes("/hook", all, 2 * PATIENCE)
            .await
            .unwrap();
        let mut seen = BTreeMap::<String, BTreeSet<String>>::new();
        for delivered in self.receiver.got("/hook") {
            let event: Value = serde_json::from_slice(&delivered.body).unwrap();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let command = text(&event["payload"]["commandId"]);
            seen.entry(command)
                .or_default()
                .insert(text(&event["event"]));
        }
        assert_eq!(seen.len(), COMMANDS);
        for (command, events) in seen {
            assert_eq!(events.into_iter().collect::<Vec<_>>(), EVENTS, "{command}");
        }
    }
}

async fn delete_queue(channel: &Channel, name: &str) {
    let options = QueueDeleteOptions::default();
    channel.queue_delete(name.into(), options).await.unwrap();
}

async fn channel(url: &str) -> (Connection, Channel) {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    let connection = connecting.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

fn create(number: usize) -> Command {
    let payload =
        json!({"name": format!("g{number}"), "participants": [{"id": "491700000001@c.us"}]});
    Command::new(&format!("c{number}"), "CreateGroup", "default", &payload)
}

/// Runs a command of the binary, which has to do well.
async fn run(options: &Options, arguments: &[&str]) -> String {
    let mut command = options.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[tokio::test]
async fn commands_that_waited_for_the_first_start_have_all_their_events_at_the_endpoint() {
    let start = Start::shared().await;
    let _producer = start.commands_wait().await;
    let _worker = Worker::spawn(&start.with_endpoint()).unwrap();
    start.all_arrive().await;
}

#[tokio::test]
async fn after_topology_apply_the_role_commands_may_start_first_and_alone() {
    let start = Start::shared().await;
    let producer = start.commands_wait().await;
    run(&start.with_endpoint(), &["topology", "apply"]).await;
    // It knows nothing of the endpoint, and may declare nothing.
    let commands = start.options.clone().set("roles", "commands");
    let _commands = Worker::start(&commands.set("topology.mode", "passive"))
        .await
        .unwrap();
    producer.answered(COMMANDS, PATIENCE).await.unwrap();
    let webhooks = start.with_endpoint().set("roles", "webhooks");
    let _webhooks = Worker::start(&webhooks.set("topology.mode", "passive"))
        .await
        .unwrap();
    start.all_arrive().await;
}

#[tokio::test]
async fn a_process_for_commands_alone_puts_the_endpoints_of_its_configuration_in_place() {
    let start = Start::shared().await;
    let producer = start.commands_wait().await;
    let both = start.with_endpoint();
    let _commands = Worker::start(&both.clone().set("roles", "commands"))
        .await
        .unwrap();
    producer.answered(COMMANDS, PATIENCE).await.unwrap();
    let _webhooks = Worker::start(&both.set("roles", "webhooks")).await.unwrap();
    start.all_arrive().await;
}

#[tokio::test]
async fn endpoints_of_the_store_are_on_a_new_broker_before_the_first_command_is_taken() {
    let mut start = Start::shared().await;
    let payload = json!({"url": start.receiver.url("/hook")}).to_string();
    run(&start.options, &["topology", "apply"]).await;
    run(
        &start.options,
        &["webhooks", "set", "hook", "--payload", &payload],
    )
    .await;
    // As another broker: nothing of what the store says is there.
    start.prefix = groupmq_test_support::prefix();
    start.options = start.options.clone().set("topology.prefix", &start.prefix);
    let producer = start.commands_wait().await;
    let commands = start.options.clone().set("roles", "commands");
    let _commands = Worker::start(&commands).await.unwrap();
    producer.answered(COMMANDS, PATIENCE).await.unwrap();
    let webhooks = start.options.clone().set("roles", "webhooks");
    let _webhooks = Worker::start(&webhooks).await.unwrap();
    start.all_arrive().await;
}

#[tokio::test]
async fn what_an_engine_told_before_the_first_start_waits_for_the_endpoints_too() {
    let start = Start::shared().await;
    let settings = store_at(&store_in(start.folder.path()));
    let opened = Store::open(&settings, Arc::new(SystemClock)).await;
    let (store, writer) = opened.unwrap();
    let told = (1..=100).map(|number| Announcement::new("default", "group.join", number));
    let bodies: Vec<_> = told.map(|it| it.body).collect();
    let notification = Notification {
        id: None,
        at: Timestamp(SystemClock.now()),
        rows: Vec::new(),
    };
    let groups = store.known_groups();
    let telling = groups.apply(notification, move |known| {
        for body in &bodies {
            let event: Event = serde_json::from_slice(body).unwrap();
            known.publish(&event, &BTreeMap::new())?;
        }
        Ok(())
    });
    tokio::select! {
        told = telling => assert!(told.unwrap().is_some()),
        () = writer => unreachable!("it goes on"),
    }
    // WAHA itself is away.
    let waha = start
        .with_endpoint()
        .set("engine.kind", "waha")
        .set("engine.waha.url", "http://127.0.0.1:1")
        .set("engine.waha.api_key", "hunter2");
    let (_connection, channel) = channel(&start.url).await;
    let queue = format!("{}.webhook.hook", start.prefix);
    declare_classic(&channel, &queue).await;
    let worker = Worker::spawn(&waha).unwrap();
    until_problems(&worker, &["webhook hook", "406"]).await;
    delete_queue(&channel, &queue).await;
    start.receiver.takes("/hook", 100, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn on_a_virtual_host_without_any_exchange_no_event_is_missed() {
    let broker = RabbitMq::shared().await.unwrap();
    let vhost = groupmq_test_support::prefix();
    broker.ctl(&["add_vhost", &vhost]).await.unwrap();
    let all = ["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"];
    broker.ctl(&all).await.unwrap();
    let start = Start::at(&broker.url_as("guest", "guest", &vhost));
    let worker = Worker::spawn(&start.with_endpoint()).unwrap();
    // From the first moment at which a queue takes commands.
    let mut sent = 0;
    let begun = Instant::now();
    while sent < COMMANDS {
        assert!(
            begun.elapsed() < PATIENCE,
            "{sent} sent\n{}",
            worker.log_tail()
        );
        sent += publish(&start, sent).await;
    }
    start.all_arrive().await;
    drop(worker);
    broker.ctl(&["delete_vhost", &vhost]).await.unwrap();
}

/// Publishes commands from `first` on, until one is not taken; returns how many were.
async fn publish(start: &Start, first: usize) -> usize {
    let (_connection, channel) = channel(&start.url).await;
    let confirms = ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await.unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let exchange = format!("{}.commands", start.prefix);
    for number in first..COMMANDS {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (name, body) = (exchange.as_str().into(), create(number).body);
        let publishing = channel.basic_publish(name, "default".into(), options, &body, properties);
        let Ok(confirm) = publishing.await else {
            return number - first;
        };
        let confirmed = confirm.await;
        if !confirmed.is_ok_and(|it| it.is_ack() && it.take_message().is_none()) {
            return number - first;
        }
    }
    COMMANDS - first
}

async fn until_problems(worker: &Worker, words: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        if let Ok((503, body)) = worker.get("/readyz").await
            && words.iter().all(|word| body.contains(word))
        {
            return body;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", worker.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn declare_classic(channel: &Channel, queue: &str) {
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    let none = FieldTable::default();
    channel
        .queue_declare(queue.into(), durable, none)
        .await
        .unwrap();
}

fn endpoint(start: &Start, id: &str, session: Option<SessionName>) -> NewEndpoint {
    NewEndpoint {
        origin: session
            .as_ref()
            .map_or(Origin::Operator, |_| Origin::Command),
        session,
        id: id.parse().unwrap(),
        settings: settings(&start.receiver.url(&format!("/{id}")), &json!({})),
        secret: SigningSecret::generate([7; 24]),
    }
}

#[tokio::test]
async fn no_command_is_taken_while_a_declared_endpoint_cannot_be_put_in_place() {
    let start = Start::shared().await;
    let (_connection, channel) = channel(&start.url).await;
    let queue = format!("{}.webhook.hook", start.prefix);
    declare_classic(&channel, &queue).await;
    let producer = start.commands_wait().await;
    let mut worker = Worker::spawn(&start.with_endpoint()).unwrap();
    let body = until_problems(&worker, &["webhook hook", "406", "consumes no commands"]).await;
    println!("{body}");
    assert_eq!(producer.seen().answered(), 0, "{body}");
    assert_eq!(worker.get("/livez").await.unwrap().0, 200);

    delete_queue(&channel, &queue).await;
    worker.until_ready(PATIENCE).await.unwrap();
    start.all_arrive().await;
}

#[tokio::test]
async fn an_endpoint_that_a_producer_has_set_holds_no_command_up() {
    let start = Start::shared().await;
    let store = open(&store_in(start.folder.path())).await;
    let session: SessionName = "default".parse().unwrap();
    let new = endpoint(&start, "odd", Some(session));
    let odd = store.endpoints().set(new).await.unwrap().name;
    let (_connection, channel) = channel(&start.url).await;
    let queue = format!("{}.webhook.{odd}", start.prefix);
    declare_classic(&channel, &queue).await;
    let producer = start.commands_wait().await;
    let worker = Worker::start(&start.with_endpoint()).await.unwrap();
    start.all_arrive().await;
    producer.answered(COMMANDS, PATIENCE).await.unwrap();
    assert!(worker.log().contains(&odd), "{}", worker.log());
}

#[tokio::test]
async fn an_attempt_that_fails_gives_its_lease_back() {
    let start = Start::shared().await;
    let url = store_in(start.folder.path());
    let (first, second) = (open(&url).await, open(&url).await);
    first
        .endpoints()
        .set(endpoint(&start, "hook", None))
        .await
        .unwrap();
    // Nothing has declared the exchanges.
    let sources = Sources {
        flags: [("amqp.url".into(), start.url.clone())].into(),
        ..Sources::default()
    };
    let target = Target::new(sources.load().unwrap().amqp);
    let names = Names::new(&start.prefix);
    let fanout = Fanout::new(&first, target, names, Arc::new(SystemClock));
    let failed = fanout.sync("hook").await.unwrap_err();
    assert!(failed.to_string().contains("404"), "{failed}");

    let endpoint = second.endpoints().get("hook").await.unwrap().unwrap();
    assert!(!fanout::is_in_sync(&endpoint), "{endpoint:?}");
    let claimed = second
        .leases()
        .acquire_bindings(&endpoint, &endpoint.bound, Duration::ZERO)
        .await;
    assert!(claimed.unwrap(), "the next attempt has to wait");
    let (_connection, channel) = channel(&start.url).await;
    let queue = format!("{}.webhook.hook", start.prefix);
    delete_queue(&channel, &queue).await;
}
