//! `send`: a command from anywhere, its reply, and how it went.

use std::time::{Duration, Instant};

use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Options;
use serde_json::{Value, json};

use super::{alone, run, run_with};
use crate::scene::{Scene, create, options};

#[tokio::test]
async fn send_prints_the_reply_and_tells_by_its_exit_code_how_it_went() {
    let scene = Scene::shared().await;
    let options = &scene.options;
    let payload = create("from inline").to_string();
    let arguments = ["send", "CreateGroup", "--id", "one", "--payload", &payload];
    let made = run(options, &arguments).await;
    assert_eq!(made.code, 0, "{made:?}");
    assert!(
        made.out.starts_with("CreateGroup ok (SANDBOX)\n"),
        "{made:?}"
    );
    assert_eq!(made.err, "");
    let again = run(options, &arguments).await;
    assert!(again.out.contains("replayed"), "{again:?}");

    let group = json!({"groupId": "123123123123@g.us"}).to_string();
    let refused = run(options, &["send", "GetGroup", "--payload", &group]).await;
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.out.contains("GROUP_NOT_FOUND"), "{refused:?}");
    let expired = ["send", "ListGroups", "--expires-in", "0s", "--json"];
    let expired = run(options, &expired).await;
    assert_eq!(expired.code, 3, "{expired:?}");
    assert!(expired.out.contains("EXPIRED"), "{expired:?}");
}

#[tokio::test]
async fn send_takes_its_payload_from_a_file_or_from_stdin() {
    let scene = Scene::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload.json");
    std::fs::write(&file, create("from file").to_string()).unwrap();
    let file = format!("@{}", file.display());
    let arguments = ["send", "CreateGroup", "--json", "--payload", &file];
    let made = run(&scene.options, &arguments).await;
    let reply: Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(reply["result"]["subject"], "from file");

    let stdin = r#"{"name":"from stdin","participants":["491700000001@c.us"]}"#;
    assert_sends(&scene.options, stdin, "from stdin").await;
}

#[tokio::test]
async fn send_says_where_a_payload_without_its_option_belongs() {
    let options = options("amqp://nowhere", "groupmq");
    let unquoted = ["{", "name:", "Climbing", "}"];
    for payload in [&[r#"{"name":"Climbing"}"#][..], &unquoted] {
        let misplaced = [&["send", "CreateGroup"], payload].concat();
        let refused = run(&options, &misplaced).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        let right = "groupmq send CreateGroup --payload '{…}'";
        assert!(refused.err.contains(right), "{refused:?}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_a_payload_does_not_matter() {
    let scene = Scene::shared().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload.json");
    let payload = |name: &str| format!("\u{feff}{}", create(name));
    std::fs::write(&file, payload("from file")).unwrap();
    for (given, name) in [
        (format!("@{}", file.display()), "from file"),
        (payload("inline"), "inline"),
    ] {
        let arguments = ["send", "CreateGroup", "--json", "--payload", &given];
        let made = run(&scene.options, &arguments).await;
        assert_eq!(made.code, 0, "{made:?}");
        let reply: Value = serde_json::from_str(&made.out).unwrap();
        assert_eq!(reply["result"]["subject"], name);
    }
    assert_sends(&scene.options, &payload("from stdin"), "from stdin").await;
}

/// Has a payload from stdin make a group of this name.
async fn assert_sends(options: &Options, stdin: &str, name: &str) {
    let arguments = ["send", "CreateGroup", "--json", "--payload", "-"];
    let made = run_with(options, &arguments, stdin).await;
    assert_eq!(made.code, 0, "{made:?}");
    let reply: Value = serde_json::from_str(&made.out).unwrap();
    assert_eq!(reply["result"]["subject"], name);
}

#[tokio::test]
async fn send_says_what_is_wrong_when_there_is_no_reply() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let options = options(&broker.url(), &prefix);
    let missing = run(&options, &["send", "ListGroups"]).await;
    assert_eq!(missing.code, 5, "{missing:?}");
    assert!(
        missing.err.contains("groupmq topology apply"),
        "{missing:?}"
    );

    let applied = run(&options, &["topology", "apply"]).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let begun = Instant::now();
    let silent = run(&options, &["send", "ListGroups", "--timeout", "1s"]).await;
    assert_eq!(silent.code, 4, "{silent:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));

    let unreachable = run(&alone(), &["send", "ListGroups"]).await;
    assert_eq!(unreachable.code, 5, "{unreachable:?}");
    assert!(unreachable.err.contains("refused"), "{unreachable:?}");
    assert!(!unreachable.err.contains("hunter2"), "{unreachable:?}");
}

#[tokio::test]
async fn wrong_usage_is_2_and_prints_nothing_to_stdout() {
    for wrong in [
        &["send", "ListGroups", "--payload", "{"][..],
        &["send", "ListGroups", "--payload", "@/nowhere"],
        &["send", "ListGroups", "--timeout", "5"],
        &["send"],
        &["sned"],
    ] {
        let ran = run(&alone(), wrong).await;
        assert_eq!(ran.code, 2, "{wrong:?}: {ran:?}");
        assert_eq!(ran.out, "");
        assert_ne!(ran.err, "");
    }
}
