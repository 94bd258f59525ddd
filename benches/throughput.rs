//! `make bench`: commands per second beside a bare lapin loop, with either store and with a small
//! and a large ledger, and memory. Ratios in one run.
//!
//! The bare loop does what any worker must do for a command on quorum queues (consume, publish a
//! reply and an event, wait for both confirms, acknowledge) and nothing else: no JSON, no rules, no
//! store. groupmq runs as the program that ships; both stores write to the disk before they answer.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::expect_used, reason = "as above")]
#![expect(clippy::panic, reason = "as above")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it reads its own settings")]

mod peers;
mod stores;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use groupmq_test_support::postgres::Postgres;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::json;
use uuid::Uuid;

use stores::Store;

/// Commands in each measured run.
const COMMANDS: usize = 20_000;
/// Groups that the commands are spread over: a group's commands run one by one.
const GROUPS: usize = 1_000;
/// The prefetch window of both.
const IN_FLIGHT: u16 = 300;
/// How often each is measured; the best counts, since noise only ever slows down.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let url = std::env::var("GROUPMQ_AMQP__URL").expect("GROUPMQ_AMQP__URL; run `make bench`");
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let broker = Broker {
        channel: connection.create_channel().await.unwrap(),
    };
    broker
        .channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let server = Postgres::start().unwrap();
    let mut stores = stores::empty(folder.path(), &server);
    let prefix = format!("groupmq-bench-{}", std::process::id());
    let groups = broker.prepare(&url, &prefix, &stores).await;

    let (mut bare, mut busiest) = (0.0_f64, 0.0_f64);
    for _ in 0..ROUNDS {
        bare = bare.max(broker.bare_loop(&url, &prefix, &groups).await);
        for store in &mut stores {
            if !store.is_large() {
                stores::fill(store).await;
            }
            let (rate, peak) = broker.run(&url, &prefix, &groups, store, COMMANDS).await;
            store.best = store.best.max(rate);
            busiest = busiest.max(peak);
        }
    }
    println!("bare lapin loop                {bare:>8.0} commands/s");
    for store in &stores {
        let small = |other: &&Store| other.name == store.name && !other.is_large();
        let small = stores.iter().find(small).unwrap().best;
        println!(
            "groupmq, {:<10} {:>9} ids {:>8.0} commands/s   {:.2} of it, {:.2} of the small ledger",
            store.name,
            store.rows,
            store.best,
            store.best / bare,
            store.best / small,
        );
    }
    println!("memory at {IN_FLIGHT} in flight, peak  {busiest:>8.1} MB");
    let (rate, peak) = broker
        .run(&url, &prefix, &groups, &stores[0], 100_000)
        .await;
    println!("with 100,000 waiting           {rate:>8.0} commands/s   peak {peak:.1} MB");
    broker.clean_up(&prefix).await;
}

