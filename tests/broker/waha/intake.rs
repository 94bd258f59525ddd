//! Webhooks of WAHA: what is taken, what is refused, and that nothing of it is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Seen;
use groupmq_test_support::waha::events::{post, signature};
use groupmq_test_support::waha::{Quirks, Waha, now_ms};
use serde_json::{Value, json};

use super::webhooks;
use crate::behaviour::stage::{HMAC_KEY, Kind, Stage, of_group};
use crate::scene::PATIENCE;

const PATH: &str = "/engines/waha/events";

/// An event that tells that somebody joined a group.
fn joined(waha: &Waha, group: &str, phone: &str) -> Value {
    let id = format!("{phone}@c.us");
    let payload = json!({
        "type": "join", "timestamp": now_ms(), "group": {"id": group},
        "participants": [{"id": id, "pn": id, "role": "participant"}],
    });
    waha.envelope("default", "group.v2.participants", &payload)
}

async fn posted(stage: &Stage, body: &str) -> u16 {
    let host = stage.scene.worker.health().to_string();
    let signature = signature(HMAC_KEY, body);
    post(&host, PATH, &signature, body.as_bytes())
        .await
        .unwrap()
}

/// WAHA itself tells nothing, so that the test does.
async fn quiet(kind: Kind) -> Stage {
    let stage = Stage::with(kind, |options| {
        options.set("engine.waha.reconcile.interval", "0s")
    })
    .await;
    stage.waha().set(Quirks {
        deaf: true,
        ..Quirks::default()
    });
    stage
}

#[tokio::test]
async fn forged_replayed_oversized_and_malformed_posts_are_refused_and_counted() {
    let stage = quiet(Kind::Gows).await;
    let group = stage.waha().created_by_hand("15550000001", "Posted", &[]);
    let group = group.as_str();
    let host = stage.scene.worker.health().to_string();
    let good = joined(stage.waha(), group, "491700000001");
    let body = good.to_string();
    let forged = [
        String::new(),
        "00".repeat(64),
        signature("another key", &body),
        signature(HMAC_KEY, "another body"),
    ];
    for signature in &forged {
        assert_eq!(
            post(&host, PATH, signature, body.as_bytes()).await.unwrap(),
            401
        );
    }
    for off in [-7_200_000, 7_200_000] {
        let mut old = joined(stage.waha(), group, "491700000002");
        old["timestamp"] = json!(now_ms() + off);
        assert_eq!(posted(&stage, &old.to_string()).await, 400);
    }
    let padding = "x".repeat(5 * 1024 * 1024);
    let mut large = joined(stage.waha(), group, "491700000003");
    large["padding"] = json!(padding);
    assert_eq!(posted(&stage, &large.to_string()).await, 413);
    let mut malformed = vec![
        "{".to_owned(),
        "[]".to_owned(),
        "\"\"".to_owned(),
        "{}".to_owned(),
    ];
    for field in ["id", "timestamp", "event", "session", "payload"] {
        let mut without = good.clone();
        without.as_object_mut().unwrap().remove(field);
        malformed.push(without.to_string());
    }
    for wrong in ["not a session!", ""] {
        let mut other = good.clone();
        other["session"] = json!(wrong);
        malformed.push(other.to_string());
    }
    for body in &malformed {
        assert_eq!(posted(&stage, body).await, 400, "{body}");
    }
    // What is in order is taken, once; what there is no event for is none.
    assert_eq!(posted(&stage, &body).await, 200);
    assert_eq!(posted(&stage, &body).await, 200);
    let other = stage
        .waha()
        .envelope("default", "message", &json!({"body": "hello"}));
    assert_eq!(posted(&stage, &other.to_string()).await, 200);
    let events = stage.events("default", group, 2).await;
    assert_eq!(
        events,
        [
            "group.join add 01",
            "group.v2.participants join 01:participant"
        ]
    );
    let worker = &stage.scene.worker;
    let counted = [
        ("forged", forged.len()),
        ("replayed", 2),
        ("oversized", 1),
        ("malformed", malformed.len()),
        ("taken", 1),
        ("again", 1),
        ("ignored", 1),
    ];
    for (outcome, count) in counted {
        let found = webhooks(worker, outcome).await;
        assert_eq!(found, u64::try_from(count).unwrap(), "{outcome}");
    }
    let log = worker.log();
    assert!(
        !log.contains("491700000001") && !log.contains(HMAC_KEY),
        "{log}"
    );
}

#[tokio::test]
async fn the_intake_is_off_unless_it_is_switched_on() {
    let stage = Stage::with(Kind::Gows, |options| {
        options.set("engine.waha.intake.enabled", "false")
    })
    .await;
    let body = joined(stage.waha(), "120363000000000001@g.us", "491700000001").to_string();
    assert_eq!(posted(&stage, &body).await, 404);
    let sandbox = Stage::new(Kind::Sandbox).await;
    let host = sandbox.scene.worker.health().to_string();
    assert_eq!(post(&host, PATH, "", b"{}").await.unwrap(), 404);
}

