//! `make bench`: groupmq beside a bare lapin loop and beside workers of other languages, with either store, with a
//! small and a large ledger, changing and reading: rate, processor time, context switches and memory; then the times
//! from command to reply at half the rate.
//!
//! Each contender is a process of its own. They take turns (A B C … A B C …), so that what else the machine does
//! falls on all of them, and what counts is the ratio of the medians. Settings, all from the environment:
//! `BENCH_ROUNDS`, `BENCH_COMMANDS` in each run, `BENCH_LARGE_LEDGER` rows, `BENCH_WAITING` commands in the last run,
//! `BENCH_ONLY`, parts of names of contenders, separated by `|`, to measure no others beside the bare loop, and
//! `BENCH_JSON`, the file that the figures go to.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on may stop")]
#![expect(clippy::expect_used, reason = "as above")]
#![expect(clippy::panic, reason = "as above")]
#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it reads its own settings")]

mod broker;
mod contenders;
mod measure;
mod pace;
mod peers;
mod stores;
mod table;

use std::path::{Path, PathBuf};

use groupmq_test_support::postgres::Postgres;
use serde_json::json;

use broker::Kind;
use contenders::{Bench, Contender};
use table::Row;

/// Groups that the commands are spread over: a group's commands run one by one.
const GROUPS: usize = 1_000;
/// The prefetch window of every contender.
const IN_FLIGHT: u16 = 300;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["peer", "bare"] {
        return peers::bare::run().await;
    }
    let url = std::env::var("GROUPMQ_AMQP__URL").expect("GROUPMQ_AMQP__URL; run `make bench`");
    let rounds = setting("BENCH_ROUNDS", 5);
    let commands = setting("BENCH_COMMANDS", 20_000);
    let large = setting("BENCH_LARGE_LEDGER", 1_000_000);
    let waiting = setting("BENCH_WAITING", 100_000);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let json = std::env::var_os("BENCH_JSON").map_or(target.join("bench.json"), PathBuf::from);

    let folder = tempfile::tempdir().unwrap();
    let server = Postgres::start().unwrap();
    let stores = stores::empty(folder.path(), &server, i64::try_from(large).unwrap());
    let mut contenders = contenders::all(&stores, target);
    let bench = Bench::prepare(url, stores).await;
    if let Ok(only) = std::env::var("BENCH_ONLY") {
        let bare = contenders.remove(0);
        let is_wanted = |name: &str| only.split('|').any(|part| name.contains(part));
        contenders.retain(|contender| is_wanted(&bench.name(contender)));
        contenders.insert(0, bare);
    }
    let mut rows: Vec<Row> = Vec::new();
    for contender in &contenders {
        let name = bench.name(contender);
        let samples = Vec::new();
        rows.push(Row { name, samples });
    }
    for round in 1..=rounds {
        bench.shrink_ledgers().await;
        for (contender, row) in contenders.iter().zip(&mut rows) {
            let sample = bench.run(contender, commands).await;
            let rate = sample.commands_per_second;
            println!(
                "Round {round} of {rounds}: {}: {rate:.0} commands/s.",
                row.name
            );
            row.samples.push(sample);
        }
    }
    println!("\n{}", table::markdown(&rows));
    let (store, kind) = (0, Kind::Change);
    let groupmq = Contender::Groupmq { store, kind };
    let many = bench.run(&groupmq, waiting).await;
    println!(
        "With {waiting} waiting: {:.0} commands/s, peak memory {:.1} MB.",
        many.commands_per_second, many.peak_memory_mb
    );
    let rate = half(many.commands_per_second);
    let (mut bare, mut own) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(bench.pace(&contenders[0], rate).await);
        own.push(bench.pace(&groupmq, rate).await);
    }
    let (bare, own) = (pace::medians(&bare), pace::medians(&own));
    println!(
        "From command to reply at {rate} commands/s: bare lapin loop p50 {:.1} ms, p99 {:.1} ms; {} p50 {:.1} ms, \
         p99 {:.1} ms.",
        bare.p50,
        bare.p99,
        bench.name(&groupmq),
        own.p50,
        own.p99
    );
    let settings = json!({
        "rounds": rounds, "commands": commands, "in_flight": IN_FLIGHT, "groups": GROUPS,
        "large_ledger": large, "waiting": waiting, "with_that_many_waiting": many,
        "milliseconds_at_half_rate": { "rate": rate, "bare": bare, "groupmq": own },
    });
    table::write_json(&json, &settings, &rows);
    println!("As JSON: {}", json.display());
    bench.clean_up().await;
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is small and positive"
)]
fn half(rate: f64) -> usize {
    ((rate / 2.0) as usize).max(1)
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| {
        let number = text.parse().ok().filter(|number| *number > 1);
        number.unwrap_or_else(|| panic!("{name} is a number greater than one"))
    })
}
