//! `cargo bench --bench gateway`: requests per second and latency through the gateway, beside the
//! plain round trip over AMQP, in one run.
//!
//! `groupmq bench` measures both on the same worker (the sandbox): the subject of a group is changed,
//! with the same number in flight. Rounds alternate, and the best of each counts, since noise only ever
//! slows down.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::expect_used, reason = "as above")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it reads its own settings")]

use groupmq::amqp::{Client, Target, Topology};
use groupmq::config::Sources;
use groupmq_test_support::worker::{Options, Worker};
use serde_json::Value;

const ROUNDS: usize = 3;
/// Requests at the same time.
const AT_ONCE: [usize; 2] = [1, 64];

#[tokio::main]
async fn main() {
    let url = std::env::var("GROUPMQ_AMQP__URL").expect("GROUPMQ_AMQP__URL; run `make bench`");
    let prefix = format!("groupmq-gateway-bench-{}", std::process::id());
    let address = groupmq_test_support::free_address();
    let options =
        Options::new(env!("CARGO_BIN_EXE_groupmq"), &url, &prefix).set("log.filter", "warn");
    let options = options.with_one_store().unwrap();
    let worker = Worker::start(&options).await.unwrap();
    let front = options
        .clone()
        .set("roles", "gateway")
        .set("gateway.listen", address.to_string());
    let front = Worker::start(&front).await.unwrap();

    let web = format!("http://{address}");
    for at_once in AT_ONCE {
        let (mut by_queue, mut by_web) = (Figures::default(), Figures::default());
        for _ in 0..ROUNDS {
            by_queue = by_queue.best(bench(&options, at_once, &["commands"], "reply"));
            let gateway = ["gateway", "--url", &web];
            by_web = by_web.best(bench(&options, at_once, &gateway, "answer"));
        }
        by_queue.print(at_once, "plain AMQP round trip");
        by_web.print(at_once, "through the gateway");
        println!(
            "{at_once:>3} at once  the gateway has {:.2} of the plain rate, and adds {:.2} ms at p50",
            by_web.rate / by_queue.rate,
            by_web.p50 - by_queue.p50,
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

/// What a run came to; milliseconds.
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
            self.rate, self.p50, self.p99,
        );
    }
}

/// Runs `groupmq bench`; `stage` ends with the answer.
fn bench(options: &Options, at_once: usize, kind: &[&str], stage: &str) -> Figures {
    let at_once = at_once.to_string();
    let mut arguments = vec!["bench"];
    arguments.extend(kind);
    arguments.extend([
        "--json",
        "--in-flight",
        &at_once,
        "--mix",
        "SetGroupSubject",
    ]);
    arguments.extend(["--groups", "500", "--warm-up", "1s", "--duration", "5s"]);
    let output = options.command(&arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &report["runs"][0];
    let total = &run["total"];
    assert_eq!(total["outcomes"]["ok"], total["sent"], "{report}");
    let times = &total["stages"][stage];
    Figures {
        rate: run["perSecond"].as_f64().unwrap(),
        p50: times["p50Us"].as_f64().unwrap() / 1e3,
        p99: times["p99Us"].as_f64().unwrap() / 1e3,
    }
}
