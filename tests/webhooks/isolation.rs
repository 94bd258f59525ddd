//! A slow endpoint and one that refuses connections hold up nobody else.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use groupmq_test_support::announcer::{Announcement, Announcer};
use groupmq_test_support::receiver::{Answer, Receiver};
use serde_json::json;

use super::scene::{PATIENCE, Scene};

/// How long the slow endpoint takes for each request.
const SLOW: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_healthy_endpoint_takes_no_notice_of_a_slow_and_of_a_dead_one() {
    let scene = Scene::shared_with(|it| {
        it.set("delivery.timeout", "30s")
            .set("shutdown.deadline", "1s")
    });
    let scene = scene.await;
    let healthy = json!({"sessions": ["healthy"]});
    scene.endpoint("healthy", "/healthy", healthy).await;
    let alone = latencies(&scene, 250).await;

    let slow = json!({"sessions": ["slow"], "timeoutSeconds": 30});
    scene.endpoint("slow", "/slow", slow).await;
    scene
        .receiver
        .answer("/slow", Answer::status(204).after(SLOW));
    let dead = json!({"sessions": ["dead"]});
    scene.set("dead", "http://127.0.0.1:9/", dead).await;
    scene.bound("dead").await;
    let disturb = |session: &'static str| {
        let (url, prefix) = (scene.url.clone(), scene.prefix.clone());
        async move {
            let mut announcer = Announcer::new(&url, &prefix);
            for _ in 0..100 {
                // 60 a second.
                announcer.announce(session, "group.join", 6).await.unwrap();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let begun = Instant::now();
    let beside = async {
        // The slow one has all its slots taken by then.
        let busy = |it: &Receiver| (it.got("/slow").len() >= 8).then_some(());
        scene.receiver.until(PATIENCE, busy).await.unwrap();
        latencies(&scene, 250).await
    };
    let (beside, (), ()) = tokio::join!(beside, disturb("slow"), disturb("dead"));
    println!(
        "p50 and p99 alone: {:?} and {:?}; beside a slow and a dead endpoint: {:?} and {:?}",
        at(&alone, 50),
        at(&alone, 99),
        at(&beside, 50),
        at(&beside, 99),
    );
    // All of them arrived before the slow one had answered a second time.
    assert!(begun.elapsed() < 2 * SLOW);
    assert!(scene.receiver.got("/slow").len() <= 16);
    assert!(scene.receiver.most_at_once("/slow") <= 8);
    // A delivery that waited for the slow one would have waited for seconds.
    assert!(at(&beside, 100) < SLOW / 4, "{beside:?}");
}

/// Announces 50 events a second, and returns how long each was on its way, shortest first.
async fn latencies(scene: &Scene, count: usize) -> Vec<Duration> {
    let mut announcer = Announcer::new(&scene.url, &scene.prefix);
    let mut sent = BTreeMap::new();
    let before = scene.receiver.taken("/healthy").len();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for number in 0..count {
        pace.tick().await;
        let event = Announcement::new("healthy", "group.join", number);
        sent.insert(event.id.clone(), Instant::now());
        announcer.publish(&[event]).await.unwrap();
    }
    scene
        .receiver
        .takes("/healthy", before + count, PATIENCE)
        .await
        .unwrap();
    let got = scene.receiver.got("/healthy");
    let mut all: Vec<_> = got
        .iter()
        .filter_map(|it| Some(it.at.duration_since(*sent.get(it.id())?)))
        .collect();
    all.sort_unstable();
    assert_eq!(all.len(), count, "some came twice");
    all
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[((sorted.len() - 1) * percent) / 100]
}
