//! `cargo bench --bench gateway`: requests per second and latency through the gateway, beside the
//! plain round trip over AMQP, in one run.
//!
//! Both ask the same worker (the sandbox) for the same thing, so many at a time: the subject of a
//! group is changed. The plain round trip is what the gateway stands on: a command published with
//! confirms by one connection that also consumes its replies. Rounds alternate, and the best of each
//! counts, since noise only ever slows down.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::expect_used, reason = "as above")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it reads its own settings")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use groupmq::amqp::{Client, Target, Topology};
use groupmq::config::Sources;
use groupmq_test_support::worker::{Options, Worker};
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Requests in each measured run.
const REQUESTS: usize = 5_000;
/// Groups that they are spread over: a group's commands run one by one.
const GROUPS: usize = 500;
const ROUNDS: usize = 3;
/// Requests at the same time.
const AT_ONCE: [usize; 2] = [1, 64];

#[tokio::main]
async fn main() {
    let url = std::env::var("GROUPMQ_AMQP__URL").expect("GROUPMQ_AMQP__URL; run `make bench`");
    let prefix = format!("groupmq-gateway-bench-{}", std::process::id());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let options =
        Options::new(env!("CARGO_BIN_EXE_groupmq"), &url, &prefix).set("log.filter", "warn");
    let worker = Worker::start(&options).await.unwrap();
    let front = options
        .set("roles", "gateway")
        .set("gateway.listen", address.to_string());
    let front = Worker::start(&front).await.unwrap();

    let plain = Arc::new(Plain::connect(&url, &prefix).await);
    let web = Arc::new(Web::new(format!("http://{address}")));
    let mut groups = Vec::new();
    for _ in 0..GROUPS {
        groups.push(web.create().await);
    }
    let groups = Arc::new(groups);
    for at_once in AT_ONCE {
        let count = REQUESTS.min(at_once * 300);
        let (mut by_queue, mut by_web) = (Figures::default(), Figures::default());
        for _ in 0..ROUNDS {
            let (asker, all) = (Arc::clone(&plain), Arc::clone(&groups));
            let ask = move |n: usize| {
                let (asker, all) = (Arc::clone(&asker), Arc::clone(&all));
                async move { asker.subject(&all[n % GROUPS], n).await }
            };
            by_queue = by_queue.best(measure(at_once, count, ask).await);
            let (asker, all) = (Arc::clone(&web), Arc::clone(&groups));
            let ask = move |n: usize| {
                let (asker, all) = (Arc::clone(&asker), Arc::clone(&all));
                async move { asker.subject(&all[n % GROUPS], n).await }
            };
            by_web = by_web.best(measure(at_once, count, ask).await);
        }
        by_queue.print(at_once, "plain AMQP round trip");
        by_web.print(at_once, "through the gateway");
        println!(
            "{at_once:>3} at once  the gateway has {:.2} of the plain rate, and adds {:.2} ms at p50",
            by_web.rate / by_queue.rate,
            (by_web.p50 - by_queue.p50) * 1e3,
        );
    }
    println!(
        "gateway: {:.1} MB at its peak, {:?} of processor time in all",
        megabytes(front.status("VmHWM").unwrap()),
        front.processor_time().unwrap(),
    );
    drop((front, worker));
    clean_up(url, prefix).await;
}

/// Leaves nothing on the broker.
async fn clean_up(url: String, prefix: String) {
    let sources = Sources {
        flags: vec![
            ("amqp.url".to_owned(), url),
            ("topology.prefix".to_owned(), prefix),
        ],
        ..Sources::default()
    };
    let config = sources.load().unwrap();
    let client = Client::connect(&Target::new(config.amqp)).await.unwrap();
    client
        .delete(&Topology::new(&config.topology))
        .await
        .unwrap();
    client.close().await;
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn megabytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// What a run came to; seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Figures {
    fn best(self, other: Self) -> Self {
        if other.rate > self.rate { other } else { self }
    }

    fn print(self, at_once: usize, what: &str) {
        println!(
            "{at_once:>3} at once  {what:<22} {:>7.0} requests/s   p50 {:>6.2} ms   p99 {:>6.2} ms",
            self.rate,
            self.p50 * 1e3,
            self.p99 * 1e3,
        );
    }
}

