//! Whatever is published, it is answered, kept as a dead letter, and the worker goes on.

use groupmq_test_support::producer::Command;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, create};

/// A message, told apart by its correlation id, and the code of its refusal.
struct Case {
    code: &'static str,
    command: Command,
}

fn raw(name: &str, code: &'static str, body: impl Into<Vec<u8>>) -> Case {
    let command = Command::raw(name, "default", body);
    Case { code, command }
}

fn new(name: &str, code: &'static str, command_type: &str, session: &str) -> Case {
    let command = Command::new(name, command_type, session, &json!({}));
    Case { code, command }
}

fn creating(name: &str, payload: &Value) -> Case {
    let command = Command::new(name, "CreateGroup", "default", payload);
    Case {
        code: "INVALID_PAYLOAD",
        command,
    }
}

fn with_message_id(name: &str, code: &'static str, message_id: &str, id: Option<&str>) -> Case {
    let body = json!({"id": id, "type": "ListGroups"}).to_string();
    let command = Command {
        message_id: Some(message_id.to_owned()),
        ..Command::raw(name, "default", body)
    };
    Case { code, command }
}

fn people(count: usize) -> Vec<Value> {
    let person = |n| json!({"id": format!("4917{n:08}@c.us")});
    (0..count).map(person).collect()
}

