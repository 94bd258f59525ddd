//! `bench`: what it reports adds up, its times leave nothing out, and it spares real accounts.

mod early;
mod http;

use std::process::{Child, Stdio};
use std::time::Duration;

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Options;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Ran, run};
use crate::behaviour::stage::{Kind, Stage};
use crate::scene::{PATIENCE, Scene, options};

/// A thousand commands in ten seconds.
const STEADY: &str =
    "bench commands --json --duration 10s --warm-up 0s --groups 3 --rate 100 --mix SetGroupSubject";

/// The arguments in a line.
fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// A `bench` that is under way.
struct Begun(Child);

impl Begun {
    fn new(options: &Options, arguments: &[&str]) -> Self {
        let mut command = options.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end.
    async fn end(self) -> Ran {
        let wait = move || self.0.wait_with_output().unwrap();
        let output = tokio::task::spawn_blocking(wait).await.unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn report(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{ran:?}");
    let report = serde_json::from_str(&ran.out);
    let report = report.unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert_is_documented(&report);
    report
}

/// Each field of a report is in docs/performance.md.
fn assert_is_documented(report: &Value) {
    const PAGE: &str = include_str!("../../../../docs/performance.md");
    match report {
        Value::Array(items) => items.iter().for_each(assert_is_documented),
        Value::Object(fields) => {
            for (name, value) in fields {
                assert!(PAGE.contains(&format!("`{name}`")), "{name}");
                match name.as_str() {
                    // By the names of commands, and by codes of errors.
                    "mix" | "outcomes" => {}
                    "commands" => value
                        .as_object()
                        .unwrap()
                        .values()
                        .for_each(assert_is_documented),
                    _ => assert_is_documented(value),
                }
            }
        }
        _ => {}
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

/// The sum of the outcomes.
fn answers(counts: &Value) -> u64 {
    let outcomes = counts["outcomes"].as_object().unwrap();
    outcomes.values().map(number).sum()
}

/// Each command that was sent has one reply, and each reply and confirm a time.
fn assert_adds_up(counts: &Value) {
    assert_eq!(number(&counts["sent"]), answers(counts), "{counts}");
    assert_eq!(counts["lost"], 0, "{counts}");
    assert_eq!(counts["unanswered"], 0, "{counts}");
    for stage in ["confirm", "reply"] {
        assert_eq!(counts["stages"][stage]["count"], counts["sent"], "{counts}");
    }
}

/// How many groups the session has.
async fn groups(scene: &Scene, id: &str) -> u64 {
    let reply = scene.call(id, "CountGroups", &json!({})).await;
    number(&reply["result"]["count"])
}

/// Waits until the worker has done some changing commands of a `bench`.
async fn until_loaded(scene: &Scene) {
    let loaded = |seen: &groupmq_test_support::producer::Seen| {
        let changes = seen
            .events()
            .iter()
            .filter(|it| it["event"] == "group.v2.update")
            .count();
        (changes > 5).then_some(())
    };
    scene.producer.until(PATIENCE, loaded).await.unwrap();
}

#[tokio::test]
async fn each_command_has_one_reply_and_each_reply_a_time() {
    let scene = Scene::shared().await;
    let arguments = words(
        "bench commands --json --events --duration 1s --warm-up 200ms --groups 3 --sessions default,second --in-flight 10 --mix SetGroupSubject=2,GetGroup=1,CountGroups=1",
    );
    let ran = run(&scene.options, &arguments).await;
    let report = report(&ran);
    assert_eq!(ran.err, "", "{ran:?}");
    let [run] = report["runs"].as_array().unwrap().as_slice() else {
        panic!("{report}");
    };
    let total = &run["total"];
    assert_adds_up(total);
    assert_eq!(total["outcomes"]["ok"], total["sent"], "{run}");
    assert_eq!(run["repeated"], 0, "{run}");
    assert_eq!(
        (&run["loop"], &run["inFlight"]),
        (&json!("closed"), &json!(10))
    );
    let mut sent = 0;
    for command in ["SetGroupSubject", "GetGroup", "CountGroups"] {
        let counts = &run["commands"][command];
        assert_adds_up(counts);
        assert!(number(&counts["sent"]) > 0, "{run}");
        sent += number(&counts["sent"]);
    }
    assert_eq!(sent, number(&total["sent"]), "{run}");
    // Each change causes an event, and reading causes none.
    let commands = &run["commands"];
    let changes = &commands["SetGroupSubject"];
    assert_eq!(
        changes["stages"]["event"]["count"], changes["sent"],
        "{run}"
    );
    assert_eq!(commands["GetGroup"]["stages"]["event"]["count"], 0, "{run}");
    // The worker has counted at least those: the others belong to the warm-up.
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    let series = "groupmq_commands_total{type=\"SetGroupSubject\",outcome=\"ok\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    let done: u64 = line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap();
    assert!(done >= number(&changes["sent"]), "{done}: {run}");
    assert_eq!(groups(&scene, "left").await, 0);
}

#[tokio::test]
async fn the_times_of_an_open_loop_contain_a_pause_of_the_worker() {
    let scene = Scene::shared().await;
    let bench = Begun::new(&scene.options, &words(STEADY));
    until_loaded(&scene).await;
    scene.worker.signal(Signal::SIGSTOP).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.worker.signal(Signal::SIGCONT).unwrap();
    let report = report(&bench.end().await);
    let run = &report["runs"][0];
    assert_adds_up(&run["total"]);
    // All of the schedule counts: the loop did not wait for the worker.
    let unsent = number(&run["unsent"]);
    assert_eq!(number(&run["total"]["sent"]) + unsent, 1_000, "{run}");
    // 300 commands were due in the pause, so 100 of them in its first second: each waited for at least two.
    let p90 = number(&run["total"]["stages"]["reply"]["p90Us"]);
    assert!(p90 >= 1_900_000, "{run}");
}

#[tokio::test]
async fn the_times_of_an_open_loop_contain_a_pause_of_the_load_generator() {
    let scene = Scene::shared().await;
    let bench = Begun::new(&scene.options, &words(STEADY));
    until_loaded(&scene).await;
    bench.signal(Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.signal(Signal::SIGCONT);
    let report = report(&bench.end().await);
    let run = &report["runs"][0];
    assert_adds_up(&run["total"]);
    assert_eq!(run["held"], false, "{run}");
    let unsent = number(&run["unsent"]);
    assert_eq!(number(&run["total"]["sent"]) + unsent, 1_000, "{run}");
    for times in [&run["late"], &run["total"]["stages"]["reply"]] {
        assert!(number(&times["p90Us"]) >= 1_900_000, "{run}");
    }
}

#[tokio::test]
async fn a_command_without_a_reply_in_time_is_lost() {
    let scene = Scene::shared().await;
    let arguments = words(
        "bench commands --json --duration 10s --warm-up 0s --groups 3 --rates 50,60 --timeout 1s --mix SetGroupSubject",
    );
    let bench = Begun::new(&scene.options, &arguments);
    until_loaded(&scene).await;
    scene.worker.signal(Signal::SIGSTOP).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.worker.signal(Signal::SIGCONT).unwrap();
    let ran = bench.end().await;
    let report = report(&ran);
    let total = &report["runs"][0]["total"];
    // Their replies come all the same, and count as too late.
    let lost = number(&total["lost"]);
    assert_eq!(number(&total["sent"]), answers(total) + lost, "{report}");
    let late = number(&report["runs"][0]["repeated"]);
    assert!((50..=lost).contains(&late), "{report}");
    // What is still queued would disturb the next run.
    assert_eq!(report["runs"].as_array().unwrap().len(), 1);
    assert!(ran.err.contains("stopped after 50/s"), "{ran:?}");
}

#[tokio::test]
async fn groups_stay_if_they_are_to_be_kept() {
    let scene = Scene::shared().await;
    let arguments = words(
        "bench commands --duration 100ms --warm-up 0s --groups 2 --keep-groups --in-flight 2",
    );
    let ran = run(&scene.options, &arguments).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("2 in flight, 0.1 s"), "{ran:?}");
    assert_eq!(groups(&scene, "after").await, 2);
}

#[tokio::test]
async fn the_drawing_has_a_point_for_each_rate() {
    let scene = Scene::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rates.svg");
    let name = file.display().to_string();
    let arguments =
        words("bench commands --json --duration 500ms --warm-up 100ms --groups 2 --rates 20,40,80");
    let arguments = [&arguments[..], &["--svg", &name]].concat();
    let report = report(&run(&scene.options, &arguments).await);
    let runs = report["runs"].as_array().unwrap();
    let rates: Vec<_> = runs.iter().map(|it| it["rate"].as_f64().unwrap()).collect();
    assert_eq!(rates, [20.0, 40.0, 80.0]);
    for (run, rate) in runs.iter().zip([20, 40, 80]) {
        assert_adds_up(&run["total"]);
        assert_eq!(
            number(&run["total"]["sent"]) + number(&run["unsent"]),
            rate / 2,
            "{run}"
        );
    }
    let svg = std::fs::read_to_string(&file).unwrap();
    let svg = roxmltree::Document::parse(&svg).unwrap();
    assert_eq!(svg.root_element().tag_name().name(), "svg");
    for series in ["p50", "p99", "p99.9"] {
        let points = svg.descendants().filter(|it| {
            it.has_tag_name(("http://www.w3.org/2000/svg", "circle"))
                && it.attribute("class") == Some(series)
        });
        let across: Vec<f64> = points
            .map(|it| it.attribute("cx").unwrap().parse().unwrap())
            .collect();
        assert_eq!(across.len(), 3);
        assert!(across.is_sorted(), "{across:?}");
    }
}

#[tokio::test]
async fn a_real_account_gets_no_load() {
    let stage = Stage::with(Kind::Gows, |options| options).await;
    let asked = stage.waha().asked().len();
    let options = &stage.scene.options;
    let refused = run(options, &["bench", "commands", "--duration", "1s"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    for part in ["the engine is WAHA", "--allow-real-accounts"] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    let asked: Vec<_> = stage.waha().asked().split_off(asked);
    assert!(asked.iter().all(|it| it.method == "GET"), "{asked:?}");

    let people = words("bench commands --allow-real-accounts --mix AddParticipants");
    let refused = run(options, &people).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("names people who are made up"),
        "{refused:?}"
    );

    let allowed = words(
        "bench commands --allow-real-accounts --json --duration 200ms --warm-up 0s --in-flight 1 --mix CountGroups",
    );
    let report = report(&run(options, &allowed).await);
    assert_adds_up(&report["runs"][0]["total"]);
}

#[tokio::test]
async fn without_a_worker_bench_says_what_to_look_at() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix);
    let missing = run(&options, &["bench", "commands"]).await;
    assert_eq!(missing.code, 5, "{missing:?}");
    let applied = run(&options, &["topology", "apply"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let silent = run(&options, &["bench", "commands", "--timeout", "1s"]).await;
    assert_eq!(silent.code, 4, "{silent:?}");
    for part in [
        "no worker has answered for session default",
        &prefix,
        "groupmq doctor",
    ] {
        assert!(silent.err.contains(part), "{silent:?}");
    }
}

#[tokio::test]
async fn wrong_options_of_bench_are_refused_before_anything_is_sent() {
    for (wrong, why) in [
        (
            &["--mix", "CreateGroup"][..],
            "possible are ListGroups, CountGroups",
        ),
        (&["--rate", "0"], "must be a number of commands a second"),
        (&["--rate", "5", "--in-flight", "5"], "cannot be used with"),
        (&["--rate", "5", "--rates", "5"], "cannot be used with"),
        (&["--svg", "/tmp/x.svg"], "--rates"),
        (
            &["--rates", "1", "--svg", "/nowhere/x.svg"],
            "--svg /nowhere/x.svg",
        ),
        (&["--duration", "0s"], "must be longer than 0s"),
        (&["--duration", "48h"], "must not be longer than 24h"),
    ] {
        let arguments = [&["bench", "commands"], wrong].concat();
        let ran = run(&super::alone(), &arguments).await;
        assert_eq!(ran.code, 2, "{wrong:?}: {ran:?}");
        assert!(ran.err.contains(why), "{wrong:?}: {ran:?}");
    }
}
