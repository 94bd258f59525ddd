//! Sessions that are not `WORKING`: their commands wait, and operators see why.

use std::time::{Duration, Instant};

use groupmq_test_support::producer::Command;
use groupmq_test_support::waha::Fault;
use groupmq_test_support::worker::Worker;
use serde_json::json;

use super::metric;
use crate::behaviour::stage::{Kind, Stage};
use crate::cli::run;
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";

#[tokio::test]
async fn commands_of_a_session_that_is_not_working_wait_until_it_is() {
    // Waiting for a session costs none of the attempts.
    let stage = Stage::with(Kind::Gows, |options| {
        options.set("retry.attempts", "0").set("retry.within", "0s")
    })
    .await;
    let id = stage.group("Offline", &[ONE]).await;
    stage.waha().status("default", "SCAN_QR_CODE");
    let payload = json!({"groupId": id, "subject": "Back again"});
    let command = Command::new("waiting", "SetGroupSubject", "default", &payload);
    stage.scene.producer.send(command).await.unwrap();
    until(&stage, |body| {
        body.contains("the session default is SCAN_QR_CODE in WAHA")
    })
    .await;
    let (status, body) = stage.scene.worker.get("/readyz").await.unwrap();
    assert_eq!(status, 200, "others can work: {body}");
    let scanning = r#"groupmq_waha_sessions{status="SCAN_QR_CODE"}"#;
    let working = r#"groupmq_waha_sessions{status="WORKING"}"#;
    let worker = &stage.scene.worker;
    assert_eq!(metric(worker, scanning).await, 1);
    assert_eq!(metric(worker, working).await, 2);
    let deferred = r#"groupmq_commands_deferred_total{reason="SESSION_NOT_READY"}"#;
    let begun = Instant::now();
    while metric(worker, deferred).await < 2 {
        assert!(begun.elapsed() < PATIENCE, "{}", worker.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = stage.waha().asked();
    let puts = asked.iter().filter(|it| it.method == "PUT").count();
    // Other sessions go on meanwhile.
    assert_eq!(
        stage.result("second", "ListGroups", json!({})).await,
        json!([])
    );
    stage.waha().status("default", "WORKING");
    let reply = stage.scene.producer.reply("waiting").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    assert!(
        puts <= 1,
        "a session that is known to be away is not asked: {asked:?}"
    );
    assert_eq!(metric(worker, scanning).await, 0);
    assert_eq!(stage.waha().group(&id).unwrap().subject, "Back again");
}

pub(super) async fn until(stage: &Stage, is_so: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        // A worker that has just been started does not answer yet.
        let answer = stage.scene.worker.get("/readyz").await;
        let (_, body) = answer.unwrap_or_default();
        if is_so(&body) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn doctor_tells_how_waha_stands() {
    let folder = tempfile::tempdir().unwrap();
    let store = groupmq_test_support::worker::store_in(folder.path());
    let stage = Stage::with(Kind::Noweb, |options| options.set("store.url", store)).await;
    let well = run(&stage.scene.options, &["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    assert!(
        well.out.contains("WAHA; 3 sessions, 3 of them WORKING"),
        "{}",
        well.out
    );
    stage.waha().status("third", "FAILED");
    let one = run(&stage.scene.options, &["doctor"]).await;
    assert_eq!(one.code, 0, "{one:?}");
    let words = "3 sessions, 2 of them WORKING; the session third is FAILED in WAHA";
    assert!(one.out.contains(words), "{}", one.out);
    let wrong = stage
        .scene
        .options
        .clone()
        .set("engine.waha.api_key", "hunter2");
    let wrong = run(&wrong, &["doctor"]).await;
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.out.contains("WAHA refuses our key"), "{}", wrong.out);
    assert!(!wrong.out.contains("hunter2"), "{}", wrong.out);
    stage.waha().stop().await;
    let away = run(&stage.scene.options, &["doctor"]).await;
    assert_eq!(away.code, 1, "{away:?}");
    assert!(away.out.contains("was not reached"), "{}", away.out);
}

#[tokio::test]
async fn keys_are_not_printed() {
    let stage = Stage::new(Kind::Noweb).await;
    let printed = run(&stage.scene.options, &["config", "print"]).await;
    assert_eq!(printed.code, 0, "{printed:?}");
    for secret in [
        groupmq_test_support::waha::KEY,
        crate::behaviour::stage::HMAC_KEY,
    ] {
        assert!(
            !printed.out.contains(&format!("\"{secret}\"")),
            "{}",
            printed.out
        );
    }
}

#[tokio::test]
async fn a_wrong_base_url_refuses_no_command_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = groupmq_test_support::worker::store_in(folder.path());
    let mut stage = Stage::with(Kind::Gows, |options| {
        options.set("store.url", store).set("retry.attempts", "0")
    })
    .await;
    let id = stage.group("Found again", &[ONE]).await;
    let right = stage.scene.options.clone();
    let url = format!("{}/api", stage.waha().url());
    let wrong = right.clone().set("engine.waha.url", url);
    stage.scene.worker.stop().await.unwrap();
    stage.scene.worker = Worker::spawn(&wrong).unwrap();
    let payload = json!({"groupId": id, "subject": "Still wanted"});
    let command = Command::new("wanted", "SetGroupSubject", "default", &payload);
    stage.scene.producer.send(command).await.unwrap();
    let words = "does not list sessions as WAHA does";
    until(&stage, |body| {
        body.contains(words) && body.contains("check engine.waha.url")
    })
    .await;
    let (status, body) = stage.scene.worker.get("/readyz").await.unwrap();
    assert_eq!(status, 503, "{body}");
    let doctor = run(&wrong, &["doctor"]).await;
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(
        doctor.out.contains("check engine.waha.url"),
        "{}",
        doctor.out
    );
    let deferred = r#"groupmq_commands_deferred_total{reason="SESSION_NOT_READY"}"#;
    let begun = Instant::now();
    while metric(&stage.scene.worker, deferred).await < 1 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}",
            stage.scene.worker.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rejected = "groupmq_dead_letters_total";
    assert_eq!(metric(&stage.scene.worker, rejected).await, 0);
    stage.scene.worker.stop().await.unwrap();
    stage.scene.worker = Worker::start(&right).await.unwrap();
    let reply = stage.scene.producer.reply("wanted").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
}

#[tokio::test]
async fn a_server_that_answers_something_else_for_a_while_refuses_no_command() {
    let stage = Stage::with(Kind::Noweb, |options| {
        options
            .set("retry.attempts", "0")
            .set("engine.waha.health_interval", "100ms")
    })
    .await;
    let id = stage.group("Mistaken", &[ONE]).await;
    let page = Fault::Answer(200, r#"{"sessions": "elsewhere"}"#.to_owned());
    stage.waha().fail_always("GET /sessions?all=true", page);
    until(&stage, |body| body.contains("check engine.waha.url")).await;
    let payload = json!({"groupId": id, "subject": "In the end"});
    let command = Command::new("waiting", "SetGroupSubject", "default", &payload);
    stage.scene.producer.send(command).await.unwrap();
    let deferred = r#"groupmq_commands_deferred_total{reason="SESSION_NOT_READY"}"#;
    let begun = Instant::now();
    while metric(&stage.scene.worker, deferred).await < 1 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}",
            stage.scene.worker.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stage.waha().group(&id).unwrap().subject, "Mistaken");
    stage.waha().mend();
    let reply = stage.scene.producer.reply("waiting").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
}
