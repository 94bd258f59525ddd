//! Endpoints that the configuration declares, what becomes of them when it declares them no more, and an
//! orderly stop.

use std::fs;
use std::time::{Duration, Instant};

use groupmq::store::endpoints::QueuedDeliveries;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Answer;
use groupmq_test_support::worker::{Options, Worker};
use serde_json::json;

use super::scene::{PATIENCE, Scene};

#[tokio::test]
async fn an_endpoint_that_is_declared_no_more_goes_once_what_waits_is_sent() {
    let mut scene = Scene::shared_with(|it| it.set("delivery.timeout", "2s")).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("groupmq.toml");
    let url = scene.receiver.url("/declared");
    fs::write(
        &file,
        format!("[[webhooks]]\nid = \"declared\"\nurl = \"{url}\"\n"),
    )
    .unwrap();
    let declared = scene.options.clone().file(&file);
    scene.worker.stop().await.unwrap();
    let mut worker = Worker::start(&declared).await.unwrap();
    scene
        .announcer
        .announce("default", "group.join", 5)
        .await
        .unwrap();
    scene
        .receiver
        .takes("/declared", 5, PATIENCE)
        .await
        .unwrap();
    worker.stop().await.unwrap();

    // These wait while nobody delivers.
    scene
        .announcer
        .announce("default", "group.join", 5)
        .await
        .unwrap();
    fs::write(&file, "").unwrap();
    let _worker = Worker::start(&declared).await.unwrap();
    scene
        .receiver
        .takes("/declared", 10, PATIENCE)
        .await
        .unwrap();
    let begun = Instant::now();
    while scene.endpoints.get("declared").await.unwrap().is_some() {
        assert!(begun.elapsed() < PATIENCE, "it is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene
        .announcer
        .announce("default", "group.join", 5)
        .await
        .unwrap();
    assert_eq!(scene.receiver.taken("/declared").len(), 10);
    assert!(!crate::broker::has_queue(&scene, "webhook.declared").await);
}

#[tokio::test]
async fn an_endpoint_that_is_removed_goes_only_once_what_was_taken_for_it_is_sent() {
    let database = Postgres::shared().unwrap().database().unwrap();
    let broker = RabbitMq::shared().await.unwrap();
    let settings = |it: Options| it.set("delivery.timeout", "1s");
    let mut scene = Scene::at(&broker.url(), Some(&database.url), settings).await;
    let _second = Worker::start(&scene.options).await.unwrap();
    // All of them are with the two workers at once, and for longer than it takes to notice an empty queue.
    let slow = Answer::status(204).after(Duration::from_millis(500));
    scene.receiver.answer("/slow", slow);
    let mut held = true;
    scene.receiver.rule("/held", move |_| {
        let answer = Answer::status(if held { 404 } else { 204 });
        held = false;
        answer.with("retry-after", "5")
    });
    let events = json!({"events": ["group.left"], "ordered": true});
    scene.endpoint("held", "/held", events).await;
    let events = json!({"events": ["group.join"], "concurrency": 1});
    scene.endpoint("slow", "/slow", events).await;
    let announcer = &mut scene.announcer;
    announcer
        .announce("default", "group.left", 1)
        .await
        .unwrap();
    announcer
        .announce("default", "group.join", 16)
        .await
        .unwrap();
    scene.receiver.gets("/slow", 1).await.unwrap();
    scene.receiver.gets("/held", 1).await.unwrap();
    for endpoint in ["slow", "held"] {
        let removed = scene
            .endpoints
            .remove(endpoint, QueuedDeliveries::Deliver)
            .await;
        assert!(removed.unwrap());
    }
    let begun = Instant::now();
    for endpoint in ["slow", "held"] {
        while scene.endpoints.get(endpoint).await.unwrap().is_some() {
            assert!(begun.elapsed() < PATIENCE, "{endpoint} is still there");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let queue = format!("webhook.{endpoint}");
        assert!(!crate::broker::has_queue(&scene, &queue).await, "{queue}");
    }
    assert_eq!(scene.receiver.taken("/slow").len(), 16);
    assert_eq!(scene.receiver.taken("/held").len(), 1);
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_gives_the_rest_back() {
    let mut scene = Scene::shared().await;
    scene.endpoint("slow", "/slow", json!({})).await;
    let slow = Answer::status(204).after(Duration::from_millis(300));
    scene.receiver.answer("/slow", slow);
    scene
        .announcer
        .announce("default", "group.join", 60)
        .await
        .unwrap();
    let mut stops = 0;
    while scene.receiver.taken("/slow").len() < 60 {
        let more = scene.receiver.got("/slow").len() + 8;
        scene.receiver.gets("/slow", more.min(60)).await.unwrap();
        assert_eq!(scene.worker.stop().await.unwrap(), 0);
        stops += 1;
        scene.worker = Worker::start(&scene.options).await.unwrap();
    }
    let requests = scene.receiver.got("/slow").len();
    println!("60 events through {stops} stops: {requests} requests");
    assert_eq!(requests, 60, "an orderly stop leaves nothing to repeat");
}

#[tokio::test]
async fn an_endpoint_is_sent_no_more_in_a_second_than_it_asks_for() {
    let mut scene = Scene::shared().await;
    scene
        .endpoint("calm", "/calm", json!({"rateLimit": 10}))
        .await;
    scene
        .announcer
        .announce("default", "group.join", 31)
        .await
        .unwrap();
    let got = scene.receiver.gets("/calm", 31).await.unwrap();
    // The first goes at once; the thirty after it take three seconds at ten a second.
    let took = got[30].at.duration_since(got[0].at);
    assert!(took >= Duration::from_millis(2_800), "too fast: {took:?}");
}

#[tokio::test]
async fn a_queue_that_somebody_deletes_is_made_and_bound_again() {
    let mut scene = Scene::shared().await;
    scene.endpoint("lost", "/lost", json!({})).await;
    scene
        .announcer
        .announce("default", "group.join", 3)
        .await
        .unwrap();
    scene.receiver.takes("/lost", 3, PATIENCE).await.unwrap();
    crate::broker::delete_queue(&scene, "webhook.lost").await;
    let begun = Instant::now();
    while !crate::broker::has_queue(&scene, "webhook.lost").await {
        assert!(begun.elapsed() < PATIENCE, "it is not made again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.bound("lost").await;
    scene
        .announcer
        .announce("default", "group.join", 3)
        .await
        .unwrap();
    scene.receiver.takes("/lost", 6, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn the_queue_of_an_endpoint_that_is_being_removed_is_not_made_again() {
    let mut scene = Scene::shared().await;
    // So that the endpoint is still there when its queue is deleted.
    let slow = Answer::status(204).after(Duration::from_secs(2));
    scene.receiver.answer("/going", slow);
    scene
        .endpoint("going", "/going", json!({"concurrency": 1}))
        .await;
    let announced = scene.announcer.announce("default", "group.join", 4);
    announced.await.unwrap();
    scene.receiver.gets("/going", 1).await.unwrap();
    let removed = scene
        .endpoints
        .remove("going", QueuedDeliveries::Deliver)
        .await;
    assert!(removed.unwrap());
    crate::broker::delete_queue(&scene, "webhook.going").await;
    let begun = Instant::now();
    while scene.endpoints.get("going").await.unwrap().is_some() {
        assert!(!crate::broker::has_queue(&scene, "webhook.going").await);
        assert!(begun.elapsed() < PATIENCE, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!crate::broker::has_queue(&scene, "webhook.going").await);
}

#[tokio::test]
async fn a_queue_that_is_made_anew_is_told_of_with_how_many_events_waited_in_it() {
    let mut scene = Scene::shared().await;
    scene.endpoint("paused", "/paused", json!({})).await;
    let webhooks = |scene: &Scene, what: &str| {
        let ran = scene
            .options
            .command(&["webhooks", what, "paused"])
            .output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{ran:?}");
    };
    webhooks(&scene, "pause");
    // The worker sees it within `delivery.refresh`, and consumes no more.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let announced = scene.announcer.announce("default", "group.join", 7);
    announced.await.unwrap();
    // A quorum queue reports its length up to five seconds late; from one look to the next it is thirty
    // times `delivery.refresh`.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let queue = format!("{}.webhook.paused", scene.prefix);
    let broker = RabbitMq::shared().await.unwrap();
    broker.ctl(&["delete_queue", &queue]).await.unwrap();
    let words = "the queue of a webhook endpoint was deleted and has been recreated";
    let begun = Instant::now();
    while !scene.worker.log().contains(words) {
        assert!(begun.elapsed() < PATIENCE, "{}", scene.worker.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = scene.worker.log();
    let told = log.lines().find(|it| it.contains(words)).unwrap();
    assert!(told.contains("endpoint=\"paused\" waiting=7"), "{told}");
    let (_, metrics) = scene.worker.get("/metrics").await.unwrap();
    let counted = "groupmq_webhook_queues_remade_total 1";
    assert!(metrics.contains(counted), "{metrics}");
    // What comes from now on is collected.
    scene.bound("paused").await;
    let announced = scene.announcer.announce("default", "group.join", 2);
    announced.await.unwrap();
    webhooks(&scene, "resume");
    scene.receiver.takes("/paused", 2, PATIENCE).await.unwrap();
}
