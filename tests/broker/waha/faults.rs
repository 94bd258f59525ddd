//! What goes wrong between us and WAHA, and what the command's reply says.

use std::time::Duration;

use groupmq_test_support::waha::{Fault, Quirks};
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage, outcomes};
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";

/// Nothing is tried twice, so that each failure shows; and WAHA tells nothing by itself, so that no look
/// that follows from it meets a fault which is meant for a command.
async fn impatient(kind: Kind) -> Stage {
    let quirks = Quirks {
        deaf: true,
        ..Quirks::default()
    };
    Stage::set_up(kind, quirks, |options| {
        options
            .set("retry.attempts", "0")
            .set("retry.within", "0s")
            .set("retry.reads", "0s")
    })
    .await
}

fn text(text: &str) -> String {
    text.to_owned()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn each_failure_has_its_code() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = impatient(kind).await;
        let id = stage.group("Faulty", &[ONE]).await;
        let get = format!("GET {}", id.replace('@', "%40"));
        let it = json!({ "groupId": id });
        let named = json!({"groupId": id, "participants": [ONE]});
        let subject = json!({"groupId": id, "subject": "Another"});
        let rows = [
            (
                get.as_str(),
                Fault::Answer(500, text("oops")),
                "GetGroup",
                &it,
                "ENGINE_UNAVAILABLE",
            ),
            (
                &get,
                Fault::Answer(502, text("<html>")),
                "GetGroup",
                &it,
                "ENGINE_UNAVAILABLE",
            ),
            (
                &get,
                Fault::Answer(200, text("{\"id\":")),
                "GetGroup",
                &it,
                "ENGINE_UNAVAILABLE",
            ),
            (
                &get,
                Fault::Answer(401, text("{}")),
                "GetGroup",
                &it,
                "ENGINE_UNAVAILABLE",
            ),
            (&get, Fault::Closed, "GetGroup", &it, "ENGINE_UNAVAILABLE"),
            (&get, Fault::WhatsApp(403), "GetGroup", &it, "NOT_A_MEMBER"),
            (
                &get,
                Fault::WhatsApp(404),
                "GetGroup",
                &it,
                "GROUP_NOT_FOUND",
            ),
            (
                &get,
                Fault::WhatsApp(500),
                "GetGroup",
                &it,
                "ENGINE_UNAVAILABLE",
            ),
            (
                "POST promote",
                Fault::WhatsApp(403),
                "PromoteAdmin",
                &named,
                "NOT_ALLOWED",
            ),
            (
                "POST promote",
                Fault::WhatsApp(400),
                "PromoteAdmin",
                &named,
                "ENGINE_REJECTED",
            ),
            (
                "POST promote",
                Fault::Closed,
                "PromoteAdmin",
                &named,
                "IN_DOUBT",
            ),
            (
                "POST promote",
                Fault::Answer(500, text("{}")),
                "PromoteAdmin",
                &named,
                "IN_DOUBT",
            ),
            (
                "POST promote",
                Fault::Answer(503, text("")),
                "PromoteAdmin",
                &named,
                "ENGINE_UNAVAILABLE",
            ),
            (
                "PUT subject",
                Fault::Answer(400, text("{\"message\":[\"too long\"]}")),
                "SetGroupSubject",
                &subject,
                "ENGINE_REJECTED",
            ),
            (
                "PUT subject",
                Fault::Answer(
                    422,
                    text("{\"message\":\"The method is not implemented by the engine.\"}"),
                ),
                "SetGroupSubject",
                &subject,
                "NOT_SUPPORTED",
            ),
            (
                "PUT subject",
                Fault::WhatsApp(406),
                "SetGroupSubject",
                &subject,
                "ENGINE_REJECTED",
            ),
        ];
        for (request, fault, name, payload, code) in rows {
            stage.waha().fail(request, fault.clone());
            let refused = stage.refusal("default", name, payload.clone()).await;
            assert_eq!(refused, code, "{kind:?} {request} {fault:?}");
        }
        assert_eq!(stage.waha().faults_left(), 0);
    }
}

#[tokio::test]
async fn a_change_whose_end_nobody_saw_is_done_again_where_that_is_harmless() {
    let stage = Stage::new(Kind::Gows).await;
    let id = stage.group("Again", &[ONE]).await;
    let silence = Fault::DoneInSilence(Duration::from_millis(50));
    stage.waha().fail("POST promote", silence);
    let named = json!({"groupId": id, "participants": [ONE]});
    let promoted = stage.result("default", "PromoteAdmin", named).await;
    // The second time finds what the first has done.
    assert_eq!(outcomes(&promoted), ["01 alreadyAdmin 200"]);
}

#[tokio::test]
async fn a_group_whose_creation_nobody_saw_the_end_of_is_found_and_not_made_again() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::new(kind).await;
        let faults = [
            Fault::DoneInSilence(Duration::from_millis(100)),
            Fault::DoneInSilence(Duration::from_millis(1_500)),
            Fault::DoneButSays(500, text("Internal Server Error")),
            Fault::DoneButSays(504, text("<html>Gateway Time-out</html>")),
            Fault::DoneButSays(201, text("{\"gid\":")),
            Fault::DoneButSays(
                201,
                text("CreateGroupError: An unknown error occupied while creating a group"),
            ),
            Fault::DoneButSays(
                201,
                text("{\"error\":\"CreateGroupError: An unknown error\"}"),
            ),
        ];
        for (n, fault) in faults.into_iter().enumerate() {
            let name = format!("Unseen {n}");
            stage.waha().fail("POST groups", fault.clone());
            let payload = json!({"name": name, "participants": [ONE]});
            let made = stage.result("default", "CreateGroup", payload).await;
            assert_eq!(
                outcomes(&made["outcomes"]),
                ["01 ok 200"],
                "{kind:?} {fault:?}"
            );
            let groups = stage.waha().groups();
            let same: Vec<_> = groups.iter().filter(|it| it.subject == name).collect();
            assert_eq!(same.len(), 1, "{kind:?} {fault:?}");
            assert_eq!(made["id"], same[0].id);
            let events = stage.events("default", &same[0].id, 2).await;
            // A look may have shown it before the search did.
            assert_eq!(
                events[0].replace(" reconciled", ""),
                "group.v2.join by CreateGroup",
                "{kind:?} {fault:?}"
            );
        }
        assert_eq!(stage.waha().faults_left(), 0);
    }
}