/// Seconds from the first to the last of so many replies, as a rate.
async fn drain(mut replies: lapin::Consumer, count: usize) -> f64 {
    replies.next().await.unwrap().unwrap();
    let begun = Instant::now();
    for _ in 1..count {
        replies.next().await.unwrap().unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = (count - 1) as f64 / begun.elapsed().as_secs_f64();
    rate
}

/// Outside the prefix, since replies are not sent to queues within it.
fn reply_queue(prefix: &str) -> String {
    format!("bench-replies.{prefix}")
}

struct Broker {
    channel: Channel,
}

impl Broker {
    async fn queue(&self, name: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(name.into(), options, arguments)
            .await
            .unwrap();
    }

    async fn consume(&self, queue: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        };
        let (tag, none) = (ShortString::default(), FieldTable::default());
        self.channel
            .basic_consume(queue.into(), tag, options, none)
            .await
            .unwrap()
    }

    /// The queue that commands name in `reply_to`.
    async fn replies(&self, prefix: &str) -> lapin::Consumer {
        let queue = reply_queue(prefix);
        self.queue(&queue).await;
        // A reply that came twice must not start the clock of the next run.
        let purge = QueuePurgeOptions::default();
        self.channel
            .queue_purge(queue.as_str().into(), purge)
            .await
            .unwrap();
        self.consume(&queue).await
    }

    /// Gives every store the same groups, and its ledger the size that it is measured with.
    async fn prepare(&self, url: &str, prefix: &str, stores: &[Store]) -> Vec<String> {
        let mut groups = Vec::new();
        for store in stores {
            let mut worker = Worker::start(url, prefix, &store.url);
            Worker::wait_until_ready();
            if groups.is_empty() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                println!(
                    "idle memory                    {:>8.1} MB",
                    worker.memory_mb()
                );
            }
            groups = self.create_groups(prefix).await;
            worker.stop();
            self.run(url, prefix, &groups, store, GROUPS).await;
            stores::fill(store).await;
        }
        groups
    }

    /// Lets groupmq execute commands that wait for it; their rate, and its memory.
    async fn run(
        &self,
        url: &str,
        prefix: &str,
        groups: &[String],
        store: &Store,
        count: usize,
    ) -> (f64, f64) {
        let commands = format!("{prefix}.commands");
        self.fill(prefix, &commands, groups, count).await;
        let replies = self.replies(prefix).await;
        let mut worker = Worker::start(url, prefix, &store.url);
        let rate = drain(replies, count).await;
        let peak = worker.peak_memory_mb();
        worker.stop();
        (rate, peak)
    }

    async fn create_groups(&self, prefix: &str) -> Vec<String> {
        let mut replies = self.replies(prefix).await;
        for number in 0..GROUPS {
            let body = json!({
                "id": format!("create-{number}"), "type": "CreateGroup", "session": "default",
                "payload": { "name": format!("Group {number}"), "participants": [] },
            });
            self.publish(prefix, &format!("{prefix}.commands"), body.to_string())
                .await;
        }
        let mut groups = Vec::with_capacity(GROUPS);
        while groups.len() < GROUPS {
            let reply = replies.next().await.unwrap().unwrap();
            let reply: serde_json::Value = serde_json::from_slice(&reply.data).unwrap();
            if let Some(id) = reply["result"]["id"].as_str() {
                groups.push(id.to_owned());
            }
        }
        self.channel
            .basic_cancel(replies.tag(), BasicCancelOptions::default())
            .await
            .unwrap();
        groups
    }

    /// Queues commands that each change a subject, so that they wait when the clock starts.
    async fn fill(&self, prefix: &str, exchange: &str, groups: &[String], count: usize) {
        let mut confirms = Vec::with_capacity(count);
        for number in 0..count {
            let body = json!({
                "id": Uuid::now_v7(), "type": "SetGroupSubject",
                "session": "default",
                "payload": {
                    "groupId": groups[number % groups.len()],
                    "subject": format!("Subject {number} {}", Uuid::new_v4()),
                },
            });
            confirms.push(self.publish(prefix, exchange, body.to_string()).await);
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }

    async fn publish(&self, prefix: &str, exchange: &str, body: String) -> lapin::PublisherConfirm {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_reply_to(reply_queue(prefix).into())
            .with_correlation_id("bench".into());
        let options = BasicPublishOptions::default();
        let key = "default".into();
        self.channel
            .basic_publish(exchange.into(), key, options, body.as_bytes(), properties)
            .await
            .unwrap()
    }

    async fn bare_loop(&self, url: &str, prefix: &str, groups: &[String]) -> f64 {
        let exchange = format!("{prefix}.bare");
        let queue = format!("{prefix}.bare-commands");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let none = FieldTable::default;
        let kind = ExchangeKind::Topic;
        self.channel
            .exchange_declare(exchange.as_str().into(), kind, durable, none())
            .await
            .unwrap();
        self.queue(&queue).await;
        let bind = QueueBindOptions::default();
        self.channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                "#".into(),
                bind,
                none(),
            )
            .await
            .unwrap();
        self.fill(prefix, &exchange, groups, COMMANDS).await;
        let replies = self.replies(prefix).await;
        let events = format!("{prefix}.events");
        let loop_ = peers::bare::run(url.to_owned(), queue, events, IN_FLIGHT, COMMANDS);
        let (rate, ()) = tokio::join!(drain(replies, COMMANDS), loop_);
        rate
    }

    async fn clean_up(&self, prefix: &str) {
        let own = ["bare-commands", "commands.0", "dead.commands"];
        let own = own.map(|queue| format!("{prefix}.{queue}"));
        for name in own.into_iter().chain([reply_queue(prefix)]) {
            self.channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
        for exchange in ["bare", "commands", "replies", "events", "dead"] {
            let name = format!("{prefix}.{exchange}");
            let options = ExchangeDeleteOptions::default();
            self.channel
                .exchange_delete(name.into(), options)
                .await
                .unwrap();
        }
    }
}

/// The program under test.
struct Worker {
    child: Child,
}

impl Worker {
    fn start(url: &str, prefix: &str, store: &str) -> Self {
        let groupmq = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_groupmq"));
            command
                .args(arguments)
                .env("GROUPMQ_AMQP__URL", url)
                .env("GROUPMQ_TOPOLOGY__PREFIX", prefix)
                .env("GROUPMQ_STORE__URL", store)
                .stdout(Stdio::null());
            command
        };
        // One store after another under one prefix, which a worker refuses of its own accord.
        let adopted = groupmq(&["store", "adopt"]).status().unwrap();
        assert!(adopted.success(), "the broker does not take another store");
        let child = groupmq(&["run"])
            .env("GROUPMQ_AMQP__PREFETCH", IN_FLIGHT.to_string())
            .env("GROUPMQ_OPS__LISTEN", "127.0.0.1:19464")
            .env("GROUPMQ_LOG__FILTER", "warn")
            .spawn()
            .unwrap();
        Self { child }
    }

    fn wait_until_ready() {
        for _ in 0..100 {
            let ready = Command::new(env!("CARGO_BIN_EXE_groupmq"))
                .arg("healthcheck")
                .env("GROUPMQ_OPS__LISTEN", "127.0.0.1:19464")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the worker does not become ready");
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(
            self.child.wait().unwrap().success(),
            "the worker did not stop cleanly"
        );
    }

    fn memory_mb(&self) -> f64 {
        self.status("VmRSS:")
    }

    fn peak_memory_mb(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
    }
}
