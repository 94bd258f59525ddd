//! Messages over which the broker closes the channel or the connection: they are found and given up, and
//! nobody else notices.

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};

/// Addresses of direct replies that RabbitMQ 3.10 cannot read: it closes the connection (541).
const UNREADABLE: [&str; 2] = [
    "amq.rabbitmq.reply-to.client-7.abc",
    "amq.rabbitmq.reply-to.g2dkABNyYWJiaXRAY2hhby13b3JrLXBjAAAFFQAAAAAD.AJ3VTrgqUFg23rPZHofGqw==",
];

fn list(id: &str, reply_to: Option<&str>) -> Command {
    Command {
        reply_to: reply_to.map(str::to_owned),
        ..Command::new(id, "ListGroups", "default", &json!({}))
    }
}

/// How many messages were given up, by the kind and the code of the metric's labels.
async fn given_up(worker: &Worker, kind: &str, code: u16) -> u64 {
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let series = format!("groupmq_messages_given_up_total{{kind=\"{kind}\",code=\"{code}\"}} ");
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix(&series));
    count.map_or(0, |count| count.parse().unwrap())
}

/// How often the log tells of a message that was given up.
fn told(worker: &Worker) -> usize {
    worker.log().matches("the message is given up").count()
}

/// Over how many of those addresses the broker closes the connection: RabbitMQ 4 can read the second, and
/// drops what it cannot deliver.
async fn closing(broker: &RabbitMq) -> usize {
    let version = broker.ctl(&["version"]).await.unwrap();
    if version.trim().starts_with("3.") {
        UNREADABLE.len()
    } else {
        1
    }
}

