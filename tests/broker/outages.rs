//! The store goes away while commands flow, or takes no more changes, and comes back by itself:
//! nothing is lost, nothing is done twice, and meanwhile the worker waits quietly and says why.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use groupmq_test_support::disk::SmallDisk;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Seen;
use serde_json::Value;

use super::scene::{PATIENCE, Scene, effects, subjects};

pub(crate) const COMMANDS: usize = 3_000;
pub(crate) const GROUPS: usize = 50;

const DOWN: &str = "the store is unavailable; commands wait until it is back";
const BACK: &str = "the store is available again";

/// A store that can be put out of use and back into it, and what its outage is called.
pub(crate) struct Trouble<'a, S> {
    pub(crate) store: &'a mut S,
    pub(crate) begin: fn(&mut S, &Scene),
    pub(crate) end: fn(&mut S, &Scene),
    /// What readiness names.
    pub(crate) cause: &'a str,
}

/// Puts the store out of use in the middle of some thousand commands.
pub(crate) async fn costs_nothing<S>(
    scene: &Scene,
    groups: &[String],
    name: &str,
    trouble: Trouble<'_, S>,
) {
    let commands = subjects(groups, name, COMMANDS);
    let before = scene.producer.seen().answered();
    let outage = async {
        let some = before + COMMANDS / 5;
        scene.producer.answered(some, PATIENCE).await.unwrap();
        let logged = scene.worker.log().len();
        let begun = Instant::now();
        (trouble.begin)(trouble.store, scene);
        until_not_ready(scene, trouble.cause).await;
        let used = scene.worker.processor_time().unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let used = scene.worker.processor_time().unwrap().saturating_sub(used);
        // Waiting is no work: not even a tenth of one core.
        assert!(used < Duration::from_millis(400), "{used:?}");
        assert_eq!(scene.worker.get("/livez").await.unwrap().0, 200);
        (trouble.end)(trouble.store, scene);
        until(scene, |scene| scene.worker.log().contains(BACK)).await;
        let log = scene.worker.log().split_off(logged);
        let failures = assert_quiet(&log, begun.elapsed());
        println!("{name}: {failures} failures, {used:?} of processor time in 4 s");
    };
    let (sent, ()) = tokio::join!(scene.producer.send_all(commands), outage);
    sent.unwrap();
    let all = before + COMMANDS;
    let came = |seen: &Seen| {
        let all_came = seen.answered() == all
            && seen.answered_directly() == all
            && effects(seen, &format!("{name}-")) == COMMANDS;
        all_came.then_some(())
    };
    scene.producer.until(2 * PATIENCE, came).await.unwrap();
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    assert_once_each(scene.producer.seen());
}

async fn until(scene: &Scene, is_so: impl Fn(&Scene) -> bool) {
    let begun = Instant::now();
    while !is_so(scene) {
        let log = scene.worker.log_tail();
        assert!(begun.elapsed() < PATIENCE, "{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Readiness says why not, and names the cause.
async fn until_not_ready(scene: &Scene, cause: &str) {
    let begun = Instant::now();
    loop {
        let answer = scene.worker.get("/readyz").await;
        if let Ok((503, body)) = &answer {
            let body: Value = serde_json::from_str(body).unwrap();
            let problems = body["problems"].to_string();
            if problems.contains("the store cannot be used now") && problems.contains(cause) {
                return;
            }
        }
        let log = scene.worker.log_tail();
        assert!(begun.elapsed() < PATIENCE, "{answer:?}\n{log}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The log of an outage: said once, with its cause, and its end once; and how often anything was
/// tried, which does not depend on how many commands wait.
fn assert_quiet(log: &str, lasted: Duration) -> u64 {
    let said: Vec<_> = log.lines().filter(|line| line.contains(DOWN)).collect();
    let reminders = usize::try_from(lasted.as_secs()).unwrap() / 30;
    assert!((1..=1 + reminders).contains(&said.len()), "{log}");
    assert!(
        said.iter().all(|line| line.contains("error.sources=[")),
        "{log}"
    );
    assert_eq!(log.matches(BACK).count(), 1, "{log}");
    let answers = log.matches("command answered").count();
    assert!(log.lines().count() - answers <= 2 + reminders, "{log}");
    let back = log.lines().find(|line| line.contains(BACK)).unwrap();
    let failures = back.split("failures=").nth(1).unwrap();
    let failures = failures.split_whitespace().next().unwrap();
    let failures = failures.parse().unwrap();
    // What was in hand when it began, in few transactions; then some a second.
    assert!(
        failures <= 30 + 4 * lasted.as_secs(),
        "{failures} in {lasted:?}"
    );
    failures
}

/// Each command took effect once: a second effect would leave a gap in its group's sequence, since
/// its event has the first one's id.
pub(crate) fn assert_once_each(seen: &Seen) {
    let mut sequences = BTreeMap::<String, Vec<u64>>::new();
    for event in seen.events() {
        let payload = &event["payload"];
        let of_group = payload["chatId"].as_str();
        let group = of_group.or(payload["group"]["id"].as_str()).unwrap();
        let sequence = payload["sequence"].as_u64().unwrap();
        sequences
            .entry(group.to_owned())
            .or_default()
            .push(sequence);
    }
    assert_eq!(sequences.len(), GROUPS);
    for (group, seen) in sequences {
        let in_order: Vec<u64> = (1..=u64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, in_order, "{group}");
    }
}

async fn on_postgres() -> (Postgres, Scene, Vec<String>) {
    let server = Postgres::start().unwrap();
    let database = server.database().unwrap();
    let scene = Scene::shared_with(|options| options.set("store.url", &database.url)).await;
    let groups = scene.groups(GROUPS).await;
    (server, scene, groups)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_stopped_and_started_costs_no_command() {
    let (mut server, scene, groups) = on_postgres().await;
    let stopped = Trouble {
        store: &mut server,
        begin: |server, _| server.stop().unwrap(),
        end: |server, _| server.start_again().unwrap(),
        cause: "Connection refused",
    };
    costs_nothing(&scene, &groups, "stopped", stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_is_killed_and_started_costs_no_command() {
    let (mut server, scene, groups) = on_postgres().await;
    let killed = Trouble {
        store: &mut server,
        begin: |server, _| server.kill().unwrap(),
        end: |server, _| server.start_again().unwrap(),
        cause: "Connection refused",
    };
    costs_nothing(&scene, &groups, "killed", killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgresql_that_becomes_read_only_and_writable_again_costs_no_command() {
    let (mut server, scene, groups) = on_postgres().await;
    let read_only = Trouble {
        store: &mut server,
        begin: |server, _| server.set("default_transaction_read_only", "on").unwrap(),
        end: |server, _| server.set("default_transaction_read_only", "off").unwrap(),
        cause: "read-only transaction",
    };
    costs_nothing(&scene, &groups, "read-only", read_only).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_and_cleared_again_costs_no_command() {
    let mut disk = SmallDisk::new().unwrap();
    println!("{disk:?}");
    let scene = Scene::shared_with(|options| disk.hold(options)).await;
    let groups = scene.groups(GROUPS).await;
    let full = Trouble {
        store: &mut disk,
        begin: |disk, scene| disk.fill(&scene.worker).unwrap(),
        end: |disk, scene| disk.clear(&scene.worker).unwrap(),
        cause: "disk",
    };
    costs_nothing(&scene, &groups, "full", full).await;
}
