//! Processes on one store whose machines disagree about the time by ten minutes.

use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::{Answer, Delivered};
use groupmq_test_support::worker::Worker;
use serde_json::json;

use super::scene::{PATIENCE, Scene};

/// A lease of a process that was killed ends in this time, by any clock.
const LEASE: Duration = Duration::from_secs(15);

#[tokio::test]
async fn an_ordered_endpoint_keeps_its_order_and_is_served_whichever_of_them_is_killed() {
    let database = Postgres::shared().unwrap().database().unwrap();
    let broker = RabbitMq::shared().await.unwrap();
    let mut scene = Scene::at(&broker.url(), Some(&database.url), |it| it).await;
    scene
        .endpoint("line", "/line", json!({"ordered": true}))
        .await;
    let mut count = 0;
    scene.receiver.rule("/line", move |_| {
        count += 1;
        // Often enough in a row for its breaker to open, so that it is probed as well.
        Answer::status(if count % 20 < 6 { 503 } else { 204 })
    });
    scene.worker.kill().unwrap();

    let mut sent = Vec::new();
    let clocks = ["+10m", "-10m", "+0m"].map(|by| scene.options.clone().with_clock_off_by(by));
    let mut workers = Vec::new();
    for options in &clocks {
        workers.push(Worker::start(options).await.unwrap());
        // The first one has the endpoint, since it was alone.
        announce(&mut scene, 15, &mut sent).await;
    }
    for (options, worker) in clocks.iter().zip(&mut workers) {
        worker.kill().unwrap();
        announce(&mut scene, 15, &mut sent).await;
        *worker = Worker::start(options).await.unwrap();
    }
    let got = scene.receiver.got("/line");
    let mut taken: Vec<_> = got
        .iter()
        .filter(|it| it.status == 204)
        .map(Delivered::id)
        .collect();
    // The one after a kill may come twice.
    taken.dedup();
    let place = |id: &str| sent.iter().position(|it| it == id);
    let attempts: Vec<_> = got.iter().map(|it| (place(it.id()), it.status)).collect();
    assert_eq!(taken, sent, "{attempts:?}");
    assert_eq!(scene.receiver.most_at_once("/line"), 1);
}

/// Sends events and waits until the endpoint has taken all that were ever sent.
async fn announce(scene: &mut Scene, count: usize, sent: &mut Vec<String>) {
    let events = scene.announcer.announce("default", "group.join", count);
    sent.extend(events.await.unwrap().into_iter().map(|it| it.id));
    let (receiver, all) = (&scene.receiver, sent.len());
    receiver
        .takes("/line", all, LEASE + PATIENCE)
        .await
        .unwrap();
}