/// Asks so often, so many at a time.
async fn measure<F>(
    at_once: usize,
    count: usize,
    ask: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Figures
where
    F: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut askers = JoinSet::new();
    for _ in 0..at_once {
        let (next, ask) = (Arc::clone(&next), ask.clone());
        askers.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return took;
                }
                let begun = Instant::now();
                ask(number).await;
                took.push(begun.elapsed());
            }
        });
    }
    let mut took: Vec<Duration> = askers.join_all().await.into_iter().flatten().collect();
    let whole = begun.elapsed();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = took.len() as f64 / whole.as_secs_f64();
    Figures {
        rate,
        p50: at(50),
        p99: at(99),
    }
}

/// The HTTP client.
struct Web {
    client: reqwest::Client,
    base: String,
}

impl Web {
    fn new(base: String) -> Self {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        Self {
            client: reqwest::Client::builder().build().unwrap(),
            base,
        }
    }

    async fn create(&self) -> String {
        let body = json!({ "name": "Bench", "participants": [] });
        let url = format!("{}/api/default/groups", self.base);
        let text = self.send(self.client.post(url), &body, 201).await;
        let group: serde_json::Value = serde_json::from_str(&text).unwrap();
        group["id"].as_str().unwrap().to_owned()
    }

    async fn subject(&self, group: &str, number: usize) {
        let body = json!({ "subject": format!("Subject {number}") });
        let url = format!("{}/api/default/groups/{group}/subject", self.base);
        let text = self.send(self.client.put(url), &body, 200).await;
        assert_eq!(text, "true");
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        body: &serde_json::Value,
        status: u16,
    ) -> String {
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status);
        response.text().await.unwrap()
    }
}

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>>;

/// A client of the queue: one connection, one reply queue.
struct Plain {
    channel: Channel,
    exchange: String,
    replies: String,
    waiting: Waiting,
    _connection: Connection,
    _receiving: JoinSet<()>,
}

impl Plain {
    async fn connect(url: &str, prefix: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let (none, nameless) = (FieldTable::default, ShortString::default);
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..Default::default()
        };
        let queue = channel
            .queue_declare(nameless(), options, none())
            .await
            .unwrap();
        let options = BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        };
        let mut consumer = channel
            .basic_consume(queue.name().clone(), nameless(), options, none())
            .await
            .unwrap();
        let waiting = Waiting::default();
        let answered = Arc::clone(&waiting);
        let mut receiving = JoinSet::new();
        receiving.spawn(async move {
            while let Some(Ok(reply)) = consumer.next().await {
                let id = reply.properties.correlation_id().clone().unwrap();
                if let Some(waiter) = answered.lock().await.remove(id.as_str()) {
                    waiter.send(reply.data).ok();
                }
            }
        });
        Self {
            channel,
            exchange: format!("{prefix}.commands"),
            replies: queue.name().to_string(),
            waiting,
            _connection: connection,
            _receiving: receiving,
        }
    }

    async fn subject(&self, group: &str, number: usize) {
        let id = Uuid::now_v7().to_string();
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().await.insert(id.clone(), answer);
        let body = json!({
            "id": id, "type": "SetGroupSubject", "session": "default",
            "payload": { "groupId": group, "subject": format!("Subject {number}") },
        });
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_reply_to(self.replies.as_str().into())
            .with_correlation_id(id.as_str().into());
        let body = body.to_string();
        let publish = self.channel.basic_publish(
            self.exchange.as_str().into(),
            "default".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            properties,
        );
        publish.await.unwrap().await.unwrap();
        let reply = answered.await.unwrap();
        assert!(reply.windows(13).any(|it| it == b"\"result\":true"));
    }
}
