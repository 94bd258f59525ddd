//! A consumer that the broker ends is made anew.

use std::time::{Duration, Instant};

use groupmq_test_support::rabbitmq::RabbitMq;
use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};

use super::scene::Scene;

#[tokio::test]
async fn a_queue_that_is_deleted_under_its_consumer_is_declared_and_consumed_again() {
    let broker = RabbitMq::shared().await.unwrap();
    let mut scene = Scene::shared().await;
    scene.assert_works("before").await;
    let operator = Connection::connect(&broker.url(), ConnectionProperties::default())
        .await
        .unwrap();
    let channel = operator.create_channel().await.unwrap();
    for round in 0..3 {
        let queue = format!("{}.commands.0", scene.prefix);
        let options = QueueDeleteOptions::default();
        channel.queue_delete(queue.into(), options).await.unwrap();
        let begun = Instant::now();
        // The queue is gone for a moment: what is not confirmed is sent again.
        scene.assert_works(&format!("after-{round}")).await;
        println!("works again after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    assert!(scene.worker.ended().unwrap().is_none());
    assert!(scene.worker.log().contains("the broker ended the consumer"));
}

mod own_node {
    use groupmq_test_support::producer::Command;
    use groupmq_test_support::rabbitmq::Options;
    use serde_json::json;

    use super::*;
    use crate::scene::PATIENCE;

    #[tokio::test]
    async fn a_channel_that_the_broker_closes_for_a_slow_command_is_opened_again() {
        let broker = RabbitMq::start(Options::default()).await.unwrap();
        // Who does not acknowledge within so long has his channel closed, with 406.
        let impatient = "application:set_env(rabbit, channel_tick_interval, 500), \
                         application:set_env(rabbit, consumer_timeout, 2000).";
        broker.ctl(&["eval", impatient]).await.unwrap();
        let mut scene = Scene::at(&broker.url(), |options| {
            options.set("engine.sandbox.faults.third.delay", "8s")
        })
        .await;
        let slow = Command::new("slow", "ListGroups", "third", &json!({}));
        scene.producer.send(slow).await.unwrap();
        let closed = Instant::now();
        while !scene.worker.log().contains("(406)") {
            assert!(closed.elapsed() < PATIENCE, "the channel was not closed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        scene.worker.until_ready(PATIENCE).await.unwrap();
        scene.assert_works("meanwhile").await;
        // The answer of the first attempt counts, although its channel is gone.
        let reply = scene.producer.reply("slow").await.unwrap();
        assert_eq!(reply["status"], "ok");
        assert!(scene.worker.ended().unwrap().is_none());
    }
}
