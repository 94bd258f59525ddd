//! The same command many times at once: it has one effect, and everybody gets the same answer.

use std::collections::BTreeSet;

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::worker::store_in;
use serde_json::{Value, json};

use super::load::assert_events;
use super::scene::{PATIENCE, Scene, create};
use super::world;

const TIMES: usize = 50;

/// Sends a command many times at once, each time with a correlation id of its own, and sees that all
/// replies are one and that all but one say so.
async fn sent_at_once(scene: &Scene, id: &str, command_type: &str, payload: &Value) -> Value {
    let times = 0..TIMES;
    let correlation = |n| format!("{id}, copy {n}");
    let copies = times.clone().map(|n| Command {
        correlation_id: correlation(n),
        ..Command::new(id, command_type, "default", payload)
    });
    scene.producer.send_all(copies.collect()).await.unwrap();
    let mut answers = BTreeSet::new();
    let mut replayed = 0;
    let mut answer = Value::Null;
    for n in times {
        let mut reply = scene.producer.reply(&correlation(n)).await.unwrap();
        assert_eq!(reply["status"], "ok", "{reply}");
        let body = reply.as_object_mut().unwrap();
        let again = body.remove("replayed").unwrap();
        replayed += usize::from(again == true);
        answers.insert(reply.to_string());
        answer = reply;
    }
    println!("{command_type}: {TIMES} replies, {replayed} replayed");
    assert_eq!(replayed, TIMES - 1, "{command_type}");
    assert_eq!(answers.len(), 1, "{answers:?}");
    let came = |seen: &Seen| {
        let copies = |n| seen.replies(&correlation(n)).len();
        let both_ways = (0..TIMES).all(|n| copies(n) == 2);
        both_ways.then_some(())
    };
    scene.producer.until(PATIENCE, came).await.unwrap();
    answer
}

#[tokio::test]
async fn a_command_that_is_sent_fifty_times_at_once_has_one_effect() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let scene = Scene::shared_with(|options| options.set("store.url", &store)).await;
    let made = sent_at_once(&scene, "create", "CreateGroup", &create("one")).await;
    let group = made["result"]["id"].as_str().unwrap();
    let named =
        json!({"groupId": group, "subject": "another", "participants": ["491800000001@c.us"]});
    let payload = |field: &str| json!({"groupId": group, field: named[field]});
    let mut ids = vec!["create".to_owned()];
    for (command_type, payload) in [
        ("SetGroupSubject", payload("subject")),
        ("AddParticipants", payload("participants")),
        ("RevokeInviteCode", json!({ "groupId": group })),
    ] {
        sent_at_once(&scene, command_type, command_type, &payload).await;
        ids.push(command_type.to_owned());
    }
    let world = world::groups(&store).await;
    assert_eq!(world.len(), 1, "one group was made");
    assert_eq!(world[group].changed_by, ids);
    assert_events(&scene.producer, &world).await;
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}
