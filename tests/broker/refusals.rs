//! What the broker refuses for good stops the worker, with the reason in words.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use groupmq_test_support::producer::{Command, Producer};
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::scene::{PATIENCE, options};

async fn refused(url: &str, prefix: &str, setting: (&str, &str), words: &[&str]) {
    let settings = options(url, prefix).set(setting.0, setting.1);
    let mut worker = Worker::spawn(&settings).unwrap();
    let code = worker.until_ended(Duration::from_secs(30)).await.unwrap();
    let log = worker.log();
    assert_eq!(code, 5, "{log}");
    for word in words {
        assert!(log.contains(word), "{word:?} is not in:\n{log}");
    }
    assert!(!log.contains("hunter2"), "a password is in the log:\n{log}");
}

#[tokio::test]
async fn a_wrong_password_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let url = broker.url_as("guest", "hunter2", "/");
    let prefix = groupmq_test_support::prefix();
    refused(
        &url,
        &prefix,
        ("topology.shards", "1"),
        &["403", "amqp.url"],
    )
    .await;
}

#[tokio::test]
async fn a_virtual_host_that_is_not_there_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let url = broker.url_as("guest", "guest", "nowhere");
    let prefix = groupmq_test_support::prefix();
    refused(
        &url,
        &prefix,
        ("topology.shards", "1"),
        &["530", "virtual host"],
    )
    .await;
}

#[tokio::test]
async fn a_topology_that_is_not_there_stops_a_worker_that_may_not_declare_it() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let words = ["404", "groupmq topology apply"];
    refused(&broker.url(), &prefix, ("topology.mode", "passive"), &words).await;
}

#[tokio::test]
async fn a_queue_with_other_arguments_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{prefix}.commands.0");
    let durable = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel
        .queue_declare(queue.as_str().into(), durable, FieldTable::default())
        .await
        .unwrap();
    let words = ["406", "other arguments", "groupmq topology show"];
    refused(&broker.url(), &prefix, ("topology.shards", "1"), &words).await;
}

#[tokio::test]
async fn a_user_without_permissions_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let user = groupmq_test_support::prefix();
    let url = broker.url_as(&user, "hunter2", "/");
    let plain = ("topology.shards", "1");
    broker.ctl(&["add_user", &user, "hunter2"]).await.unwrap();
    // None on the virtual host, then none on anything in it.
    refused(&url, &user, plain, &["530", "virtual host"]).await;
    let nothing = ["set_permissions", &user, "^$", "^$", "^$"];
    broker.ctl(&nothing).await.unwrap();
    refused(&url, &user, plain, &["403", "permissions"]).await;

    // All but the default exchange, which takes replies to their queues: noticed with the first one.
    let ours = format!("^{user}");
    let all_but_one = ["set_permissions", &user, ".*", &ours, ".*"];
    broker.ctl(&all_but_one).await.unwrap();
    let settings = options(&url, &user).set("amqp.refusal_grace", "2s");
    let mut worker = Worker::start(&settings).await.unwrap();
    let producer = Producer::connect(&broker.url(), &user).await.unwrap();
    let command = Command::new("one", "ListGroups", "default", &json!({}));
    producer.send(command).await.unwrap();
    let code = worker.until_ended(Duration::from_secs(30)).await.unwrap();
    assert_eq!(code, 5, "{}", worker.log());
    assert!(worker.log().contains("'amq.default'"), "{}", worker.log());
    broker.ctl(&["delete_user", &user]).await.unwrap();
}

/// A virtual host that guest may use as it likes, made by the operator's own commands.
async fn make_vhost(broker: &RabbitMq, vhost: &str) {
    broker.ctl(&["add_vhost", vhost]).await.unwrap();
    let all = [
        "set_permissions",
        "--vhost",
        vhost,
        "guest",
        ".*",
        ".*",
        ".*",
    ];
    broker.ctl(&all).await.unwrap();
}

