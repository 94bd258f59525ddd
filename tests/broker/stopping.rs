//! SIGTERM: what was begun is finished, what was not goes back, and nothing waits forever.

use std::time::{Duration, Instant};

use groupmq_test_support::producer::{Command, Seen};
use groupmq_test_support::proxy::Proxy;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::{Worker, store_in};
use nix::sys::signal::Signal;
use serde_json::json;

use super::scene::{PATIENCE, Scene, effects, options, subjects};

const COMMANDS: usize = 3_000;
const GROUPS: usize = 30;

#[tokio::test]
async fn a_stop_under_load_ends_in_order_and_the_next_worker_does_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let mut scene = Scene::shared_with(|options| options.set("store.url", store)).await;
    let groups = scene.groups(GROUPS).await;
    let commands = subjects(&groups, "s", COMMANDS);
    let stop = async {
        scene
            .producer
            .answered(GROUPS + 300, PATIENCE)
            .await
            .unwrap();
        let begun = Instant::now();
        let code = scene.worker.stop().await.unwrap();
        println!("stopped within {:?}", begun.elapsed());
        assert_eq!(code, 0, "{}", scene.worker.log_tail());
        assert!(begun.elapsed() < Duration::from_secs(20));
        scene.producer.seen().answered()
    };
    let (sent, answered) = tokio::join!(scene.producer.send_all(commands), stop);
    sent.unwrap();
    println!("{answered} answered before the stop");
    assert!(answered < GROUPS + COMMANDS, "it was no stop under load");

    let next = Worker::start(&scene.options).await.unwrap();
    let all = GROUPS + COMMANDS;
    scene.producer.answered(all, PATIENCE).await.unwrap();
    let came = |seen: &Seen| {
        let both_ways = seen.answered_directly() == all && seen.answered() == all;
        (both_ways && effects(seen, "s-") == COMMANDS).then_some(())
    };
    scene.producer.until(PATIENCE, came).await.unwrap();
    let copies = scene.producer.seen().reply_copies();
    assert_eq!(copies, 2 * all, "an orderly stop repeats nothing");
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
    drop(next);
}

async fn hanging(deadline: &str) -> Scene {
    let scene = Scene::shared_with(|options| {
        options
            .set("engine.sandbox.faults.third.delay", "60s")
            .set("shutdown.deadline", deadline)
    })
    .await;
    let hangs = Command::new("hangs", "ListGroups", "third", &json!({}));
    scene.producer.send(hangs).await.unwrap();
    scene.assert_works("beside-it").await;
    scene
}

#[tokio::test]
async fn a_command_that_hangs_is_abandoned_at_the_deadline_and_goes_back() {
    let broker = RabbitMq::shared().await.unwrap();
    let mut scene = hanging("2s").await;
    let begun = Instant::now();
    assert_eq!(scene.worker.stop().await.unwrap(), 6);
    println!("abandoned after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let queue = format!("{}.commands.0", scene.prefix);
    let begun = Instant::now();
    while broker.queue_depths().await.unwrap().get(&queue) != Some(&1) {
        assert!(begun.elapsed() < PATIENCE, "the command is gone");
    }
}

#[tokio::test]
async fn a_second_signal_abandons_at_once() {
    let mut scene = hanging("50s").await;
    scene.worker.signal(Signal::SIGTERM).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(scene.worker.ended().unwrap().is_none());
    let (status, why) = scene.worker.get("/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("stopping"), "{why}");
    let begun = Instant::now();
    scene.worker.signal(Signal::SIGTERM).unwrap();
    assert_eq!(scene.worker.until_ended(PATIENCE).await.unwrap(), 6);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stop_without_a_broker_waits_for_nobody() {
    let broker = RabbitMq::shared().await.unwrap();
    let proxy = Proxy::start(broker.address()).await.unwrap();
    let url = broker.url_through(proxy.address());
    for says_nothing in [false, true] {
        let mut scene = Scene::split(&url, &broker.url(), |options| options).await;
        let groups = scene.groups(5).await;
        if says_nothing {
            proxy.pause();
        } else {
            proxy.refuse();
        }
        proxy.cut();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begun = Instant::now();
        assert_eq!(scene.worker.stop().await.unwrap(), 0);
        println!("stopped within {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(groups.len(), 5);
        proxy.resume();
        proxy.accept();
    }
}

/// As the first process of a container it could not be ended otherwise.
#[tokio::test]
async fn a_stop_while_the_store_does_not_answer_is_heard() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
    let broker = RabbitMq::shared().await.unwrap();
    let options = options(&broker.url(), "silent").set("store.url", store);
    let mut worker = Worker::spawn(&options).unwrap();
    // It has begun to connect.
    let _connection = silent.accept().unwrap();
    assert_eq!(worker.stop().await.unwrap(), 0, "{}", worker.log_tail());
}