#[tokio::test]
async fn what_is_told_late_and_out_of_order_does_not_undo_what_is_newer() {
    let stage = quiet(Kind::Noweb).await;
    let group = stage.group("Late", &["491700000001@c.us"]).await;
    let group = group.as_str();
    let mut came = joined(stage.waha(), group, "491700000001");
    came["payload"]["timestamp"] = json!(now_ms() + 2_000);
    let mut went = came.clone();
    went["id"] = json!("evt_the_later_one");
    went["payload"]["type"] = json!("leave");
    went["payload"]["timestamp"] = json!(now_ms() + 5_000);
    assert_eq!(posted(&stage, &went.to_string()).await, 200);
    assert_eq!(posted(&stage, &came.to_string()).await, 200);
    let after = joined(stage.waha(), group, "491700000002");
    assert_eq!(posted(&stage, &after.to_string()).await, 200);
    let events = stage.events("default", group, 6).await.split_off(2);
    let wanted = [
        "group.left leave 01",
        "group.v2.participants leave 01:",
        "group.join add 02",
        "group.v2.participants join 02:participant",
    ];
    assert_eq!(events, wanted);
    assert_eq!(webhooks(&stage.scene.worker, "outdated").await, 1);
}

#[tokio::test]
async fn while_the_store_is_down_waha_is_told_to_try_again() {
    let mut postgres = Postgres::start().unwrap();
    let database = postgres.database().unwrap();
    let stage = Stage::with(Kind::Gows, |options| {
        options.set("store.url", &database.url)
    })
    .await;
    stage.waha().set(Quirks {
        deaf: true,
        ..Quirks::default()
    });
    let group = stage.group("Stored", &[]).await;
    let group = group.as_str();
    stage.events("default", group, 2).await;
    let body = joined(stage.waha(), group, "491700000001").to_string();
    postgres.stop().unwrap();
    assert_eq!(posted(&stage, &body).await, 503);
    postgres.start_again().unwrap();
    loop {
        match posted(&stage, &body).await {
            200 => break,
            status => assert_eq!(status, 503),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = stage.events("default", group, 4).await.split_off(2);
    assert_eq!(
        events,
        [
            "group.join add 01",
            "group.v2.participants join 01:participant"
        ]
    );
}

mod own_node {
    use futures_util::future::join_all;
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use groupmq_test_support::waha::Personality;

    use super::*;
    use crate::behaviour::stage::on;
    use crate::scene::Scene;

    const POSTERS: usize = 200;
    const EACH: usize = 6;
    const GROUPS: usize = 20;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_hundred_posters_lose_nothing_while_the_broker_goes_up_and_down() {
        let mut broker = RabbitMq::start(Options::default()).await.unwrap();
        let waha = Waha::start(Personality::Gows).await.unwrap();
        let groups: Vec<_> = (0..GROUPS)
            .map(|n| waha.created_by_hand("15550000001", &format!("Posted {n}"), &[]))
            .collect();
        let scene = Scene::at(&broker.url(), |options| {
            // Nobody of these is in a group of WAHA's: looks would agree that they are gone.
            on(&waha, options)
                .set("engine.waha.reconcile.interval", "0s")
                .set("engine.waha.reconcile.lag", "10m")
        })
        .await;
        let host = scene.worker.health().to_string();
        let group = |n: usize| groups[n % GROUPS].clone();
        let phone = |n: usize| format!("4930{n:08}");
        let poster = async |poster: usize| {
            for round in 0..EACH {
                let n = poster * EACH + round;
                let body = joined(&waha, &group(n), &phone(n)).to_string();
                let signature = signature(HMAC_KEY, &body);
                let status = post(&host, PATH, &signature, body.as_bytes())
                    .await
                    .unwrap();
                // The broker has no part in it.
                assert_eq!(status, 200);
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        };
        let ordeal = async {
            let some = |seen: &Seen| (seen.event_count() > 0).then_some(());
            scene.producer.until(PATIENCE, some).await.unwrap();
            broker.stop().await.unwrap();
            broker.start_again().await.unwrap();
            let some = scene.producer.seen().event_count() + 1;
            let more = |seen: &Seen| (seen.event_count() >= some).then_some(());
            scene.producer.until(2 * PATIENCE, more).await.unwrap();
            broker.kill().await.unwrap();
            broker.start_again().await.unwrap();
        };
        tokio::join!(join_all((0..POSTERS).map(poster)), ordeal);

        let all = POSTERS * EACH;
        let complete = |seen: &Seen| (seen.event_count() >= 2 * all).then_some(());
        scene.producer.until(2 * PATIENCE, complete).await.unwrap();
        let seen = scene.producer.seen();
        assert_eq!(seen.event_count(), 2 * all);
        let mut people = BTreeSet::new();
        for n in 0..GROUPS {
            let events = of_group(seen, "default", &group(n));
            let numbers: Vec<_> = events
                .iter()
                .map(|it| it["payload"]["sequence"].as_u64())
                .collect();
            let wanted: Vec<_> = (1..=events.len()).map(|n| u64::try_from(n).ok()).collect();
            assert_eq!(numbers, wanted, "group {n} out of order, or with a gap");
            let came = events.iter().filter(|it| it["event"] == "group.join");
            people.extend(came.map(|it| {
                it["payload"]["recipientIds"][0]
                    .as_str()
                    .unwrap()
                    .to_owned()
            }));
        }
        let wanted: BTreeSet<_> = (0..all).map(|n| format!("{}@c.us", phone(n))).collect();
        assert_eq!(people, wanted);
        println!(
            "{all} posts, {} events, {} copies",
            2 * all,
            seen.event_copies()
        );
        let taken = webhooks(&scene.worker, "taken").await;
        assert_eq!(taken, u64::try_from(all).unwrap());
    }
}
