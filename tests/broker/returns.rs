//! `reply_to` says anything: its reply is on the exchange in any case, and others get theirs.

use futures_util::StreamExt as _;
use groupmq_test_support::producer::Command;
use groupmq_test_support::rabbitmq::RabbitMq;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};

#[tokio::test]
async fn reply_queues_that_are_gone_do_not_disturb_the_others() {
    let scene = Scene::shared().await;
    let hostile = [
        "gone".to_owned(),
        String::new(),
        "a.b.#.*".to_owned(),
        "x".repeat(255),
        "é".repeat(127),
        "amq.rabbitmq.reply-to.g1h2AAMforged".to_owned(),
        "\0\u{202e}".to_owned(),
        format!("{}.events", scene.prefix),
        // There, it would be kept as a dead letter, or taken for a command.
        format!("{}.dead.commands", scene.prefix),
        format!("{}.commands.0", scene.prefix),
    ];
    let commands: Vec<_> = (0..1_000)
        .map(|n| {
            let command = Command::new(&format!("n{n}"), "ListGroups", "default", &json!({}));
            // Every other one asks for its reply where it cannot be.
            let reply_to = (n % 2 == 1).then(|| hostile[n / 2 % hostile.len()].clone());
            Command {
                reply_to,
                ..command
            }
        })
        .collect();
    scene.producer.send_all(commands).await.unwrap();
    scene.producer.answered(1_000, PATIENCE).await.unwrap();
    let direct = |seen: &groupmq_test_support::producer::Seen| {
        (seen.answered_directly() == 500).then_some(())
    };
    scene.producer.until(PATIENCE, direct).await.unwrap();

    let log = scene.worker.log();
    let told = log.lines().filter(|it| !it.contains("command answered"));
    let told = told.collect::<Vec<_>>().join("\n");
    assert!(!told.contains("link to the broker is down"), "{told}");
    assert!(!told.contains("no queue takes"), "{told}");
    let copies = scene.producer.seen().reply_copies();
    assert_eq!(copies, 1_500, "nothing was sent twice: {told}");
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_producer_that_uses_direct_reply_to_gets_its_replies() {
    let broker = RabbitMq::shared().await.unwrap();
    let scene = Scene::shared().await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = BasicConsumeOptions {
        no_ack: true,
        ..Default::default()
    };
    let pseudo = "amq.rabbitmq.reply-to";
    let consuming = channel.basic_consume(pseudo.into(), "".into(), options, FieldTable::default());
    let mut replies = consuming.await.unwrap();
    let command = json!({"id": "d", "type": "ListGroups", "session": "default"}).to_string();
    let properties = BasicProperties::default()
        .with_reply_to(pseudo.into())
        .with_correlation_id("mine".into());
    let exchange = format!("{}.commands", scene.prefix);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(
            exchange.into(),
            "default".into(),
            options,
            command.as_bytes(),
            properties,
        )
        .await
        .unwrap();
    let reply = tokio::time::timeout(PATIENCE, replies.next())
        .await
        .unwrap();
    let reply = reply.unwrap().unwrap();
    let body: Value = serde_json::from_slice(&reply.data).unwrap();
    assert_eq!(body["commandId"], "d", "{body}");
    let id = reply.properties.correlation_id().as_ref();
    assert_eq!(id.map(ToString::to_string).as_deref(), Some("mine"));
}
