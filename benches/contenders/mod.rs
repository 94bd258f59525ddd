//! Who is measured, and one run of each.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;

use crate::broker::{Broker, Kind};
use crate::measure::{Process, Sample};
use crate::pace::{self, Times};
use crate::peers::{self, Peer};
use crate::stores::{self, Store};
use crate::{GROUPS, IN_FLIGHT};

/// What a run starts.
pub(crate) enum Contender {
    Peer(Peer),
    Groupmq { store: usize, kind: Kind },
}

/// The broker and the stores, with the same groups in each.
pub(crate) struct Bench {
    url: String,
    prefix: String,
    broker: Broker,
    groups: Vec<String>,
    stores: Vec<Store>,
}

/// All that can be measured here: the bare loop first, then groupmq, then the peers.
pub(crate) fn all(stores: &[Store], target: &Path) -> Vec<Contender> {
    let mut all = vec![Contender::Peer(peers::bare_loop())];
    let kind = Kind::Change;
    all.extend((0..stores.len()).map(|store| Contender::Groupmq { store, kind }));
    all.push(Contender::Groupmq {
        store: 0,
        kind: Kind::Read,
    });
    all.extend(peers::installed(target).into_iter().map(Contender::Peer));
    all
}

impl Bench {
    /// Gives every store the same groups, and its ledger the size that it is measured with.
    pub(crate) async fn prepare(url: String, stores: Vec<Store>) -> Self {
        let broker = Broker::connect(&url).await;
        let prefix = format!("groupmq-bench-{}", std::process::id());
        broker.declare_peers(&prefix).await;
        let mut bench = Self {
            url,
            prefix,
            broker,
            groups: Vec::new(),
            stores,
        };
        for store in 0..bench.stores.len() {
            let worker = bench.groupmq(store);
            wait_until_ready().await;
            if store == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                println!("Idle memory: {:.1} MB.", worker.memory_mb());
            }
            bench.groups = bench.broker.create_groups(&bench.prefix).await;
            worker.stop();
            let kind = Kind::Change;
            bench.run(&Contender::Groupmq { store, kind }, GROUPS).await;
            stores::fill(&bench.stores[store]).await;
        }
        bench
    }

    pub(crate) fn name(&self, contender: &Contender) -> String {
        match contender {
            Contender::Peer(peer) => peer.name.to_owned(),
            Contender::Groupmq { store, kind } => {
                let Store { name, rows, .. } = &self.stores[*store];
                match kind {
                    Kind::Change => format!("groupmq, {name}, ledger of {rows}"),
                    Kind::Read => format!("groupmq, {name}, reads"),
                }
            }
        }
    }

    /// A round begins with small ledgers; the large ones hardly grow by what a run adds.
    pub(crate) async fn shrink_ledgers(&self) {
        for store in self.stores.iter().filter(|store| !store.is_large) {
            stores::fill(store).await;
        }
    }

    /// Lets a contender execute commands that wait for it.
    pub(crate) async fn run(&self, contender: &Contender, count: usize) -> Sample {
        let (kind, body, one_of) = match contender {
            Contender::Peer(peer) => (Kind::Change, peer.body, peer.one_of),
            Contender::Groupmq { kind, .. } => (*kind, peers::plain as fn(&_) -> _, 1),
        };
        let count = (count / one_of).max(2);
        let exchange = self.exchange(contender);
        self.broker
            .fill(&self.prefix, &exchange, &self.groups, kind, count, body)
            .await;
        let mut replies = self.broker.replies(&self.prefix).await;
        let process = self.start(contender);
        answered(&mut replies).await;
        let (before, begun) = (process.usage(), Instant::now());
        for _ in 1..count {
            answered(&mut replies).await;
        }
        let (seconds, after) = (begun.elapsed().as_secs_f64(), process.usage());
        let sample = Sample {
            peak_memory_mb: process.peak_memory_mb(),
            ..Sample::between(before, after, seconds, count - 1)
        };
        process.stop();
        self.broker.cancel(&replies).await;
        sample
    }

    /// Lets a contender execute commands that come at a fixed rate.
    pub(crate) async fn pace(&self, contender: &Contender, rate: usize) -> Times {
        let exchange = self.exchange(contender);
        let mut replies = self.broker.replies(&self.prefix).await;
        let process = self.start(contender);
        // A few before, over seconds: the worker has started then, and publishes without the care of its start.
        let first = &self.groups[..1];
        let to = (self.prefix.as_str(), exchange.as_str());
        pace::measure(&self.broker, to, first, 1, &mut replies).await;
        let times = pace::measure(&self.broker, to, &self.groups, rate, &mut replies).await;
        process.stop();
        self.broker.cancel(&replies).await;
        times
    }

    fn exchange(&self, contender: &Contender) -> String {
        let name = match contender {
            Contender::Peer(_) => "bare",
            Contender::Groupmq { .. } => "commands",
        };
        format!("{}.{name}", self.prefix)
    }

    fn start(&self, contender: &Contender) -> Process {
        match contender {
            Contender::Peer(peer) => self.peer(peer),
            Contender::Groupmq { store, .. } => self.groupmq(*store),
        }
    }

    pub(crate) async fn clean_up(&self) {
        self.broker.clean_up(&self.prefix).await;
    }

    fn peer(&self, peer: &Peer) -> Process {
        let own = |name: &str| format!("{}.{name}", self.prefix);
        let mut command = peer.command();
        command
            .env("BENCH_URL", &self.url)
            .env("BENCH_QUEUE", own("bare-commands"))
            .env("BENCH_EVENTS", own("events"))
            .env("BENCH_IN_FLIGHT", IN_FLIGHT.to_string());
        Process::start(&mut command)
    }

    fn groupmq(&self, store: usize) -> Process {
        let groupmq = |argument: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_groupmq"));
            command
                .args(argument)
                .env("GROUPMQ_AMQP__URL", &self.url)
                .env("GROUPMQ_TOPOLOGY__PREFIX", &self.prefix)
                .env("GROUPMQ_STORE__URL", &self.stores[store].url)
                .stdout(Stdio::null());
            command
        };
        // One store after another under one prefix, which a worker refuses of its own accord.
        let adopted = groupmq(&["store", "adopt"]).status().unwrap();
        assert!(adopted.success(), "the broker does not take another store");
        let mut run = groupmq(&["run"]);
        run.env("GROUPMQ_AMQP__PREFETCH", IN_FLIGHT.to_string())
            .env("GROUPMQ_OPS__LISTEN", "127.0.0.1:19464")
            .env("GROUPMQ_LOG__FILTER", "warn");
        Process::start(&mut run)
    }
}

/// The next reply. A contender that died sends none.
async fn answered(replies: &mut lapin::Consumer) {
    let next = tokio::time::timeout(Duration::from_mins(1), replies.next()).await;
    let reply = next.expect("the worker sends replies");
    reply.unwrap().unwrap();
}

async fn wait_until_ready() {
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
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the worker does not become ready");
}
