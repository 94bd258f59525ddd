//! `make bench`: deliveries per second to one and to ten endpoints, the log of deliveries on, beside what
//! the same client can do. All in one run, so that their ratios mean something; and memory with a long
//! backlog.
//!
//! The endpoints are paths of one HTTP server in this process, which counts and answers 204. groupmq runs
//! as the program that ships, on SQLite that writes to the disk before it answers. It is compared with
//! processes (`clients`) that POST the same bytes with groupmq's own client to the same server:
//!
//! - **one loop**: a bare loop over one kept connection, the next POST after the answer to the last. This
//!   is what groupmq has to reach 0.4 of.
//! - **a loop each**: one such loop for each endpoint, side by side.
//! - **as many at once** as groupmq sends: what client and server can do here if nothing else is to be done.
//! - **from the queue**: a consumer that takes the same events from the same kind of queue with the same
//!   prefetch, POSTs as many at once, acknowledges many as one, and does nothing else: no signature, no
//!   log, no tracing, no deadline of its own. Broker, server and client share the machine, so this is
//!   about what anybody could do here who delivers from this broker with this client.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::expect_used, reason = "as above")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it reads its own settings")]

mod clients;

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use groupmq_test_support::announcer::Announcer;
use groupmq_test_support::worker::{Options, Worker, processor_time, store_in};
use tokio::net::TcpListener;

use clients::Client;

/// Deliveries in each measured run.
const DELIVERIES: usize = 20_000;
/// Deliveries to one endpoint at the same time: groupmq's default.
const AT_ONCE: usize = 8;
/// Events that wait when memory is looked at.
const BACKLOG: usize = 200_000;
/// How often each is measured; the best counts, since noise only ever slows down.
const ROUNDS: usize = 3;

/// Counts requests, and answers them at once.
struct Counter {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

#[tokio::main]
async fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if clients::run(&words).await {
        return;
    }
    let url = std::env::var("GROUPMQ_AMQP__URL").expect("GROUPMQ_AMQP__URL; run `make bench`");
    let counter = Counter::start().await;
    let mut one_loop = None;
    for endpoints in [1, 10] {
        let bench = Bench::new(&url, &counter, endpoints);
        let mut best = [Pace::default(); 4];
        for _ in 0..ROUNDS {
            best[0].better(bench.groupmq(&counter).await);
            best[1].better(bench.posts(&counter, 1).await);
            best[2].better(bench.posts(&counter, AT_ONCE).await);
            best[3].better(bench.queue(&counter).await);
        }
        let [groupmq, each, at_once, queue] = best;
        let one_loop = *one_loop.get_or_insert(each);
        println!("{endpoints} endpoints, {groupmq} in groupmq's process. Beside it:");
        for (name, pace) in [
            ("one loop", one_loop),
            ("a loop each", each),
            ("as many at once", at_once),
            ("from the queue", queue),
        ] {
            let of_it = groupmq.rate / pace.rate;
            println!("    {name:<16} {pace}   groupmq {of_it:.2} of it");
        }
    }
    let bench = Bench::new(&url, &counter, 1);
    println!(
        "memory with {BACKLOG} events waiting, peak {:.1} MB",
        bench.memory(&counter).await
    );
}

/// How fast somebody sends requests.
#[derive(Default, Clone, Copy)]
struct Pace {
    /// Requests per second.
    rate: f64,
    /// Processor time that one takes, in the process that sends it.
    cost: Duration,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, cost } = self;
        write!(f, "{rate:>6.0}/s, each {cost:>5.1?} of a processor")
    }
}

impl Pace {
    fn better(&mut self, other: Self) {
        if other.rate > self.rate {
            *self = other;
        }
    }
}

/// What an endpoint is called.
fn endpoint(number: usize) -> String {
    format!("e{number}")
}

