//! What will not get better by waiting: it is tried a few times and answered in the server's words.

use groupmq_test_support::producer::Command;
use groupmq_test_support::waha::{Fault, Quirks};
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage};

const ONE: &str = "491700000001@c.us";

#[tokio::test]
async fn a_broken_server_is_asked_a_few_times_and_its_words_are_told() {
    let stage = Stage::with(Kind::Webjs, |options| {
        options
            .set("retry.reads", "500ms")
            .set("topology.delay_tiers", "100ms,200ms")
    })
    .await;
    let id = stage.group("Broken", &[ONE]).await;
    let words = "cannot do it for 491700000001@c.us, groupChat.x is not a function";
    let told = "TypeError: cannot do it for …, groupChat.x is not a function";
    for (request, name, payload, code) in [
        (
            "GET invite-code",
            "GetInviteCode",
            json!({"groupId": id}),
            "ENGINE_UNAVAILABLE",
        ),
        (
            "PUT subject",
            "SetGroupSubject",
            json!({"groupId": id, "subject": "Other"}),
            "IN_DOUBT",
        ),
    ] {
        let before = stage.waha().asked().len();
        let fault = Fault::TypeError(words.to_owned());
        stage.waha().fail_always(request, fault);
        let reply = stage.ask("default", name, payload).await;
        assert_eq!(reply["error"]["code"], code, "{reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(message.contains(told), "{message}");
        let asked = stage.waha().asked().split_off(before);
        let (method, end) = request.split_once(' ').unwrap();
        let tries = asked
            .iter()
            .filter(|it| it.method == method && it.path.ends_with(end));
        let tries = tries.count();
        assert!((2..=20).contains(&tries), "{name}: {tries}");
    }
    let log = stage.scene.worker.log();
    assert!(log.contains("groupChat.x is not a function"), "{log}");
    assert!(!log.contains("491700000001"), "{log}");
}

#[tokio::test]
async fn a_read_is_answered_while_the_server_is_away() {
    let stage = Stage::with(Kind::Gows, |options| options.set("retry.reads", "500ms")).await;
    stage.waha().stop().await;
    let reply = stage.ask("default", "ListGroups", json!({})).await;
    assert_eq!(reply["error"]["code"], "ENGINE_UNAVAILABLE", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("was not reached"), "{message}");
    let rested = super::metric(&stage.scene.worker, "groupmq_commands_deferred_total").await;
    assert_eq!(rested, 0);
}

#[tokio::test]
async fn a_command_that_expires_says_what_failed_last() {
    let stage = Stage::with(Kind::Noweb, |options| options.set("retry.within", "0s")).await;
    let id = stage.group("Expiring", &[ONE]).await;
    let fault = Fault::Answer(503, "{}".to_owned());
    stage.waha().fail_always("PUT subject", fault);
    let payload = json!({"groupId": id, "subject": "Other"});
    let limit = groupmq_test_support::waha::now_ms() + 2_000;
    let limit = jiff::Timestamp::from_millisecond(limit).unwrap();
    let body = json!({
        "id": "expiring", "type": "SetGroupSubject", "session": "default", "payload": payload,
        "expiresAt": limit.to_string(),
    });
    let command = Command::raw("expiring", "default", body.to_string());
    stage.scene.producer.send(command).await.unwrap();
    let reply = stage.scene.producer.reply("expiring").await.unwrap();
    assert_eq!(reply["error"]["code"], "EXPIRED", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("unavailable (503)"), "{message}");
}

#[tokio::test]
async fn nothing_is_refused_for_good_while_the_server_does_not_list_its_sessions() {
    let stage = Stage::with(Kind::Noweb, |options| options.set("retry.max_age", "2s")).await;
    let no_route = Fault::Answer(404, json!({"message": "Cannot POST /x/groups"}).to_string());
    let broken = Fault::Answer(502, "<html>".to_owned());
    stage.waha().fail_always("GET sessions?all=true", broken);
    stage.waha().fail_always("POST groups", no_route);
    let payload = json!({"name": "Elsewhere", "participants": [ONE]});
    // The server has listed them a moment ago.
    let listed = stage.scene.worker.get("/readyz").await.unwrap();
    assert_eq!(listed.0, 200, "{listed:?}");
    crate::waha::health::until(&stage, |body| body.contains("502")).await;
    let reply = stage.ask("default", "CreateGroup", payload).await;
    assert_eq!(reply["error"]["code"], "ENGINE_UNAVAILABLE", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("check engine.waha.url"), "{message}");
    let dead = stage.scene.producer.dead_letters().await.unwrap();
    assert_eq!(dead.len(), 1, "it is kept");
}

#[tokio::test]
async fn a_session_that_waha_does_not_have_is_not_found() {
    let stage = Stage::with(Kind::Noweb, |options| {
        options.set("engine.waha.timeout", "8s")
    })
    .await;
    let refused = stage.refusal("nosuch", "ListGroups", json!({})).await;
    assert_eq!(refused, "SESSION_NOT_FOUND");
    stage.waha().set(Quirks {
        core: true,
        ..Quirks::default()
    });
    let refused = stage.refusal("nosuch", "ListGroups", json!({})).await;
    assert_eq!(refused, "SESSION_NOT_FOUND");
}

/// After a pause the commands of its kind go on with the first answer, whatever that says.
#[tokio::test]
async fn a_pause_ends_with_an_answer_that_asks_for_none() {
    let stage = Stage::with(Kind::Noweb, |options| {
        options
            .set("safety.pause_min", "1h")
            .set("safety.pause_max", "1h")
            .set("retry.within", "0s")
    })
    .await;
    let id = stage.group("Paused", &[ONE]).await;
    let patience =
        json!({"exception": {"message": "rate-overlimit", "data": {"code": 429, "backoff": 1}}});
    let patience = Fault::Answer(500, patience.to_string());
    stage.waha().fail("PUT subject", patience);
    let broken = Fault::Answer(503, "{}".to_owned());
    stage.waha().fail("PUT subject", broken);
    let payload = json!({"groupId": id, "subject": "Patient"});
    assert_eq!(
        stage.result("default", "SetGroupSubject", payload).await,
        true
    );
    assert_eq!(stage.waha().faults_left(), 0);
}