#[tokio::test]
async fn a_creation_that_did_nothing_is_repeated_once_that_is_certain() {
    let stage = Stage::new(Kind::Noweb).await;
    stage.waha().fail("POST groups", Fault::Closed);
    let id = stage.group("Second try", &[ONE]).await;
    let groups = stage.waha().groups();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].id, id);
    let asked = stage.waha().asked();
    let creations = asked
        .iter()
        .filter(|it| it.method == "POST" && it.path.ends_with("/groups"));
    assert_eq!(creations.count(), 2);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_no_answer() {
    let stage = Stage::with(Kind::Gows, |options| {
        options.set("engine.waha.timeout", "400ms")
    })
    .await;
    let slow = Fault::DoneInSilence(Duration::from_secs(1));
    stage.waha().fail("POST groups", slow);
    stage.group("Slow", &[ONE]).await;
    assert_eq!(stage.waha().groups().len(), 1);
}

#[tokio::test]
async fn commands_wait_for_a_server_that_is_away() {
    let stage = Stage::new(Kind::Gows).await;
    stage.waha().stop().await;
    let command = groupmq_test_support::producer::Command::new(
        "waiting-1",
        "CreateGroup",
        "default",
        &json!({"name": "Patient", "participants": [ONE]}),
    );
    stage.scene.producer.send(command).await.unwrap();
    until_readiness(&stage, 503, "WAHA server default was not reached").await;
    stage.waha().resume().await.unwrap();
    let reply = stage.scene.producer.reply("waiting-1").await.unwrap();
    assert_eq!(reply["status"], "ok", "{reply}");
    assert_eq!(stage.waha().groups().len(), 1);
    until_readiness(&stage, 200, "\"ready\":true").await;
}

async fn until_readiness(stage: &Stage, status: u16, words: &str) {
    let begun = std::time::Instant::now();
    loop {
        let answer = stage.scene.worker.get("/readyz").await.unwrap();
        if answer.0 == status && answer.1.contains(words) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn patience_and_restrictions_are_kept() {
    let stage = Stage::with(Kind::Noweb, |options| {
        options
            .set("safety.pause_min", "300ms")
            .set("retry.within", "0s")
    })
    .await;
    let id = stage.group("Patient", &[ONE]).await;
    for (n, fault) in [
        Fault::Answer(429, text("{}")),
        Fault::WhatsApp(429),
        Fault::WhatsApp(463),
    ]
    .into_iter()
    .enumerate()
    {
        stage.waha().fail("PUT subject", fault);
        let payload = json!({"groupId": id, "subject": format!("Patience {n}")});
        assert_eq!(
            stage.result("default", "SetGroupSubject", payload).await,
            true
        );
    }
    assert_eq!(stage.waha().faults_left(), 0);
    let patience = super::metric(&stage.scene.worker, "groupmq_account_patience_total").await;
    let restrictions =
        super::metric(&stage.scene.worker, "groupmq_account_restrictions_total").await;
    assert_eq!((patience, restrictions), (2, 1));
}

#[tokio::test]
async fn what_whatsapp_web_refused_in_silence_is_not_known() {
    let stage = Stage::new(Kind::Webjs).await;
    let id = stage.group("Silent", &[ONE]).await;
    stage.waha().set(Quirks {
        silent_refusals: true,
        ..Quirks::default()
    });
    let named = json!({"groupId": id, "participants": [ONE]});
    for name in ["PromoteAdmin", "RemoveParticipants"] {
        let told = stage.result("default", name, named.clone()).await;
        // It said yes, and what a view shows may be the time before.
        assert_eq!(outcomes(&told), ["01 unknown 400"], "{name}");
    }
}

#[tokio::test]
async fn one_number_that_is_wrong_does_not_fail_the_others() {
    let stage = Stage::new(Kind::Gows).await;
    let id = stage.group("Mixed", &[]).await;
    let named = json!({"groupId": id, "participants": [ONE, "00012345@c.us", "491700000002@c.us"]});
    let told = stage.result("default", "AddParticipants", named).await;
    assert_eq!(
        outcomes(&told),
        ["01 ok 200", "00012345 unknown 400", "02 ok 200"]
    );
}

#[tokio::test]
async fn all_requests_of_a_command_are_one_trace() {
    let stage = Stage::new(Kind::Gows).await;
    let id = stage.group("Traced", &[ONE]).await;
    let before = stage.waha().asked().len();
    let named = json!({"groupId": id, "participants": [ONE]});
    stage.result("default", "PromoteAdmin", named).await;
    let asked = stage.waha().asked().split_off(before);
    let own: Vec<_> = asked
        .iter()
        .filter(|it| it.path.contains("/groups/"))
        .collect();
    assert!(own.len() >= 2, "{asked:?}");
    let trace = |it: &str| it.split('-').nth(1).unwrap_or_default().to_owned();
    let first = trace(&own[0].trace);
    assert_eq!(first.len(), 32, "{own:?}");
    assert!(own.iter().all(|it| trace(&it.trace) == first), "{own:?}");
}