impl Counter {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let answer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(StatusCode::NO_CONTENT)
        };
        let routes = Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { address, count }
    }

    fn seen(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    async fn until(&self, count: usize) {
        while self.seen() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How fast a process sends, from the first to the last request.
    async fn measure<T>(&self, process: T, pid: impl Fn(&T) -> u32) -> (Pace, T) {
        let pid = pid(&process);
        let end = self.seen() + DELIVERIES;
        self.until(end - DELIVERIES + 1).await;
        let (begun, already) = (Instant::now(), processor_time(pid).unwrap());
        let count = end - self.seen();
        self.until(end).await;
        let (took, used) = (begun.elapsed(), processor_time(pid).unwrap());
        let count = u32::try_from(count).unwrap();
        let pace = Pace {
            rate: f64::from(count) / took.as_secs_f64(),
            cost: used.saturating_sub(already) / count,
        };
        (pace, process)
    }
}

/// A topology with some endpoints, and a store.
struct Bench {
    url: String,
    prefix: String,
    options: Options,
    endpoints: usize,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new(url: &str, counter: &Counter, endpoints: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("groupmq.toml");
        let mut text = String::new();
        for number in 0..endpoints {
            let (address, id) = (counter.address, endpoint(number));
            write!(
                text,
                "[[webhooks]]\nid = \"{id}\"\nurl = \"http://{address}/{number}\"\n"
            )
            .unwrap();
        }
        std::fs::write(&file, text).unwrap();
        let prefix = groupmq_test_support::prefix();
        let options = Options::new(env!("CARGO_BIN_EXE_groupmq"), url, &prefix)
            .set("egress.allow", "127.0.0.0/8")
            .set("store.url", store_in(folder.path()))
            .set("roles", "webhooks")
            .file(&file);
        Self {
            url: url.to_owned(),
            prefix,
            options,
            endpoints,
            _folder: folder,
        }
    }

    /// Has events wait for a worker that is stopped.
    async fn backlog(&self, events: usize) {
        let mut worker = Worker::start(&self.options).await.unwrap();
        worker.stop().await.unwrap();
        let mut announcer = Announcer::new(&self.url, &self.prefix);
        let mut left = events;
        while left > 0 {
            let some = left.min(5_000);
            announcer
                .announce("default", "group.join", some)
                .await
                .unwrap();
            left -= some;
        }
    }

    async fn groupmq(&self, counter: &Counter) -> Pace {
        self.backlog(DELIVERIES / self.endpoints).await;
        let worker = Worker::spawn(&self.options).unwrap();
        let (pace, _worker) = counter.measure(worker, Worker::pid).await;
        // What is not acknowledged yet would come again in the next run.
        tokio::time::sleep(Duration::from_secs(1)).await;
        pace
    }

    async fn posts(&self, counter: &Counter, at_once: usize) -> Pace {
        let (address, endpoints) = (counter.address.to_string(), self.endpoints.to_string());
        let client = Client::start(&["post", &address, &endpoints, &at_once.to_string()]);
        let (pace, client) = counter.measure(client, Client::pid).await;
        client.end().await;
        pace
    }

    async fn queue(&self, counter: &Counter) -> Pace {
        self.backlog(DELIVERIES / self.endpoints).await;
        let (address, endpoints) = (counter.address.to_string(), self.endpoints.to_string());
        let words = ["consume", &address, &endpoints, &self.url, &self.prefix];
        let (pace, client) = counter.measure(Client::start(&words), Client::pid).await;
        client.end().await;
        pace
    }

    /// The most memory that a worker needs while it works on a long backlog, in MB.
    async fn memory(&self, counter: &Counter) -> f64 {
        self.backlog(BACKLOG).await;
        let before = counter.seen();
        let worker = Worker::spawn(&self.options).unwrap();
        counter.until(before + DELIVERIES).await;
        let peak = worker.status("VmHWM").unwrap();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let megabytes = peak as f64 / 1024.0;
        megabytes
    }
}
