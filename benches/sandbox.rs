//! Commands per second through the sandbox and the store alone, without a broker:
//! `cargo bench --bench sandbox`.
//!
//! Every command that changes something is on disk, with its outcome, before it counts. The store is
//! SQLite in a temporary folder, or the one whose URL is in `GROUPMQ_STORE__URL`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(
    clippy::disallowed_methods,
    reason = "it has no lifecycle and reads its own settings"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use groupmq::clock::{Clock, SystemClock};
use groupmq::config;
use groupmq::contract::CommandType;
use groupmq::engines::pictures::Pictures;
use groupmq::engines::sandbox::Sandbox;
use groupmq::engines::{Call, Context, Engine as _, ResultLimit};
use groupmq::outbound::{AddressPolicy, Outbound};
use groupmq::store::Store;
use serde_json::{Value, json};

const COMMANDS: usize = 40_000;
const GROUPS: usize = 1_000;
const IN_FLIGHT: usize = 300;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.db");
    let url = std::env::var("GROUPMQ_STORE__URL").unwrap_or(format!("sqlite:{}", file.display()));
    let store = config::Store {
        url: url.into(),
        url_file: None,
        connections: 4,
        timeout: Duration::from_secs(5),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (store, writer) = Store::open(&store, clock.clone()).await.unwrap();
    tokio::spawn(writer);
    let sessions = [
        ("default", "491700000001@c.us"),
        ("other", "491700000002@c.us"),
    ];
    let sessions = sessions
        .into_iter()
        .map(|(name, phone)| (name.parse().unwrap(), phone.parse().unwrap()))
        .collect();
    let config = config::Sandbox {
        sessions,
        ..config::Sandbox::default()
    };
    let egress = config::Sources::default().load().unwrap().egress;
    let outbound = Outbound::new(&egress, AddressPolicy::PublicOnly).unwrap();
    let limit = ResultLimit::of_messages(16 << 20);
    let engine = Sandbox::new(store, config, clock, Pictures::new(outbound), limit);

    let people = [
        "491700000002@c.us",
        "491700000003@c.us",
        "491700000004@c.us",
    ];
    let create = json!({"name": "Group", "participants": people});
    let begun = Instant::now();
    let groups: Vec<String> = run(&engine, GROUPS, |n| {
        (format!("g{n}"), "CreateGroup", create.clone())
    })
    .await
    .iter()
    .map(|result| result["id"].as_str().unwrap().to_owned())
    .collect();
    report("CreateGroup", GROUPS, begun);

    for round in 1..=3 {
        let begun = Instant::now();
        let subject = |n: usize| {
            let payload =
                json!({"groupId": groups[n % GROUPS], "subject": format!("Round {round} {n}")});
            (format!("s{round}-{n}"), "SetGroupSubject", payload)
        };
        run(&engine, COMMANDS, subject).await;
        report("SetGroupSubject", COMMANDS, begun);
    }
    let begun = Instant::now();
    let read = |n: usize| {
        (
            format!("r{n}"),
            "GetGroup",
            json!({"groupId": groups[n % GROUPS]}),
        )
    };
    run(&engine, COMMANDS, read).await;
    report("GetGroup", COMMANDS, begun);
}

async fn run(
    engine: &Sandbox,
    count: usize,
    command: impl Fn(usize) -> (String, &'static str, Value),
) -> Vec<Value> {
    let one = |n: usize| {
        let (id, name, payload) = command(n);
        let kind: CommandType = name.parse().unwrap();
        let call = Call {
            id: id.parse().unwrap(),
            session: "default".parse().unwrap(),
            command: kind.read(payload).unwrap(),
            fingerprint: [0; 32],
            part: None,
            context: Context::default(),
        };
        async move {
            let effect = engine.execute(&call).await.unwrap();
            serde_json::from_str(effect.result.get()).unwrap()
        }
    };
    stream::iter((0..count).map(one))
        .buffered(IN_FLIGHT)
        .collect()
        .await
}

fn report(what: &str, count: usize, begun: Instant) {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{what:<18} {rate:>9.0} commands/s");
}
