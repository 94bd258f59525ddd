//! `groupmq dead replay` that is cut off in the middle, again and again: no dead letter is lost, and
//! none has a second effect.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Worker, store_in};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::Rng as _;
use serde_json::json;

use super::load::assert_events;
use super::scene::{PATIENCE, Scene, subjects};
use super::torture::Chance;
use super::world;

const GROUPS: usize = 10;
const LETTERS: usize = 150;

/// The session is offline.
const OUTAGE: &str = "engine.sandbox.faults.default.outage";

/// A worker that has kept all commands as dead letters and is stopped now.
async fn with_dead_letters(store: &str) -> (Scene, Vec<String>) {
    let mut scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let groups = scene.groups(GROUPS).await;
    scene.worker.stop().await.unwrap();
    // Only this one gives up so soon: the next one would over any hesitation of its store.
    let offline = scene.options.clone().set(OUTAGE, "true");
    let offline = offline
        .set("retry.max_age", "1ms")
        .set("retry.within", "0s");
    let mut worker = Worker::start(&offline).await.unwrap();
    let commands = subjects(&groups, "late", LETTERS);
    scene.producer.send_all(commands).await.unwrap();
    let all = GROUPS + LETTERS;
    scene.producer.answered(all, 2 * PATIENCE).await.unwrap();
    worker.stop().await.unwrap();
    (scene, groups)
}

/// How a replay ended.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// It came to the end of the dead letters.
    Finished,
    /// It was asked to stop, and did.
    Interrupted,
    /// It was killed, or interrupted before it listened to that.
    Killed,
}

/// Replays until a signal comes, if one does.
async fn replay(scene: &Scene, rate: &str, signal: Option<(Signal, Duration)>) -> End {
    let mut command = scene.options.command(&["dead", "replay", "--rate", rate]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap();
    if let Some((signal, after)) = signal {
        tokio::time::sleep(after).await;
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }
    let waiting = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let ended = tokio::time::timeout(PATIENCE, waiting).await;
    let Ok(output) = ended.map(Result::unwrap) else {
        panic!("the replay does not end");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        None => End::Killed,
        Some(0) => End::Finished,
        Some(6) if said.contains("interrupted") => End::Interrupted,
        other => panic!(
            "{other:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

#[tokio::test]
async fn a_replay_that_is_cut_off_again_and_again_loses_and_doubles_nothing() {
    let mut chance = Chance::new();
    println!("seed {}", chance.seed);
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let (mut scene, groups) = with_dead_letters(&store).await;
    let broker = RabbitMq::shared().await.unwrap();
    let mut ends = BTreeMap::<End, usize>::new();
    for n in 0..8 {
        let signal = [Signal::SIGKILL, Signal::SIGINT][n % 2];
        let after = Duration::from_millis(chance.rng.random_range(0..600));
        // At a pace that comes to no end in this time, and as fast as it can.
        let rate = if n < 6 { "50" } else { "10000" };
        let end = replay(&scene, rate, Some((signal, after))).await;
        *ends.entry(end).or_default() += 1;
    }
    // What the broker has not yet taken back from the last one is not part of the next.
    while replay(&scene, "10000", None).await != End::Finished
        || !is_empty(broker, &format!("{}.dead.commands", scene.prefix)).await
    {}
    println!("{LETTERS} dead letters, replays that were cut off: {ends:?}");

    scene.worker = Worker::start(&scene.options).await.unwrap();
    let lost = |seen: &Seen| -> Vec<usize> {
        let ok = |n: &usize| {
            let replies = seen.replies(&format!("late-{n}"));
            replies.iter().any(|reply| reply.body["status"] == "ok")
        };
        (0..LETTERS).filter(|n| !ok(n)).collect()
    };
    let none = |seen: &Seen| lost(seen).is_empty().then_some(());
    if scene.producer.until(2 * PATIENCE, none).await.is_err() {
        let lost = lost(scene.producer.seen());
        let depths = broker.queue_depths().await.unwrap();
        let here = |(name, _): &(&String, &u64)| name.starts_with(&scene.prefix);
        let depths: Vec<_> = depths.iter().filter(here).collect();
        let letters = scene.producer.dead_letters().await.unwrap();
        let headers: Vec<_> = letters.iter().map(|letter| &letter.headers).collect();
        panic!("not answered: {lost:?}; {depths:?}; {headers:?}");
    }
    let world = world::groups(&store).await;
    let mut effects = 0;
    for group in &groups {
        let changed_by = &world[group].changed_by;
        let once: BTreeSet<_> = changed_by.iter().collect();
        assert_eq!(once.len(), changed_by.len(), "{changed_by:?}");
        effects += changed_by.len();
    }
    assert_eq!(effects, GROUPS + LETTERS);
    assert_events(&scene.producer, &world).await;
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    let copies = scene.producer.seen().reply_copies();
    println!("{effects} effects, {copies} replies");
}

#[tokio::test]
async fn a_command_whose_id_is_in_its_body_alone_can_be_replayed() {
    let mut scene = Scene::shared().await;
    let command = Command::new("early", "ListGroups", "branch", &json!({}));
    let refused = scene.producer.call(command).await.unwrap();
    assert_eq!(refused["error"]["code"], "SESSION_NOT_FOUND", "{refused}");
    scene.worker.stop().await.unwrap();
    let known = "engine.sandbox.sessions.branch";
    let options = scene.options.clone().set(known, "15550000077");
    scene.worker = Worker::start(&options).await.unwrap();
    assert_eq!(replay(&scene, "10000", None).await, End::Finished);
    let done = |seen: &Seen| {
        let replies = seen.replies("early");
        let again = replies
            .iter()
            .find(|it| it.body["error"]["code"] != "SESSION_NOT_FOUND");
        again.map(|reply| reply.body.clone())
    };
    let reply = scene.producer.until(PATIENCE, done).await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
}

async fn is_empty(broker: &RabbitMq, queue: &str) -> bool {
    let depths = broker.queue_depths().await.unwrap();
    depths.get(queue) == Some(&0)
}
