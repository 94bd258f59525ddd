//! An endpoint that is down: almost no work while it is, and everything delivered when it is back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use groupmq::clock::{Clock as _, SystemClock};
use groupmq::contract::Timestamp;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Answer;
use groupmq_test_support::worker::Worker;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene};

/// Sets how many events an endpoint misses while it is down: `make torture` has 20,000.
const EVENTS: &str = "GROUPMQ_TORTURE_EVENTS";

/// Time is compressed: probes follow one another within two seconds.
#[tokio::test]
async fn an_endpoint_that_was_down_through_thousands_of_events_gets_all_of_them() {
    let events = std::env::var_os(EVENTS);
    let events = events.map_or(2_000, |it| it.to_str().unwrap().parse().unwrap());
    let database = Postgres::shared().unwrap().database().unwrap();
    let broker = RabbitMq::shared().await.unwrap();
    let mut scene = Scene::at(&broker.url(), Some(&database.url), |it| it).await;
    let second = Worker::start(&scene.options).await.unwrap();
    scene.endpoint("down", "/down", json!({})).await;
    scene
        .endpoint("well", "/well", json!({"events": ["group.left"]}))
        .await;
    let meta = json!({"events": ["webhook.*"]});
    scene.endpoint("watch", "/watch", meta).await;
    scene.receiver.answer("/down", Answer::status(503));

    let mut announced = scene
        .announcer
        .announce("default", "group.join", 50)
        .await
        .unwrap();
    scene
        .until("down", |it| it.breaker.failing_since.is_some())
        .await;
    // What was under way when it opened.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, begun) = (scene.receiver.got("/down").len(), Instant::now());
    assert!(scene.receiver.most_at_once("/down") >= 1);
    let used = scene.worker.processor_time().unwrap() + second.processor_time().unwrap();
    let more = scene
        .announcer
        .announce("default", "group.join", events - 50)
        .await;
    announced.extend(more.unwrap());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let while_down = scene.receiver.got("/down").len() - before;
    let down_for = begun.elapsed();
    let used = (scene.worker.processor_time().unwrap() + second.processor_time().unwrap())
        .saturating_sub(used);
    // One probe every 200 ms at most, whatever the number of events and of processes.
    let most = usize::try_from(down_for.as_millis() / 200).unwrap() + 2;
    assert!(while_down <= most, "{while_down} requests in {down_for:?}");
    assert_eq!(
        scene.receiver.most_at_once("/down").max(1),
        1,
        "probes side by side"
    );
    // The rest of the system takes no notice.
    scene
        .announcer
        .announce("default", "group.left", 50)
        .await
        .unwrap();
    scene.receiver.takes("/well", 50, PATIENCE).await.unwrap();

    scene.receiver.answer("/down", Answer::status(204));
    // A healthy endpoint's own events came to it as well.
    scene
        .receiver
        .takes("/down", events + 50, 4 * PATIENCE)
        .await
        .unwrap();
    let taken = scene.receiver.taken("/down");
    let wanted: BTreeSet<_> = announced.iter().map(|it| it.id.clone()).collect();
    assert!(wanted.is_subset(&taken));
    let told: Vec<String> = scene
        .receiver
        .gets("/watch", 2)
        .await
        .unwrap()
        .iter()
        .map(|it| serde_json::from_slice::<Value>(&it.body).unwrap()["event"].to_string())
        .collect();
    assert_eq!(told, ["\"webhook.failing\"", "\"webhook.recovered\""]);
    assert!(crate::broker::letters(&scene).await.is_empty());
    println!(
        "down for {down_for:?} with {events} events: {while_down} requests, {used:?} of processor \
         time; {} requests in all for {} events",
        scene.receiver.got("/down").len(),
        taken.len(),
    );
}

#[tokio::test]
async fn after_an_outage_it_begins_with_one_at_a_time() {
    let mut scene = Scene::shared().await;
    scene
        .endpoint("down", "/down", json!({"concurrency": 8}))
        .await;
    scene.receiver.answer("/down", Answer::status(500));
    scene
        .announcer
        .announce("default", "group.join", 60)
        .await
        .unwrap();
    scene
        .until("down", |it| it.breaker.failing_since.is_some())
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Each takes so long that those under way together are seen together.
    let slow = Answer::status(204).after(Duration::from_millis(100));
    scene.receiver.answer("/down", slow);
    scene
        .until("down", |it| it.breaker.failing_since.is_none())
        .await;
    scene.receiver.takes("/down", 60, PATIENCE).await.unwrap();
    let well: Vec<_> = scene
        .receiver
        .got("/down")
        .into_iter()
        .filter(|it| it.status == 204)
        .collect();
    // The probe, and then at first one by one: the second does not begin before the first has ended.
    let gap = well[2].at.duration_since(well[1].at);
    assert!(gap >= Duration::from_millis(100), "{gap:?}");
    let begun_within = |from: usize, window: Duration| {
        let start = well[from].at;
        well[from..]
            .iter()
            .take_while(|it| it.at.duration_since(start) < window)
            .count()
    };
    let later = begun_within(40, Duration::from_millis(100));
    println!("in a tenth of a second: 1 at first, {later} later");
    assert!(later > 2, "it never grew: {later}");
}

#[tokio::test]
async fn an_endpoint_that_fails_for_too_long_is_disabled() {
    let scene = Scene::shared_with(|it| it.set("delivery.disable_after", "2s"));
    let mut scene = scene.await;
    scene.endpoint("dead", "/dead", json!({})).await;
    scene.receiver.answer("/dead", Answer::status(500));
    scene
        .announcer
        .announce("default", "group.join", 10)
        .await
        .unwrap();
    let disabled = scene
        .until("dead", |it| it.reason.is_some() && it.bound.is_empty())
        .await;
    assert_eq!(disabled.state.as_str(), "disabled");
}

#[tokio::test]
async fn an_endpoint_that_nothing_came_to_try_with_is_not_disabled() {
    let scene = Scene::shared_with(|it| it.set("delivery.disable_after", "1s"));
    let mut scene = scene.await;
    let endpoint = scene.endpoint("idle", "/idle", json!({})).await;
    let (now, wait) = (Timestamp(SystemClock.now()), Duration::from_millis(200));
    assert!(scene.endpoints.open(&endpoint, now, wait).await.unwrap());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = scene.endpoints.get("idle").await.unwrap().unwrap();
    assert_eq!(idle.state.as_str(), "active", "{:?}", idle.reason);
    assert!(idle.breaker.failing_since.is_some());
    let sent = scene.announcer.announce("default", "group.join", 1).await;
    sent.unwrap();
    scene.receiver.takes("/idle", 1, PATIENCE).await.unwrap();
    scene
        .until("idle", |it| it.breaker.failing_since.is_none())
        .await;
}