async fn until_log(worker: &Worker, words: &str) {
    let begun = Instant::now();
    while !worker.log().contains(words) {
        assert!(begun.elapsed() < PATIENCE, "{words:?} is not said");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_virtual_host_that_is_made_anew_does_not_end_a_process_that_has_just_started() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    make_vhost(broker, &prefix).await;
    let url = broker.url_as("guest", "guest", &prefix);
    let address = groupmq_test_support::free_address();
    let settings = options(&url, &prefix)
        .set("roles", "commands,webhooks,gateway")
        .set("gateway.listen", address.to_string());
    let mut worker = Worker::start(&settings).await.unwrap();
    for _ in 0..2 {
        broker.ctl(&["delete_vhost", &prefix]).await.unwrap();
        until_log(&worker, "(530)").await;
        // Several attempts, and one while there are no permissions.
        tokio::time::sleep(Duration::from_secs(2)).await;
        make_vhost(broker, &prefix).await;
        worker.until_ready(PATIENCE).await.unwrap();
        let producer = Producer::connect(&url, &prefix).await.unwrap();
        let command = Command::new("one", "ListGroups", "default", &json!({}));
        let reply = producer.call(command).await.unwrap();
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    // Each attempt failed for the same reason, which is said once in half a minute.
    let log = worker.log();
    let down = log
        .lines()
        .filter(|it| it.contains("link to the broker is down"));
    let said = down.filter(|it| it.contains("link=\"publish\"") && it.contains("not found"));
    assert!((1..=2).contains(&said.count()), "{log}");
    broker.ctl(&["delete_vhost", &prefix]).await.unwrap();
}

#[tokio::test]
async fn a_virtual_host_that_stays_away_ends_the_process_once_its_grace_is_over() {
    let broker = RabbitMq::shared().await.unwrap();
    let prefix = groupmq_test_support::prefix();
    make_vhost(broker, &prefix).await;
    let url = broker.url_as("guest", "guest", &prefix);
    let settings = options(&url, &prefix).set("amqp.refusal_grace", "3s");
    let mut worker = Worker::start(&settings).await.unwrap();
    broker.ctl(&["delete_vhost", &prefix]).await.unwrap();
    let code = worker.until_ended(PATIENCE).await.unwrap();
    let log = worker.log();
    assert_eq!(code, 5, "{log}");
    assert!(log.contains("virtual host at the end of amqp.url"), "{log}");
}

/// Passes bytes on between a client and a broker, whose greeting is made to say that it is RabbitMQ 3.9.
#[expect(clippy::disallowed_methods, reason = "a test has no lifecycle")]
async fn aged(broker: SocketAddr) -> SocketAddr {
    const NAME: &[u8] = b"\x07versionS";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(broker).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut greeting = vec![0; 16 * 1024];
                let length = from_server.read(&mut greeting).await?;
                greeting.truncate(length);
                let found = greeting.windows(NAME.len()).position(|it| it == NAME);
                let begin = found.unwrap() + NAME.len() + 4;
                greeting[begin..begin + 4].copy_from_slice(b"3.9.");
                to_client.write_all(&greeting).await?;
                tokio::io::copy(&mut from_server, &mut to_client).await
            });
        }
    });
    address
}

#[tokio::test]
async fn a_broker_that_is_too_old_stops_the_worker() {
    let broker = RabbitMq::shared().await.unwrap();
    let address = aged(broker.address()).await;
    let url = format!("amqp://guest:guest@{address}/%2f");
    let mut worker = Worker::spawn(&options(&url, &groupmq_test_support::prefix())).unwrap();
    assert_eq!(worker.until_ended(PATIENCE).await.unwrap(), 5);
    let log = worker.log();
    assert!(log.contains("the broker is RabbitMQ 3.9."), "{log}");
    assert!(log.contains("RabbitMQ 3.10 or newer is needed"), "{log}");
}