#[tokio::test]
async fn direct_replies_that_cannot_be_delivered_stop_nobody_and_are_given_up() {
    const EACH: usize = 100;
    let scene = Scene::shared().await;
    let commands = (0..EACH).flat_map(|n| {
        let lost = UNREADABLE[n % UNREADABLE.len()];
        [
            list(&format!("lost-{n}"), Some(lost)),
            list(&format!("n{n}"), None),
        ]
    });
    scene.producer.send_all(commands.collect()).await.unwrap();
    scene.producer.answered(2 * EACH, PATIENCE).await.unwrap();
    let direct = |seen: &Seen| (seen.answered_directly() == EACH).then_some(());
    scene.producer.until(PATIENCE, direct).await.unwrap();
    scene.assert_works("after").await;

    // The last one is looked after beside the rest.
    let addresses = closing(RabbitMq::shared().await.unwrap()).await;
    let begun = std::time::Instant::now();
    while told(&scene.worker) < addresses {
        assert!(begun.elapsed() < PATIENCE, "{}", scene.worker.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    scene.assert_works("at-last").await;
    assert_eq!(told(&scene.worker), addresses, "once for each address");
    let counted = given_up(&scene.worker, "reply", 541).await;
    assert_eq!(counted, addresses as u64);
    // Not even the connection for everything else.
    let log = scene.worker.log();
    let publishing = r#"connected to the broker link="publish""#;
    assert_eq!(log.matches(publishing).count(), 1, "{log}");
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    // A restart finds nothing left to do.
    let Scene {
        options,
        mut worker,
        producer,
        ..
    } = scene;
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
    let worker = Worker::start(&options).await.unwrap();
    let reply = producer.call(list("restarted", None)).await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(told(&worker), 0);
}

mod own_node {
    use groupmq_test_support::producer::{Command, Producer};
    use groupmq_test_support::rabbitmq::{Cluster, Options, RabbitMq};
    use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions};
    use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
    use lapin::types::FieldTable;
    use lapin::{BasicProperties, Connection, ConnectionProperties};

    use super::super::scene::{create, effects, options, subjects};
    use super::*;

    /// What the broker takes at most, in bytes: commands are smaller, what comes of some is not.
    const MOST: usize = 20_000;

    fn crowd(name: &str) -> Value {
        let person = |n| json!({"id": format!("4917{n:08}@c.us")});
        let people: Vec<_> = (0..600).map(person).collect();
        json!({"name": name, "participants": people})
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn replies_and_events_that_are_too_large_for_the_broker_are_given_up_and_stop_nobody() {
        let limit = Options::default().config(&format!("max_message_size = {MOST}"));
        let broker = RabbitMq::start(limit).await.unwrap();
        let scene = Scene::at(&broker.url(), |options| options).await;
        let groups = scene.groups(5).await;
        let large = Command::new("large", "CreateGroup", "default", &crowd("large"));
        scene.producer.send(large).await.unwrap();
        let mut small = subjects(&groups, "s", 200);
        small.push(Command::new(
            "last",
            "CreateGroup",
            "default",
            &create("last"),
        ));
        scene.producer.send_all(small).await.unwrap();
        let direct = |seen: &Seen| (seen.answered_directly() == 5 + 201).then_some(());
        scene.producer.until(PATIENCE, direct).await.unwrap();

        // The reply's copy and the event, without what made them too large.
        let letters = scene.producer.dead_letters_of(2).await.unwrap();
        let mut exchanges: Vec<_> = letters
            .iter()
            .map(|letter| {
                assert_eq!(letter.headers["groupmq-fault-code"], "BROKER_REFUSED");
                let reason = &letter.headers["groupmq-fault-reason"];
                assert!(reason.contains("406"), "{reason}");
                assert!(letter.body.is_empty());
                letter.headers["groupmq-original-exchange"].clone()
            })
            .collect();
        exchanges.sort();
        let expected = ["events", "replies"].map(|it| format!("{}.{it}", scene.prefix));
        assert_eq!(exchanges, expected);
        for (kind, count) in [
            ("reply", 1),
            ("reply-copy", 1),
            ("event", 1),
            ("dead-letter", 2),
        ] {
            assert_eq!(given_up(&scene.worker, kind, 406).await, count, "{kind}");
        }
        assert_eq!(told(&scene.worker), 5, "{}", scene.worker.log());
        // It was done all the same, and its lane goes on.
        let groups = scene
            .call("list", "ListGroups", &json!({"exclude": ["participants"]}))
            .await;
        let groups = groups["result"].as_array().unwrap().clone();
        assert!(
            groups.iter().any(|it| it["subject"] == "large"),
            "{groups:?}"
        );
        let events = |seen: &Seen| (effects(seen, "s-") == 200).then_some(());
        scene.producer.until(PATIENCE, events).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_dead_letter_that_the_broker_does_not_take_is_kept_without_its_body() {
        let broker = RabbitMq::start(Options::default()).await.unwrap();
        let scene = Scene::at(&broker.url(), |options| options).await;
        scene.assert_works("before").await;
        let Scene {
            producer,
            mut worker,
            options,
            prefix,
        } = scene;
        assert_eq!(worker.stop().await.unwrap(), 0);
        let body = format!("{{\"id\":\"large\",\"type\":\"{}\"}}", "x".repeat(2 * MOST));
        producer
            .send(Command::raw("large", "default", body))
            .await
            .unwrap();
        // From now on, for channels that are opened from now on: RabbitMQ 3.10, then 4.
        let limit = format!(
            "application:set_env(rabbit, max_message_size, {MOST}), \
             persistent_term:put(max_message_size, {MOST})."
        );
        broker.ctl(&["eval", &limit]).await.unwrap();
        let worker = Worker::start(&options).await.unwrap();
        let reply = producer.reply("large").await.unwrap();
        assert_eq!(reply["status"], "error", "{reply}");
        let letters = producer.dead_letters_of(1).await.unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].correlation_id, "large");
        assert!(letters[0].body.is_empty());
        assert_eq!(
            letters[0].headers["groupmq-fault-code"],
            reply["error"]["code"].as_str().unwrap()
        );
        assert_eq!(
            letters[0].headers["groupmq-original-exchange"],
            format!("{prefix}.commands")
        );
        assert_eq!(given_up(&worker, "dead-letter", 406).await, 1);
        assert_eq!(told(&worker), 1);
        let reply = producer.call(list("after", None)).await.unwrap();
        assert_eq!(reply["status"], "ok", "{reply}");
    }

    /// Sessions that groupmq's own user may not publish about: a rule for some keys, not for the exchange.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reply_that_topic_permissions_forbid_is_given_up_while_others_get_through() {
        let broker = RabbitMq::start(Options::default()).await.unwrap();
        let (user, prefix) = ("confined", groupmq_test_support::prefix());
        broker.ctl(&["add_user", user, "hunter2"]).await.unwrap();
        broker
            .ctl(&["set_permissions", user, ".*", ".*", ".*"])
            .await
            .unwrap();
        let replies = format!("{prefix}.replies");
        let rule = ["set_topic_permissions", user, &replies, "^default\\.", ".*"];
        broker.ctl(&rule).await.unwrap();
        let settings = options(&broker.url_as(user, "hunter2", "/"), &prefix);
        let worker = Worker::start(&settings).await.unwrap();
        let producer = Producer::connect(&broker.url(), &prefix).await.unwrap();
        let forbidden = Command::new("forbidden", "ListGroups", "second", &json!({}));
        producer.send(forbidden).await.unwrap();
        // Its own reply is not a matter of topics.
        let mut others = 0;
        while told(&worker) == 0 {
            let reply = producer.call(list(&format!("n{others}"), None)).await;
            let reply = reply.unwrap_or_else(|error| panic!("{error:#}\n{}", worker.log()));
            assert_eq!(reply["status"], "ok", "{reply}");
            others += 1;
            assert!(others < 1_000, "{}", worker.log_tail());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(producer.reply("forbidden").await.unwrap()["status"], "ok");
        assert_eq!(given_up(&worker, "reply-copy", 403).await, 1);
        let letters = producer.dead_letters_of(1).await.unwrap();
        assert_eq!(letters[0].headers["groupmq-original-exchange"], replies);
        assert_eq!(
            letters[0].headers["groupmq-original-routing-key"],
            "second.ListGroups.ok"
        );
        assert!(!letters[0].body.is_empty());
    }

    /// The address of direct replies to a channel of a connection, as the broker writes it.
    async fn direct_reply_to(connection: &Connection) -> (String, lapin::Consumer) {
        let channel = connection.create_channel().await.unwrap();
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await.unwrap();
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        };
        let pseudo = "amq.rabbitmq.reply-to";
        let none = FieldTable::default;
        let consuming = channel.basic_consume(pseudo.into(), "".into(), no_ack, none());
        let consumer = consuming.await.unwrap();
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        let queue = channel
            .queue_declare("".into(), exclusive, none())
            .await
            .unwrap();
        let properties = BasicProperties::default().with_reply_to(pseudo.into());
        let publishing = channel.basic_publish(
            "".into(),
            queue.name().clone(),
            BasicPublishOptions::default(),
            b"",
            properties,
        );
        publishing.await.unwrap().await.unwrap();
        let got = channel.basic_get(queue.name().clone(), BasicGetOptions { no_ack: true });
        let got = got.await.unwrap().unwrap();
        let address = got.properties.reply_to().as_ref().unwrap().to_string();
        (address, consumer)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn direct_replies_to_a_node_that_is_down_stop_nobody() {
        const EACH: usize = 50;
        let mut cluster = Cluster::start(Options::default()).await.unwrap();
        let scene = Scene::at(&cluster.nodes[0].url(), |options| options).await;
        scene.assert_works("before").await;
        cluster.until_whole().await.unwrap();
        let url = cluster.nodes[2].url();
        let requester = Connection::connect(&url, ConnectionProperties::default());
        let requester = requester.await.unwrap();
        let (address, _consumer) = direct_reply_to(&requester).await;
        assert!(address.starts_with("amq.rabbitmq.reply-to."), "{address}");
        cluster.nodes[2].kill().await.unwrap();

        let commands = (0..EACH).flat_map(|n| {
            [
                list(&format!("lost-{n}"), Some(&address)),
                list(&format!("n{n}"), None),
            ]
        });
        scene.producer.send_all(commands.collect()).await.unwrap();
        scene
            .producer
            .answered(1 + 2 * EACH, PATIENCE)
            .await
            .unwrap();
        let direct = |seen: &Seen| (seen.answered_directly() == 1 + EACH).then_some(());
        scene.producer.until(PATIENCE, direct).await.unwrap();
        scene.assert_works("after").await;
        let log = scene.worker.log();
        let publishing = r#"connected to the broker link="publish""#;
        assert_eq!(log.matches(publishing).count(), 1, "{log}");
        assert!(told(&scene.worker) <= 1, "{log}");
        println!("given up: {}", told(&scene.worker));
        assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    }
}