fn unreadable() -> Vec<Case> {
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep_payload = format!(r#"{{"id":"d","type":"CreateGroup","payload":{deep}}}"#);
    let no_json = "INVALID_JSON";
    vec![
        raw("not-json", no_json, "hello"),
        raw("not-utf8", no_json, b"{\"id\":\"\xff\xfe\"}"),
        raw("empty", no_json, ""),
        raw("huge", no_json, vec![b'x'; 16 << 20]),
        raw("deep", no_json, deep),
        raw("deep-payload", no_json, deep_payload),
    ]
}

fn wrong_envelopes() -> Vec<Case> {
    let invalid = "INVALID_PAYLOAD";
    let with_id =
        |id: Value| json!({"id": id, "type": "ListGroups", "session": "default"}).to_string();
    let without_id = json!({"type": "ListGroups", "session": "default"}).to_string();
    let mut wrong_session = new("wrong-session", "SESSION_MISMATCH", "ListGroups", "default");
    "second".clone_into(&mut wrong_session.command.session);
    vec![
        raw("nul-id", invalid, with_id(json!("a\0b"))),
        raw("rtl-id", invalid, with_id(json!("\u{202e}di"))),
        raw("long-id", invalid, with_id(json!("x".repeat(255)))),
        raw("number-id", invalid, with_id(json!(7))),
        raw("no-id", "MISSING_ID", without_id),
        new("unknown-type", "UNKNOWN_COMMAND", "MakeCoffee", "default"),
        new(
            "unknown-session",
            "SESSION_NOT_FOUND",
            "ListGroups",
            "nobody",
        ),
        new("hostile-session", invalid, "ListGroups", "a.b#*"),
        wrong_session,
        with_message_id("long-message-id", invalid, &"é".repeat(127), None),
        with_message_id("nul-message-id", invalid, "\0\u{202e}\"'", None),
        with_message_id("other-id", "ENVELOPE_MISMATCH", "one", Some("other")),
    ]
}

fn wrong_payloads() -> Vec<Case> {
    let twice = json!([{"id": "491700000001@c.us"}, "491700000001@s.whatsapp.net"]);
    let with =
        |name: &str, participants: Value| json!({"name": name, "participants": participants});
    let mut unknown = with("a", json!(people(1)));
    unknown["nmae"] = json!("b");
    vec![
        creating("unknown-field", &unknown),
        creating("duplicates", &with("a", twice)),
        creating("two-thousand", &with("a", json!(people(2000)))),
        creating("nul-name", &with("a\0b", json!(people(1)))),
        creating("long-name", &with(&"é".repeat(101), json!(people(1)))),
    ]
}

#[tokio::test]
async fn every_bad_message_is_answered_and_kept_and_the_worker_goes_on() {
    let scene = Scene::shared().await;
    let mut cases = unreadable();
    cases.extend(wrong_envelopes());
    cases.extend(wrong_payloads());
    for case in &cases {
        scene.producer.send(case.command.clone()).await.unwrap();
    }
    for case in &cases {
        let name = &case.command.correlation_id;
        let reply = scene.producer.reply(name).await.unwrap();
        assert_eq!(reply["status"], "error", "{name}: {reply}");
        assert_eq!(reply["error"]["code"], case.code, "{name}: {reply}");
    }

    let letters = scene.producer.dead_letters_of(cases.len()).await.unwrap();
    assert_eq!(letters.len(), cases.len());
    for Case { code, command } in &cases {
        let name = &command.correlation_id;
        let letter = letters.iter().find(|it| it.correlation_id == *name);
        let letter = letter.unwrap_or_else(|| panic!("{name} is no dead letter"));
        assert!(letter.body == command.body, "{name}");
        let header = |name: &str| letter.headers.get(name).map_or("", String::as_str);
        assert_eq!(header("groupmq-fault-code"), *code, "{name}");
        assert_ne!(header("groupmq-fault-reason"), "", "{name}");
        let exchange = format!("{}.commands", scene.prefix);
        assert_eq!(header("groupmq-original-exchange"), exchange, "{name}");
        assert_eq!(header("groupmq-original-routing-key"), command.session);
        let seen = header("groupmq-first-seen");
        assert!(seen.starts_with("20") && seen.ends_with('Z'), "{seen}");
    }

    // Over the exchange each reply has a key that says as much as could be read.
    let key = |id: &str| {
        let replies = scene.producer.seen().replies(id);
        let mut keys = replies.iter().filter(|reply| !reply.direct);
        keys.next().map(|reply| reply.routing_key.clone())
    };
    assert_eq!(key("not-json").as_deref(), Some("default.~.error"));
    assert_eq!(
        key("hostile-session").as_deref(),
        Some("~.ListGroups.error")
    );

    scene.assert_works("after-all").await;
    assert!(!scene.worker.log().contains("panicked"));
}

/// An empty file, compressed.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";

#[tokio::test]
async fn a_compressed_command_is_refused_for_its_encoding_and_kept_with_it() {
    let scene = Scene::shared().await;
    let command = Command {
        content_type: Some("application/vnd.shop+json".to_owned()),
        content_encoding: Some("gzip".to_owned()),
        ..Command::raw("zipped", "default", GZIP)
    };
    let reply = scene.producer.call(command).await.unwrap();
    assert_eq!(reply["error"]["code"], "INVALID_JSON", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("content_encoding says gzip"), "{message}");
    let letter = scene.producer.dead_letters_of(1).await.unwrap().remove(0);
    assert_eq!(letter.body, GZIP);
    assert_eq!(letter.content_encoding.as_deref(), Some("gzip"));
    let content_type = letter.content_type.as_deref();
    assert_eq!(content_type, Some("application/vnd.shop+json"));
    let reason = &letter.headers["groupmq-fault-reason"];
    assert!(reason.contains("content_encoding says gzip"), "{reason}");

    // What some clients say of every message says nothing about compression.
    let plain = Command {
        content_encoding: Some("utf-8".to_owned()),
        ..Command::new("plain", "ListGroups", "default", &json!({}))
    };
    let reply = scene.producer.call(plain).await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn hostile_names_are_kept_as_they_are() {
    let scene = Scene::shared().await;
    let names = [
        "\u{202e}desrever\u{202c}",
        "👨‍👩‍👧‍👦🎉",
        r#"'"; DROP TABLE groups; --"#,
        "\u{feff}{{x}}<b>\\",
    ];
    for (n, name) in names.into_iter().enumerate() {
        let created = scene
            .call(&format!("n{n}"), "CreateGroup", &create(name))
            .await;
        assert_eq!(created["result"]["subject"], name, "{created}");
        let payload = json!({"groupId": created["result"]["id"]});
        let group = scene.call(&format!("g{n}"), "GetGroup", &payload).await;
        assert_eq!(group["result"]["subject"], name, "{group}");
    }
}

#[tokio::test]
async fn an_id_sent_again_gets_the_same_answer_and_a_used_one_is_refused() {
    let scene = Scene::shared().await;
    let first = scene.call("one", "CreateGroup", &create("one")).await;
    let other = Command {
        correlation_id: "other".to_owned(),
        ..Command::new("one", "CreateGroup", "default", &create("two"))
    };
    let reply = scene.producer.call(other).await.unwrap();
    assert_eq!(reply["error"]["code"], "ID_REUSED", "{reply}");

    let same = Command {
        correlation_id: "same".to_owned(),
        ..Command::new("one", "CreateGroup", "default", &create("one"))
    };
    let reply = scene.producer.call(same).await.unwrap();
    assert_eq!(reply["replayed"], true, "{reply}");
    assert_eq!(reply["result"], first["result"]);
    assert_eq!(reply["id"], first["id"]);
    scene.producer.answered(3, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn bodies_of_sixteen_mebibytes_do_not_pile_up_in_memory() {
    const ROUNDS: usize = 3;
    const BODIES: usize = 12;
    let scene = Scene::shared().await;
    scene.assert_works("before").await;
    let idle = scene.worker.status("VmRSS").unwrap();
    for round in 0..ROUNDS {
        let name = |n| format!("huge-{round}-{n}");
        for n in 0..BODIES {
            let command = Command::raw(&name(n), "default", vec![b'{'; 16 << 20]);
            scene.producer.send(command).await.unwrap();
        }
        for n in 0..BODIES {
            let reply = scene.producer.reply(&name(n)).await.unwrap();
            assert_eq!(reply["error"]["code"], "INVALID_JSON");
        }
        scene.producer.dead_letters_of(BODIES).await.unwrap();
    }
    scene.assert_works("after").await;
    let most = scene.worker.status("VmHWM").unwrap();
    let after = scene.worker.status("VmRSS").unwrap();
    println!("resident: {idle} KiB idle, {most} KiB at most, {after} KiB afterwards");
    // 576 MiB went through. The allocator keeps some of what it has been given back.
    assert!(most < idle + 320 * 1024, "{most} KiB");
}
