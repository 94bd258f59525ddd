//! Two processes deliver, one of them is killed again and again, and the broker is restarted: every
//! event reaches every endpoint that takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use groupmq_test_support::announcer::Announcer;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::rabbitmq;
use groupmq_test_support::rabbitmq::RabbitMq;
use groupmq_test_support::receiver::Answer;
use groupmq_test_support::worker::Worker;
use serde_json::json;

use super::scene::{PATIENCE, Scene};

/// Every place between taking a delivery and acknowledging it.
const POINTS: [&str; 3] = ["before-request", "after-request", "after-publish"];

#[tokio::test]
async fn wherever_a_process_dies_over_a_delivery_it_is_delivered() {
    let broker = RabbitMq::shared().await.unwrap();
    let database = Postgres::shared().unwrap().database().unwrap();
    let mut scene = Scene::at(&broker.url(), Some(&database.url), |it| it).await;
    // Nobody else may settle what the dying leave behind before they have died.
    scene.worker.stop().await.unwrap();
    let mut told = Vec::new();
    for (round, point) in POINTS.into_iter().enumerate() {
        let path = format!("/{point}");
        let sessions = json!({"sessions": [point]});
        let (id, url) = (format!("e{round}"), scene.receiver.url(&path));
        let name = scene.set(&id, &url, sessions).await.name;
        let mut seen = BTreeSet::new();
        scene.receiver.rule(&path, move |it| {
            let is_first = seen.insert(it.id().to_owned());
            Answer::status(if is_first { 404 } else { 204 })
        });
        let mut helper = Worker::start(&scene.options).await.unwrap();
        scene.bound(&name).await;
        helper.stop().await.unwrap();
        let sent = scene
            .announcer
            .announce(point, "group.join", 20)
            .await
            .unwrap();
        let mut deaths = 0;
        for _ in 0..3 {
            let doomed = scene.options.clone().set("delivery.crash", point);
            let mut doomed = Worker::spawn(&doomed).unwrap();
            let begun = Instant::now();
            while doomed.ended().unwrap().is_none() {
                assert!(begun.elapsed() < PATIENCE, "it does not die at {point}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            deaths += 1;
        }
        let mut worker = Worker::start(&scene.options).await.unwrap();
        scene.receiver.takes(&path, 20, PATIENCE).await.unwrap();
        let ids: BTreeSet<_> = sent.into_iter().map(|it| it.id).collect();
        assert_eq!(scene.receiver.taken(&path), ids, "{point}");
        worker.stop().await.unwrap();
        told.push((point, deaths, scene.receiver.got(&path).len()));
    }
    assert!(crate::broker::letters(&scene).await.is_empty());
    println!("point, deaths, requests for 20 events that are refused once each: {told:?}");
}

mod own_node {
    use super::*;

    #[tokio::test]
    async fn every_event_reaches_every_endpoint_whoever_is_killed() {
        let mut broker = RabbitMq::start(rabbitmq::Options::default()).await.unwrap();
        let database = Postgres::shared().unwrap().database().unwrap();
        let scene = Scene::at(&broker.url(), Some(&database.url), |it| it).await;
        scene.endpoint("well", "/well", json!({})).await;
        scene.endpoint("flaky", "/flaky", json!({})).await;
        scene
            .endpoint("slow", "/slow", json!({"concurrency": 32}))
            .await;
        let mut count = 0_u32;
        scene.receiver.rule("/flaky", move |_| {
            count += 1;
            Answer::status(if count.is_multiple_of(4) { 503 } else { 204 })
        });
        let slow = Answer::status(204).after(Duration::from_millis(50));
        scene.receiver.answer("/slow", slow);

        let (url, prefix) = (scene.url.clone(), scene.prefix.clone());
        let announce = async move {
            let mut announcer = Announcer::new(&url, &prefix);
            let mut ids = BTreeSet::new();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(30) {
                let events = announcer
                    .announce("default", "group.join", 50)
                    .await
                    .unwrap();
                ids.extend(events.into_iter().map(|it| it.id));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ids
        };
        let kill = async {
            let mut kills = 0;
            for round in 0..10 {
                let mut worker = Worker::start(&scene.options).await.unwrap();
                // Not always at the same point of its work.
                tokio::time::sleep(Duration::from_millis(900 + 137 * round)).await;
                worker.kill().unwrap();
                kills += 1;
                if round == 3 || round == 7 {
                    broker.stop().await.unwrap();
                    broker.start_again().await.unwrap();
                }
            }
            kills
        };
        let (ids, kills) = tokio::join!(announce, kill);
        let mut requests = BTreeMap::new();
        for path in ["/well", "/flaky", "/slow"] {
            scene
                .receiver
                .takes(path, ids.len(), 3 * PATIENCE)
                .await
                .unwrap();
            assert_eq!(scene.receiver.taken(path), ids, "{path}");
            let got = scene.receiver.got(path);
            let foreign = got.iter().filter(|it| !ids.contains(it.id())).count();
            assert_eq!(foreign, 0, "{path}: another webhook-id for the same event");
            requests.insert(path, got.len());
        }
        assert!(crate::broker::letters(&scene).await.is_empty());
        println!(
            "{} events to each of three endpoints through {kills} kills and 2 restarts of the \
             broker; requests: {requests:?}",
            ids.len()
        );
    }
}
