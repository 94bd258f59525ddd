//! What an orchestrator sees: alive without a broker, ready only with one.

use std::time::{Duration, Instant};

use groupmq_test_support::proxy::Proxy;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::worker::Worker;
use serde_json::Value;

use super::scene::{PATIENCE, Scene, options};

async fn readiness(worker: &Worker) -> (u16, Value) {
    let (status, body) = worker.get("/readyz").await.unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn readiness_says_why_not_and_liveness_never_asks_the_broker() {
    let broker = RabbitMq::shared().await.unwrap();
    let proxy = Proxy::start(broker.address()).await.unwrap();
    let url = broker.url_through(proxy.address());
    let mut scene = Scene::split(&url, &broker.url(), |options| options).await;
    let (status, body) = readiness(&scene.worker).await;
    assert_eq!(
        (status, &body["ready"]),
        (200, &Value::Bool(true)),
        "{body}"
    );

    proxy.refuse();
    proxy.cut();
    let begun = Instant::now();
    let body = loop {
        let (status, body) = readiness(&scene.worker).await;
        if status == 503
            && body["problems"]
                .as_array()
                .is_some_and(|all| all.len() == 3)
        {
            break body;
        }
        assert!(begun.elapsed() < PATIENCE, "{status} {body}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    println!("noticed within {:?}: {body}", begun.elapsed());
    let problems = body["problems"].to_string();
    assert!(problems.contains("not consuming"), "{body}");
    assert!(problems.contains("for publishing"), "{body}");
    assert!(problems.contains("for the queues of webhooks"), "{body}");
    assert_eq!(scene.worker.get("/livez").await.unwrap().0, 200);
    assert_eq!(scene.worker.get("/startupz").await.unwrap().0, 200);

    proxy.accept();
    let back = scene.worker.until_ready(PATIENCE).await.unwrap();
    println!("ready again within {back:?}");
    scene.assert_works("again").await;
}

#[tokio::test]
async fn a_worker_that_starts_before_its_broker_waits_for_it() {
    let broker = RabbitMq::shared().await.unwrap();
    let proxy = Proxy::start(broker.address()).await.unwrap();
    proxy.refuse();
    let url = broker.url_through(proxy.address());
    let mut worker = Worker::spawn(&options(&url, &groupmq_test_support::prefix())).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(worker.ended().unwrap().is_none(), "{}", worker.log());
    let (status, body) = readiness(&worker).await;
    assert_eq!(status, 503, "{body}");
    proxy.accept();
    worker.until_ready(PATIENCE).await.unwrap();
    let idle = worker.status("VmRSS").unwrap();
    println!("{idle} KiB resident, idle, as built for tests");
    assert_eq!(worker.stop().await.unwrap(), 0);
}
