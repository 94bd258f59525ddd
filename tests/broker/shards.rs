//! Shards: a session always has the same one, workers share them out evenly, and a broker or a
//! configuration that does not fit stops a worker with what to do.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Command;
use groupmq_test_support::rabbitmq::{self, RabbitMq};
use groupmq_test_support::worker::{Options, Worker, store_in};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use serde_json::json;

use super::cli::run;
use super::scene::{PATIENCE, Scene, options};

/// After anything happened to a worker, the shards are even again within this.
pub(crate) const EVEN_WITHIN: Duration = Duration::from_secs(15);

/// How many shards each worker has.
async fn held(workers: &[Worker]) -> Vec<u64> {
    let mut counts = Vec::new();
    for worker in workers {
        let (_, text) = worker.get("/metrics").await.unwrap();
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix("groupmq_shards_held "));
        counts.push(value.unwrap().parse().unwrap());
    }
    counts
}

/// Waits until the workers have all shards, and nobody two more than another.
pub(crate) async fn until_even(workers: &[Worker], shards: u64, within: Duration) {
    let begun = Instant::now();
    loop {
        let counts = held(workers).await;
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        if counts.iter().sum::<u64>() == shards && most - least <= 1 {
            println!("{counts:?} after {:?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < within, "after {within:?}: {counts:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn refused(settings: &Options, words: &[&str]) {
    let mut worker = Worker::spawn(settings).unwrap();
    let code = worker.until_ended(PATIENCE).await.unwrap();
    let log = worker.log();
    assert_eq!(code, 5, "{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
}

/// Publishes a command of each session and says in which queue each came to lie.
async fn places(
    url: &str,
    prefix: &str,
    shards: usize,
    sessions: usize,
) -> BTreeMap<String, usize> {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let confirming = ConfirmSelectOptions::default();
    channel.confirm_select(confirming).await.unwrap();
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    for n in 0..sessions {
        let (exchange, key) = (format!("{prefix}.commands"), format!("session-{n}"));
        let plain = BasicProperties::default();
        let confirm = channel
            .basic_publish(exchange.into(), key.into(), mandatory, b"{}", plain)
            .await
            .unwrap();
        let confirm = confirm.await.unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none());
    }
    let mut queues = Vec::new();
    for shard in 0..shards {
        let (queue, options) = (
            format!("{prefix}.commands.{shard}"),
            BasicConsumeOptions::default(),
        );
        let consumer = channel
            .basic_consume(queue.into(), "".into(), options, FieldTable::default())
            .await
            .unwrap();
        queues.push(consumer.map(move |it| (shard, it.unwrap())));
    }
    let mut arriving = futures_util::stream::select_all(queues);
    let mut places = BTreeMap::new();
    while places.len() < sessions {
        let arrived = tokio::time::timeout(PATIENCE, arriving.next()).await;
        let (shard, message) = arrived.unwrap().unwrap();
        message.ack(BasicAckOptions::default()).await.unwrap();
        // What was acknowledged last may be here once more, if its acknowledgement was lost with the
        // channel.
        let earlier = places.insert(message.routing_key.to_string(), shard);
        let same = earlier.is_none_or(|earlier| earlier == shard);
        assert!(same, "in two queues: {}", message.routing_key);
    }
    connection.close(200, "".into()).await.unwrap();
    places
}

#[tokio::test]
async fn another_number_of_shards_than_there_is_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let folder = tempfile::tempdir().unwrap();
    let options = options(&broker.url(), &prefix).set("store.url", store_in(folder.path()));
    let with = |shards: &str| options.clone().set("topology.shards", shards);
    assert_eq!(run(&with("3"), &["topology", "apply"]).await.code, 0);
    refused(&with("2"), &["more command queues", "topology reshard"]).await;
    refused(&with("1"), &["more command queues", "topology reshard"]).await;
    refused(&with("4"), &["fewer command queues", "topology reshard"]).await;
    assert_eq!(run(&with("4"), &["topology", "apply"]).await.code, 5);
    assert_eq!(run(&with("3"), &["topology", "apply"]).await.code, 0);
}

/// For how long a shard was without a consumer at the longest, until it is enough.
async fn longest_without_a_consumer(
    url: &str,
    prefix: &str,
    shards: u64,
    enough: &Cell<bool>,
) -> Duration {
    let connection = Connection::connect(url, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let mut since = BTreeMap::new();
    let mut longest = Duration::ZERO;
    while !enough.get() {
        for shard in 0..shards {
            let passive = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let name = format!("{prefix}.commands.{shard}").into();
            let queue = channel.queue_declare(name, passive, FieldTable::default());
            if queue.await.unwrap().consumer_count() > 0 {
                since.remove(&shard);
            } else {
                let since = since.entry(shard).or_insert_with(Instant::now);
                longest = longest.max(since.elapsed());
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    connection.close(200, "".into()).await.unwrap();
    longest
}

/// Workers join, stop, die and pause; the shards are even after each.
async fn come_and_go(mut workers: Vec<Worker>, shards: u64, options: &Options) {
    for _ in 0..3 {
        workers.push(Worker::spawn(options).unwrap());
    }
    for worker in &mut workers {
        worker.until_ready(PATIENCE).await.unwrap();
    }
    until_even(&workers, shards, EVEN_WITHIN).await;

    let mut stopped = workers.remove(0);
    assert_eq!(stopped.stop().await.unwrap(), 0, "{}", stopped.log_tail());
    until_even(&workers, shards, EVEN_WITHIN).await;

    workers.remove(0).kill().unwrap();
    until_even(&workers, shards, EVEN_WITHIN).await;

    // The broker misses a paused one after two heartbeats; once back, it takes part again.
    let paused = workers.remove(0);
    paused.signal(Signal::SIGSTOP).unwrap();
    until_even(&workers, shards, EVEN_WITHIN).await;
    paused.signal(Signal::SIGCONT).unwrap();
    workers.push(paused);
    until_even(&workers, shards, EVEN_WITHIN).await;
}

#[tokio::test]
async fn workers_that_come_and_go_share_the_shards_evenly_and_leave_none_alone() {
    const SHARDS: u64 = 16;
    const HEARTBEAT: Duration = Duration::from_secs(4);
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix)
        .set("topology.shards", SHARDS.to_string())
        .set("store.url", &database.url)
        .set("amqp.heartbeat", format!("{}s", HEARTBEAT.as_secs()));
    let workers = vec![Worker::start(&options).await.unwrap()];
    until_even(&workers, SHARDS, EVEN_WITHIN).await;
    let enough = Cell::new(false);
    let changes = async {
        come_and_go(workers, SHARDS, &options).await;
        enough.set(true);
    };
    let url = broker.url();
    let watching = longest_without_a_consumer(&url, &prefix, SHARDS, &enough);
    let (longest, ()) = tokio::join!(watching, changes);
    println!("a shard was without a consumer for {longest:?} at the longest");
    assert!(longest > Duration::ZERO, "nothing was handed over");
    assert!(longest <= HEARTBEAT, "{longest:?}");
}

#[tokio::test]
async fn more_workers_than_shards_stand_by_and_are_ready() {
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let options = options(&broker.url(), &groupmq_test_support::prefix())
        .set("topology.shards", "2")
        .set("store.url", &database.url);
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Worker::start(&options).await.unwrap());
    }
    until_even(&workers, 2, EVEN_WITHIN).await;
    workers.remove(0).kill().unwrap();
    until_even(&workers, 2, EVEN_WITHIN).await;
}

#[tokio::test]
async fn more_shards_than_a_worker_holds_commands_are_all_served() {
    const SESSIONS: usize = 40;
    let scene = Scene::shared_with(|options| {
        let options = options.set("topology.shards", "8");
        options.set("amqp.prefetch", "2")
    })
    .await;
    for round in 1..=2 {
        let commands = (0..SESSIONS).map(|n| {
            let id = format!("{round}-{n}");
            // No such session is known here, and that is an answer too.
            Command::new(&id, "ListGroups", &format!("session-{n}"), &json!({}))
        });
        scene.producer.send_all(commands.collect()).await.unwrap();
        let all = round * SESSIONS;
        scene.producer.answered(all, PATIENCE).await.unwrap();
    }
}

mod own_node {
    use super::*;

    #[tokio::test]
    async fn a_session_keeps_its_shard_also_when_the_broker_starts_again() {
        let sharding = rabbitmq::Options::default().plugin("rabbitmq_sharding");
        let mut broker = RabbitMq::start(sharding).await.unwrap();
        let apply = options(&broker.url(), "groupmq").set("topology.shards", "12");
        assert_eq!(run(&apply, &["topology", "apply"]).await.code, 0);
        let before = places(&broker.url(), "groupmq", 12, 200).await;
        let used: std::collections::BTreeSet<_> = before.values().collect();
        assert_eq!(used.len(), 12, "every shard has sessions");
        assert_eq!(places(&broker.url(), "groupmq", 12, 200).await, before);
        broker.stop().await.unwrap();
        broker.start_again().await.unwrap();
        assert_eq!(places(&broker.url(), "groupmq", 12, 200).await, before);
        assert_eq!(run(&apply, &["topology", "apply"]).await.code, 0);
        assert_eq!(places(&broker.url(), "groupmq", 12, 200).await, before);
        broker.kill().await.unwrap();
        broker.start_again().await.unwrap();
        assert_eq!(places(&broker.url(), "groupmq", 12, 200).await, before);
    }

    #[tokio::test]
    async fn without_the_plugin_more_than_one_shard_stops_the_worker() {
        let broker = RabbitMq::start(rabbitmq::Options::default()).await.unwrap();
        let two = options(&broker.url(), "groupmq").set("topology.shards", "2");
        let words = [
            "x-modulus-hash",
            "topology.shards",
            "rabbitmq-plugins enable rabbitmq_sharding",
        ];
        refused(&two, &words).await;
        let applied = run(&two, &["topology", "apply"]).await;
        assert_eq!(applied.code, 5, "{applied:?}");
        assert!(applied.err.contains(words[2]), "{applied:?}");
        let one = options(&broker.url(), "one").set("topology.shards", "1");
        Worker::start(&one).await.unwrap();
    }
}
