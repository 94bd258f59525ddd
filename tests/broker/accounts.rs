//! Accounts are not asked for more than is safe, and those that WhatsApp restricts are left alone.

use std::time::{Duration, Instant};

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Command;
use groupmq_test_support::worker::Worker;
use serde_json::json;

use super::scene::{PATIENCE, Scene, create};
use super::shards::EVEN_WITHIN;

/// What a metric stands at; `series` as it stands in the exposition.
async fn metric(worker: &Worker, series: &str) -> f64 {
    let (status, text) = worker.get("/metrics").await.unwrap();
    assert_eq!(status, 200, "{text}");
    let lines = text.lines().filter_map(|line| line.strip_prefix(series));
    lines
        .filter_map(|value| value.trim().parse::<f64>().ok())
        .sum()
}

fn expiring(n: usize, after: Duration) -> Command {
    let expires_at = jiff::Timestamp::now() + after;
    let body = json!({
        "id": format!("expiring-{n}"), "type": "ListGroups", "session": "second",
        "expiresAt": expires_at.to_string(),
    });
    Command::raw(&format!("expiring-{n}"), "second", body.to_string())
}

#[tokio::test]
async fn what_exceeds_an_accounts_limit_waits_and_is_done_in_the_end() {
    const GROUPS: usize = 8;
    let scene = Scene::shared_with(|options| {
        options
            .set("safety.limits", "on")
            .set("safety.create_group.burst", "2")
            .set("safety.create_group.refill", "300ms")
            .set("retry.within", "0s")
            .set("topology.delay_tiers", "100ms,400ms,1s")
    })
    .await;
    let creations = (0..GROUPS).map(|n| {
        let id = format!("create-{n}");
        Command::new(&id, "CreateGroup", "default", &create(&id))
    });
    scene.producer.send_all(creations.collect()).await.unwrap();
    scene.producer.answered(GROUPS, PATIENCE).await.unwrap();
    for n in 0..GROUPS {
        let reply = scene.producer.seen().answer_to(&format!("create-{n}"));
        assert_eq!(reply["status"], "ok", "{reply}");
    }
    let limited = r#"groupmq_account_limited_total{kind="create_group"}"#;
    let deferred = r#"groupmq_commands_deferred_total{reason="RATE_LIMITED"}"#;
    let limited = metric(&scene.worker, limited).await;
    let deferred = metric(&scene.worker, deferred).await;
    println!("{GROUPS} groups with a bucket of 2: limited {limited}, deferred {deferred} times");
    assert!(limited >= 1.0);
    assert!((limited - deferred).abs() < 0.5, "{limited} {deferred}");
    assert_eq!(scene.producer.dead_letters().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_restricted_account_is_left_alone_and_what_expires_is_told_so() {
    const COMMANDS: usize = 20;
    let scene = Scene::shared_with(|options| {
        options
            .set("engine.sandbox.faults.second.restricted", "true")
            .set("retry.within", "0s")
            .set("topology.delay_tiers", "200ms")
    })
    .await;
    // The first one finds it out; the others need not ask WhatsApp.
    scene
        .producer
        .send(expiring(0, Duration::from_secs(2)))
        .await
        .unwrap();
    scene.producer.answered(1, PATIENCE).await.unwrap();
    let more = (1..COMMANDS).map(|n| expiring(n, Duration::from_secs(2)));
    scene.producer.send_all(more.collect()).await.unwrap();
    scene.assert_works("beside").await;
    scene
        .producer
        .answered(COMMANDS + 1, PATIENCE)
        .await
        .unwrap();
    for n in 0..COMMANDS {
        let reply = scene.producer.seen().answer_to(&format!("expiring-{n}"));
        assert_eq!(reply["error"]["code"], "SESSION_NOT_READY", "{reply}");
    }
    let restrictions = metric(&scene.worker, "groupmq_account_restrictions_total").await;
    let restricted = metric(&scene.worker, "groupmq_accounts_restricted").await;
    println!("{COMMANDS} commands, {restrictions} of which reached the restricted account");
    assert!((restrictions - 1.0).abs() < 0.5, "{restrictions}");
    assert!((restricted - 1.0).abs() < 0.5, "{restricted}");
    let log = scene.worker.log();
    assert_eq!(
        log.matches("restricted or banned; its commands are deferred")
            .count(),
        1,
        "{log}"
    );
    // What could not be carried out is kept.
    let dead = scene.producer.dead_letters_of(COMMANDS).await.unwrap();
    assert_eq!(dead.len(), COMMANDS);
}

#[tokio::test]
async fn patience_that_whatsapp_asks_for_is_kept() {
    let scene = Scene::shared_with(|options| {
        options
            .set("engine.sandbox.faults.second.rate_limit", "1h")
            .set("retry.within", "0s")
            .set("topology.delay_tiers", "100ms,200ms")
    })
    .await;
    for n in 0..3 {
        scene
            .producer
            .send(expiring(n, Duration::from_secs(2)))
            .await
            .unwrap();
        scene.producer.answered(n + 1, PATIENCE).await.unwrap();
        let reply = scene.producer.seen().answer_to(&format!("expiring-{n}"));
        assert_eq!(reply["error"]["code"], "RATE_LIMITED", "{reply}");
    }
    let asked = metric(
        &scene.worker,
        r#"groupmq_account_patience_total{kind="read"}"#,
    )
    .await;
    assert!((asked - 1.0).abs() < 0.5, "{asked}");
}

#[tokio::test]
async fn a_restricted_account_counts_for_the_worker_that_has_its_session() {
    // So many that they are not all in the one shard which stays.
    const SESSIONS: usize = 8;
    let database = Postgres::shared().unwrap().database().unwrap();
    let scene = Scene::shared_with(|options| {
        let options = options
            .set("store.url", &database.url)
            .set("topology.shards", "2")
            .set("retry.within", "0s")
            .set("topology.delay_tiers", "200ms");
        (0..SESSIONS).fold(options, |options, n| {
            options
                .set(
                    &format!("engine.sandbox.sessions.s{n}"),
                    format!("1555000010{n}"),
                )
                .set(&format!("engine.sandbox.faults.s{n}.restricted"), "true")
        })
    })
    .await;
    let commands = (0..SESSIONS).map(|n| {
        let expires_at = jiff::Timestamp::now() + Duration::from_secs(2);
        let (id, session) = (format!("restricted-{n}"), format!("s{n}"));
        let body = json!({
            "id": id, "type": "ListGroups", "session": session,
            "expiresAt": expires_at.to_string(),
        });
        Command::raw(&id, &session, body.to_string())
    });
    scene.producer.send_all(commands.collect()).await.unwrap();
    scene.producer.answered(SESSIONS, PATIENCE).await.unwrap();
    let counted = || metric(&scene.worker, "groupmq_accounts_restricted ");
    let all = counted().await;
    assert!((all - 8.0).abs() < 0.5, "{all}");

    // Takes one of the two shards over.
    let _other = Worker::start(&scene.options).await.unwrap();
    let begun = Instant::now();
    while counted().await >= all {
        assert!(begun.elapsed() < EVEN_WITHIN, "{all} are still counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
