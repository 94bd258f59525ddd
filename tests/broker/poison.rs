//! Properties that client libraries cannot even parse: such a message is handled like any other, and
//! its neighbours do not notice.

use groupmq_test_support::producer::Command;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::raw::{Raw, flag, long, nested_tables, short};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};

const ID: &str = "unreadable";

/// A command, published with raw properties among others; returns what the replies exchange says of
/// it and leaves the scene for more.
async fn published(key: &[u8], flags: u16, properties: &[u8]) -> (Scene, Value) {
    let broker = RabbitMq::shared().await.unwrap();
    let scene = Scene::shared().await;
    let list = |n| Command::new(&format!("n{n}"), "ListGroups", "default", &json!({}));
    let send = |range: std::ops::Range<u32>| scene.producer.send_all(range.map(list).collect());
    send(0..50).await.unwrap();

    let mut raw = Raw::connect(broker.address()).await.unwrap();
    let exchange = format!("{}.commands", scene.prefix);
    let body = json!({"id": ID, "type": "ListGroups"}).to_string();
    raw.publish(&exchange, key, flags, properties, body.as_bytes())
        .await
        .unwrap();

    send(50..100).await.unwrap();
    let reply = scene
        .producer
        .until(PATIENCE, |seen| {
            (seen.answered() == 101).then(|| seen.answer_to(ID))
        })
        .await
        .unwrap();
    let log = scene.worker.log();
    // To publish, to consume, and for the queues of webhooks: once each.
    assert_eq!(log.matches("connected to the broker").count(), 3, "{log}");
    assert_eq!(
        log.matches("link to the broker is down").count(),
        0,
        "{log}"
    );
    (scene, reply)
}

#[tokio::test]
async fn a_message_id_that_is_not_utf8_is_refused_in_words() {
    let id = short(b"\xff\xfe");
    let (scene, reply) = published(b"default", flag::MESSAGE_ID, &id).await;
    assert_eq!(reply["error"]["code"], "ENVELOPE_MISMATCH", "{reply}");
    let letters = scene.producer.dead_letters_of(1).await.unwrap();
    assert_eq!(
        letters[0].headers["groupmq-fault-code"],
        "ENVELOPE_MISMATCH"
    );
}

#[tokio::test]
async fn a_routing_key_that_is_not_utf8_is_refused_in_words() {
    let (scene, reply) = published(b"\xc3(", 0, &[]).await;
    assert_eq!(reply["error"]["code"], "INVALID_PAYLOAD", "{reply}");
    let letters = scene.producer.dead_letters_of(1).await.unwrap();
    let key = &letters[0].headers["groupmq-original-routing-key"];
    assert_eq!(key, "\u{fffd}(");
}

#[tokio::test]
async fn a_reply_queue_and_a_correlation_id_that_are_not_utf8_harm_nobody() {
    let properties = [short(&[0xff; 255]), short(b"\xfe")].concat();
    let flags = flag::CORRELATION_ID | flag::REPLY_TO;
    let (_, reply) = published(b"default", flags, &properties).await;
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn headers_of_every_kind_pass_unread() {
    let mut entries = Vec::new();
    for (kind, length) in [
        (b't', 1),
        (b'b', 1),
        (b'B', 1),
        (b's', 2),
        (b'u', 2),
        (b'I', 4),
        (b'i', 4),
        (b'l', 8),
        (b'f', 4),
        (b'd', 8),
        (b'D', 5),
        (b'T', 8),
        (b'V', 0),
    ] {
        entries.extend(short(&[kind]));
        entries.push(kind);
        entries.extend(vec![0; length]);
    }
    entries.extend(short(b"\xc3"));
    entries.extend(b"S");
    entries.extend(long(b"\xff"));
    let (_, reply) = published(b"default", flag::HEADERS, &long(&entries)).await;
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn headers_larger_than_a_frame_of_ours_are_left_out() {
    let mut entries = short(b"large");
    entries.push(b'S');
    entries.extend(long(&vec![b'x'; 100_000]));
    let (_, reply) = published(b"default", flag::HEADERS, &long(&entries)).await;
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn as_many_headers_as_are_let_in_fit_into_a_dead_letter_too() {
    let mut entries = Vec::new();
    for n in 0..200 {
        entries.extend(short(format!("header-{n}").as_bytes()));
        entries.push(b'S');
        entries.extend(long(&[b'x'; 100]));
    }
    let properties = [long(&entries), short(b"another id")].concat();
    let flags = flag::HEADERS | flag::MESSAGE_ID;
    let (scene, reply) = published(b"default", flags, &properties).await;
    assert_eq!(reply["error"]["code"], "ENVELOPE_MISMATCH", "{reply}");
    let letters = scene.producer.dead_letters_of(1).await.unwrap();
    let passed = letters[0].headers.keys();
    let passed = passed.filter(|name| name.starts_with("header-")).count();
    assert!((50..200).contains(&passed), "{passed}");
}

#[tokio::test]
async fn tables_nested_ten_thousand_deep_do_not_end_the_process() {
    let tables = nested_tables(10_000);
    let (_, reply) = published(b"default", flag::HEADERS, &tables).await;
    assert_eq!(reply["status"], "ok", "{reply}");
}
