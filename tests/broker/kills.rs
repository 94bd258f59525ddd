//! Workers that are killed while commands flow: each command is done once, in order.

use std::time::Duration;

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::json;

use super::scene::Scene;

const COMMANDS: usize = 5_000;

fn renames(groups: &[String], range: std::ops::Range<usize>) -> Vec<Command> {
    let rename = |n: usize| {
        let group = &groups[n % groups.len()];
        let payload = json!({"groupId": group, "subject": format!("Subject {n}")});
        Command::new(
            &format!("rename-{n}"),
            "SetGroupSubject",
            "default",
            &payload,
        )
    };
    range.map(rename).collect()
}

/// What every command, answered once or more, has to have left behind.
async fn assert_once_each(scene: &Scene, groups: usize) {
    // Two for each creation, one for each change of a subject; the last may still be on its way.
    let wanted = 2 * groups + COMMANDS;
    let arrived = |seen: &Seen| (seen.events().len() >= wanted).then_some(());
    let within = Duration::from_mins(1);
    scene.producer.until(within, arrived).await.unwrap();
    let mut sequences = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for event in scene.producer.seen().events() {
        let payload = &event["payload"];
        let group = payload["chatId"]
            .as_str()
            .or(payload["group"]["id"].as_str())
            .unwrap();
        let sequence = payload["sequence"].as_u64().unwrap();
        sequences
            .entry(group.to_owned())
            .or_default()
            .push(sequence);
    }
    assert_eq!(sequences.len(), groups);
    let mut events = 0;
    for (group, seen) in sequences {
        // In order and without a gap, repetitions (same id) dropped.
        let in_order: Vec<u64> = (1..=u64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, in_order, "{group}");
        events += seen.len();
    }
    assert_eq!(events, wanted);
}

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_does_each_command_once() {
    const KILLS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let mut scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let groups = scene.groups(50).await;
    let commands = renames(&groups, 0..COMMANDS);
    let kills = async {
        for kill in 0..KILLS {
            // Not at the same point each time, and never before it has begun.
            let pause = 150 + 97 * (u64::try_from(kill).unwrap() % 5);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            scene.worker.kill().unwrap();
            scene.worker = Worker::start(&scene.options).await.unwrap();
        }
    };
    let (sent, ()) = tokio::join!(scene.producer.send_all(commands), kills);
    sent.unwrap();
    scene
        .producer
        .answered(50 + COMMANDS, Duration::from_mins(2))
        .await
        .unwrap();
    println!(
        "{KILLS} kills: {COMMANDS} commands answered ({} replies, {} events)",
        scene.producer.seen().reply_copies(),
        scene.producer.seen().event_copies(),
    );
    assert_once_each(&scene, groups.len()).await;
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}
