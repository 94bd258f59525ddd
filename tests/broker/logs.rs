//! The log as an operator's collector reads it: with the default filter, one line for each command.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::scene::{Scene, create};
use groupmq_test_support::producer::Command;

#[tokio::test]
async fn each_command_has_one_line_with_its_outcome_and_nothing_of_its_content() {
    let mut scene = Scene::shared_with(|options| options.set("log.format", "json")).await;
    let made = scene.call("make", "CreateGroup", &create("Climbing")).await;
    let group = &made["result"]["id"];
    let subject = json!({"groupId": group, "subject": "Bouldering"});
    scene.call("rename", "SetGroupSubject", &subject).await;
    // The same command, told apart by its correlation id.
    let again = Command::new("rename", "SetGroupSubject", "default", &subject);
    let again = Command {
        correlation_id: "again".to_owned(),
        ..again
    };
    scene.producer.call(again).await.unwrap();
    let wrong = json!({"groupId": "491700000002@c.us", "subject": "Nobody's"});
    let wrong = Command::new("wrong", "SetGroupSubject", "second", &wrong);
    scene.producer.call(wrong).await.unwrap();
    // A reply comes before its line.
    assert_eq!(scene.worker.stop().await.unwrap(), 0);

    let log = scene.worker.log();
    for secret in ["4917", "Climbing", "Bouldering", "Nobody"] {
        assert!(!log.contains(secret), "{secret} is told:\n{log}");
    }
    let mut lines = BTreeMap::<_, Vec<Value>>::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string(), "{line}");
        if line["target"] == "groupmq::commands" {
            assert_eq!(line["level"], "INFO");
            assert!(line["duration_ms"].is_u64(), "{line}");
            let told = ["command_type", "session", "outcome", "replayed"].map(|it| &line[it]);
            let id = line["command_id"].as_str().unwrap().to_owned();
            lines.entry(id).or_default().push(json!(told));
        }
    }
    let renamed = |replayed: bool| json!(["SetGroupSubject", "default", "ok", replayed]);
    let wanted = [
        ("make", vec![json!(["CreateGroup", "default", "ok", false])]),
        ("rename", vec![renamed(false), renamed(true)]),
        (
            "wrong",
            vec![json!([
                "SetGroupSubject",
                "second",
                "INVALID_PAYLOAD",
                false
            ])],
        ),
    ];
    let wanted = wanted.map(|(id, lines)| (id.to_owned(), lines));
    assert_eq!(lines, BTreeMap::from(wanted));
}

#[tokio::test]
async fn the_filter_silences_the_lines_of_commands_and_no_others() {
    let filter = "info,groupmq::commands=off,groupmq::requests=off";
    let mut scene = Scene::shared_with(|options| options.set("log.filter", filter)).await;
    scene.assert_works("quiet").await;
    assert_eq!(scene.worker.stop().await.unwrap(), 0);
    let log = scene.worker.log();
    assert!(log.contains("connected to the broker"), "{log}");
    assert!(!log.contains("command answered"), "{log}");
}
