//! What went wrong and was not to be seen: queues that the broker cannot open, endpoints that cannot be bound.

use groupmq_test_support::proxy::Proxy;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;

use super::stage::{Part, Stage, until};
use crate::queues::Queues;
use crate::scene::PATIENCE;

/// The broker knows the queue still, and has not started it: so it is after a start at which that failed.
async fn damage(queue: &str) {
    eval(&format!(
        "mnesia:dirty_delete(rabbit_queue, {}).",
        resource(queue)
    ))
    .await;
}

/// As after a start at which it succeeds.
async fn restore(queue: &str) {
    let known = format!(
        "mnesia:dirty_read(rabbit_durable_queue, {})",
        resource(queue)
    );
    eval(&format!(
        "[Q] = {known}, mnesia:dirty_write(rabbit_queue, Q)."
    ))
    .await;
}

fn resource(queue: &str) -> String {
    format!("rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)")
}

async fn eval(expression: &str) {
    let broker = RabbitMq::shared().await.unwrap();
    broker.ctl(&["eval", expression]).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_the_broker_cannot_open_is_named_until_the_broker_can() {
    for mode in ["passive", "declare"] {
        let mut stage = Stage::with(|options| options.set("topology.mode", mode)).await;
        for end in ["orphan", "commands.0"] {
            let queue = stage.name(end);
            damage(&queue).await;
            let words = format!("has the queue {queue} but cannot open it (404)");
            let is_named = async || {
                let (status, said) = stage.worker.get("/readyz").await.unwrap();
                status == 503 && said.contains(&words) && said.contains("GroupmqBrokerUnsteady")
            };
            until(is_named, &words).await;
            assert!(stage.worker.log().contains(&words), "{mode}");
            let said = stage.run(&["doctor"]).await;
            assert_eq!(said.code, 1, "{said:?}");
            assert!(said.out.contains(&words), "{said:?}");

            restore(&queue).await;
            stage.worker.until_ready(PATIENCE).await.unwrap();
            stage.until_whole(&Part::Queue(queue)).await;
        }
        assert_eq!(stage.worker.stop().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn that_endpoints_cannot_be_bound_is_said_in_the_log_too() {
    let mut stage = Stage::with(|options| options).await;
    let words = "the queues of webhook endpoints cannot be bound now";
    stage
        .sql("ALTER TABLE webhook_endpoints RENAME TO moved;")
        .await;
    let is_named = async || {
        let (status, said) = stage.worker.get("/readyz").await.unwrap();
        status == 503 && said.contains(words)
    };
    until(is_named, "/readyz").await;
    until(async || stage.worker.log().contains(words), "the log").await;
    // It is tried each second; what fails again and again is said every half minute.
    assert_eq!(stage.worker.log().matches(words).count(), 1);
    stage
        .sql("ALTER TABLE moved RENAME TO webhook_endpoints;")
        .await;
    stage.worker.until_ready(PATIENCE).await.unwrap();
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn in_passive_mode_an_endpoint_has_its_queue_back_as_soon_as_the_broker_is_back() {
    let broker = RabbitMq::shared().await.unwrap();
    let proxy = Proxy::start(broker.address()).await.unwrap();
    let url = broker.url_through(proxy.address());
    let mut stage = Stage::with(|options| {
        let options = options.set("topology.mode", "passive");
        options.set("topology.interval", "1h")
    })
    .await;
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
    // A process that delivers would make it by itself.
    let executing = stage.options.clone().set("roles", "commands");
    stage.worker = Worker::start(&executing.set("amqp.url", url))
        .await
        .unwrap();
    stage.worker.until_ready(PATIENCE).await.unwrap();

    let queues = Queues::connect(&stage.url).await;
    let queue = stage.name("webhook.hook");
    proxy.refuse();
    proxy.cut();
    queues.delete(&queue).await;
    proxy.accept();
    until(async || queues.has(&queue).await, &queue).await;
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
}
