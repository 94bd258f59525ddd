//! Commands that cannot be done now: they rest, in order, and hold up nobody else.

use std::time::Duration;

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, effects};

#[tokio::test]
async fn a_group_keeps_its_order_through_failures_and_rests() {
    let scene = Scene::shared_with(|options| {
        options
            .set("engine.sandbox.faults.default.error_rate", "0.4")
            .set("retry.within", "0s")
            .set("retry.attempts", "1000")
            .set("topology.delay_tiers", "50ms,100ms,200ms")
    })
    .await;
    let groups = scene.groups(4).await;
    let mut commands = Vec::new();
    for n in 0..15 {
        for (number, group) in groups.iter().enumerate() {
            let payload = json!({"groupId": group, "subject": format!("{n:02}")});
            let id = format!("rename-{number}-{n}");
            commands.push(Command::new(&id, "SetGroupSubject", "default", &payload));
        }
    }
    let count = groups.len() + commands.len();
    scene.producer.send_all(commands).await.unwrap();
    scene.producer.answered(count, 2 * PATIENCE).await.unwrap();
    // Events leave after the reply, and come another way.
    let told = |seen: &Seen| (effects(seen, "rename-") == 60).then_some(());
    scene.producer.until(PATIENCE, told).await.unwrap();
    for group in &groups {
        let subjects: Vec<_> = scene
            .producer
            .seen()
            .events()
            .iter()
            .filter(|event| event["event"] == "group.v2.update")
            .map(|event| &event["payload"]["group"])
            .filter(|changed| changed["id"] == json!(group))
            .map(|changed| changed["subject"].as_str().unwrap().to_owned())
            .collect();
        let wanted: Vec<_> = (0..15).map(|n| format!("{n:02}")).collect();
        assert_eq!(subjects, wanted);
    }
    let rests = scene.worker.log().matches("command deferred").count();
    println!("{count} commands in order through {rests} rests");
    assert!(rests > 0);
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_offline_session_with_more_commands_than_the_window_holds_up_nobody() {
    let scene = Scene::shared_with(|options| {
        options
            .set("engine.sandbox.faults.second.outage", "true")
            .set("retry.within", "0s")
            .set("amqp.prefetch", "20")
    })
    .await;
    let offline = |n: usize| {
        let payload = json!({"groupId": "120363000000000001@g.us", "subject": "x"});
        Command::new(
            &format!("offline-{n}"),
            "SetGroupSubject",
            "second",
            &payload,
        )
    };
    scene
        .producer
        .send_all((0..200).map(offline).collect())
        .await
        .unwrap();
    // Behind ten windows of commands that cannot be done.
    scene.assert_works("beside").await;
    assert_eq!(scene.producer.seen().answered_directly(), 1);
}

#[tokio::test]
async fn a_command_that_was_given_up_can_be_replayed_when_the_session_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let outage = "engine.sandbox.faults.second.outage";
    let mut scene = Scene::shared_with(|options| {
        options
            .set("store.url", store)
            .set(outage, "true")
            .set("retry.max_age", "1ms")
            .set("retry.within", "0s")
    })
    .await;
    let list = Command::new("given-up", "ListGroups", "second", &json!({}));
    let reply = scene.producer.call(list).await.unwrap();
    assert_eq!(reply["error"]["code"], "SESSION_NOT_READY", "{reply}");

    let dead = |arguments: &[&str]| -> Value {
        let output = scene.options.command(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).unwrap_or(json!(text.trim()))
    };
    let letter = dead(&["dead", "list", "--json"]);
    assert_eq!(letter["id"], "given-up");
    assert_eq!(letter["code"], "SESSION_NOT_READY");
    assert_eq!(
        dead(&["dead", "list", "--json", "--session", "default"]),
        json!("")
    );
    assert_eq!(
        dead(&["dead", "replay", "--dry-run"]),
        json!("1 dead letters would be republished")
    );
    assert_eq!(
        dead(&["dead", "show", "given-up"])["body"]["type"],
        "ListGroups"
    );

    scene.worker.stop().await.unwrap();
    scene.options = scene.options.clone().set(outage, "false");
    scene.worker = Worker::start(&scene.options).await.unwrap();
    let dead = |arguments: &[&str]| scene.options.command(arguments).output().unwrap();
    dead(&["dead", "replay", "--reason", "SESSION_NOT_READY"]);
    let replayed = scene
        .producer
        .until(Duration::from_secs(30), |seen| {
            let replies = seen.replies("given-up");
            replies
                .into_iter()
                .find(|reply| reply.body["status"] == "ok")
        })
        .await
        .unwrap();
    assert_eq!(replayed.body["result"], json!([]));
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}
