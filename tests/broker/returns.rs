//! `reply_to` says anything: its reply is on the exchange in any case, and others get theirs.

use std::time::Duration;

use futures_util::StreamExt as _;
use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
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
    let direct = |seen: &Seen| (seen.answered_directly() == 500).then_some(());
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

/// A queue of a producer that has room for one message, and refuses the next.
async fn full_after_one(channel: &Channel, prefix: &str) -> String {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(1));
    let overflow = AMQPValue::LongString("reject-publish".into());
    arguments.insert("x-overflow".into(), overflow);
    let queue = format!("test.{prefix}.full");
    let options = QueueDeclareOptions::default();
    let declaring = channel.queue_declare(queue.as_str().into(), options, arguments);
    declaring.await.unwrap();
    queue
}

#[tokio::test]
async fn a_reply_queue_that_refuses_for_good_stops_nobody() {
    const PREFETCH: usize = 10;
    let broker = RabbitMq::shared().await.unwrap();
    let prefetch = PREFETCH.to_string();
    let scene = Scene::shared_with(|options| options.set("amqp.prefetch", &prefetch)).await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = full_after_one(&channel, &scene.prefix).await;
    let command = |id: String| Command {
        reply_to: Some(queue.clone()),
        ..Command::new(&id, "ListGroups", "default", &json!({}))
    };
    scene
        .producer
        .send(command("first".to_owned()))
        .await
        .unwrap();
    scene.producer.answered(1, PATIENCE).await.unwrap();
    // More than the worker takes at once: as long as their replies are under way, nobody else's turn comes.
    let stuck = (0..3 * PREFETCH).map(|n| command(format!("stuck-{n}")));
    scene.producer.send_all(stuck.collect()).await.unwrap();
    scene.assert_works("another").await;

    let log = scene.worker.log();
    let lost = log
        .lines()
        .filter(|it| it.contains("link to the broker is down"));
    assert!(
        lost.count() <= 1,
        "only the channel's own refusals are tried elsewhere: {log}"
    );
    let given_up = async || {
        let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
        let series = r#"groupmq_messages_given_up_total{kind="reply",code="nack"}"#;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series));
        value.map_or(0, |value| value.trim().parse::<usize>().unwrap())
    };
    let begun = std::time::Instant::now();
    while given_up().await < 3 * PREFETCH {
        assert!(begun.elapsed() < PATIENCE, "{}", given_up().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // It takes replies again once there is room.
    for id in ["first", "later-1", "later-2"] {
        let no_ack = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(queue.as_str().into(), no_ack).await;
        let got = got.unwrap().expect(id);
        assert_eq!(
            got.properties.correlation_id().as_ref().unwrap().as_str(),
            id
        );
        if id != "later-2" {
            let next = if id == "first" { "later-1" } else { "later-2" };
            scene.producer.send(command(next.to_owned())).await.unwrap();
            let mut waited = Duration::ZERO;
            while standing(&channel, &queue).await == 0 {
                assert!(waited < PATIENCE, "{next}");
                waited += Duration::from_millis(50);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    assert_eq!(given_up().await, 3 * PREFETCH);
    // The last copy on the replies exchange may arrive after the reply itself was taken.
    let all = 3 * PREFETCH + 4;
    scene.producer.answered(all, PATIENCE).await.unwrap();
    assert_eq!(scene.producer.seen().answered(), all);
}

async fn standing(channel: &Channel, queue: &str) -> u32 {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let queue = channel.queue_declare(queue.into(), options, FieldTable::default());
    queue.await.unwrap().message_count()
}

#[tokio::test]
async fn a_reply_that_its_queue_refuses_is_offered_again_without_what_the_broker_has_of_its_batch()
{
    let broker = RabbitMq::shared().await.unwrap();
    let scene = Scene::shared().await;
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = full_after_one(&channel, &scene.prefix).await;
    // A channel that is young is written to with more care.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for id in ["first", "second"] {
        let command = Command {
            reply_to: Some(queue.clone()),
            ..Command::new(id, "ListGroups", "default", &json!({}))
        };
        scene.producer.send(command).await.unwrap();
        let copied = |seen: &Seen| (!seen.replies(id).is_empty()).then_some(());
        scene.producer.until(PATIENCE, copied).await.unwrap();
    }
    let mut ids = Vec::new();
    let begun = std::time::Instant::now();
    while ids.len() < 2 {
        assert!(begun.elapsed() < PATIENCE, "{ids:?}");
        let no_ack = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(queue.as_str().into(), no_ack).await;
        match got.unwrap() {
            Some(got) => ids.push(got.properties.correlation_id().clone().unwrap().to_string()),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    assert_eq!(ids, ["first", "second"]);
    // What was written with it had been confirmed before this.
    scene.assert_works("after").await;
    assert_eq!(scene.producer.seen().replies("second").len(), 1);
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
