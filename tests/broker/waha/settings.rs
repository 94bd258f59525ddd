//! The settings of a group on WAHA: what others change, what a server lacks, and what it answers oddly.

use std::time::{Duration, Instant};

use groupmq::contract::CommandType;
use groupmq_test_support::waha::{ByHand, Fault, Quirks};
use groupmq_test_support::worker::store_in;
use serde_json::{Value, json};

use crate::behaviour::stage::{Kind, Stage};
use crate::cli::run;
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";

fn path(id: &str, setting: &str) -> String {
    let id = id.replace('@', "%40");
    format!("{id}/settings/security/{setting}")
}

#[tokio::test]
async fn a_setting_that_somebody_else_changes_is_published_once() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::with(kind, |options| {
            options.set("engine.waha.reconcile.interval", "1s")
        })
        .await;
        let id = stage.group("Open", &[ONE]).await;
        let mut count = stage.events("default", &id, 2).await.len();
        let mut then = async |hand: &dyn Fn(&mut ByHand<'_>), wanted: &str, is_compared: bool| {
            stage.waha().by_hand(&id, |group| hand(group));
            let events = stage.events("default", &id, count + 1).await;
            let reconciled = if is_compared { " reconciled" } else { "" };
            let wanted = format!("group.v2.update {wanted}{reconciled}");
            assert_eq!(events[count..], [wanted], "{kind:?}");
            count = events.len();
        };
        let on = "messagesAdminOnly=true";
        then(&|group| group.announce(true), on, false).await;
        let on = "newMembersApprovalRequired=true";
        then(&|group| group.approval(true), on, false).await;
        // GOWS posts nothing of these; a comparison finds them.
        let off = "membersCanAddNewMember=false";
        then(&|group| group.members_add(false), off, kind == Kind::Gows).await;
        let after = "disappearingSeconds=86400";
        if kind == Kind::Noweb {
            // It does not show that messages stay, so that they disappear is no change of what was known.
            stage
                .waha()
                .by_hand(&id, |group| group.disappearing(86_400));
        } else {
            then(&|group| group.disappearing(86_400), after, true).await;
        }
        if kind == Kind::Gows {
            let off = "membersCanShareHistory=false";
            then(&|group| group.members_share(false), off, true).await;
        }
        let group = stage.result("default", "GetGroup", json!({ "groupId": id }));
        let settings = group.await["settings"].clone();
        assert_eq!(settings["messagesAdminOnly"], true, "{kind:?}");
        assert_eq!(settings["disappearingSeconds"], 86_400, "{kind:?}");
        stage.assert_valid();
    }
}

#[tokio::test]
async fn a_setting_has_one_event_with_its_command_also_if_wahas_comes_first() {
    for kind in [Kind::Webjs, Kind::Noweb] {
        let stage = Stage::new(kind).await;
        let id = stage.group("Open", &[ONE]).await;
        let put = format!("PUT {}", path(&id, "member-add-mode"));
        let late = Fault::DoneAnsweredLate(Duration::from_secs(1));
        stage.waha().fail(&put, late);
        let payload = json!({"groupId": id, "membersCanAddNewMember": false});
        assert_eq!(
            stage.result("default", "SetMemberAddMode", payload).await,
            true
        );
        // The next event follows, so no other one came between.
        let payload = json!({"groupId": id, "subject": "Next"});
        stage.result("default", "SetGroupSubject", payload).await;
        let events = stage.events("default", &id, 4).await;
        assert_eq!(
            events[2..],
            [
                "group.v2.update membersCanAddNewMember=false by SetMemberAddMode",
                r#"group.v2.update subject="Next" by SetGroupSubject"#,
            ],
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn what_an_engine_lacks_is_refused_by_name_and_nothing_is_published() {
    let stage = Stage::new(Kind::Webjs).await;
    let id = stage.group("Lacking", &[ONE]).await;
    let history = path(&id, "member-share-history-mode");
    let not_implemented = json!({
        "message": "The method is not implemented by 'WPP' engine.", "error": "Not Implemented",
        "statusCode": 501,
    });
    let lacks = Fault::Answer(501, not_implemented.to_string());
    stage.waha().fail(&format!("PUT {history}"), lacks.clone());
    stage.waha().fail(&format!("GET {history}"), lacks);
    let payload = json!({"groupId": id, "membersCanShareHistory": false});
    for (name, payload) in [
        ("SetMemberShareHistory", payload),
        ("GetMemberShareHistory", json!({ "groupId": id })),
    ] {
        let reply = stage.ask("default", name, payload).await;
        assert_eq!(reply["error"]["code"], "NOT_SUPPORTED", "{reply}");
        let message = reply["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("2026.9") && message.contains("WPP"),
            "{message}"
        );
    }
    let payload = json!({"groupId": id, "subject": "Next"});
    stage.result("default", "SetGroupSubject", payload).await;
    let events = stage.events("default", &id, 3).await;
    assert_eq!(
        events[2..],
        [r#"group.v2.update subject="Next" by SetGroupSubject"#]
    );
}

#[tokio::test]
async fn a_refresh_asks_waha_once_and_passes_on_its_answer() {
    let stage = Stage::new(Kind::Noweb).await;
    let refreshes = || {
        let asked = stage.waha().asked();
        asked
            .iter()
            .filter(|it| it.path.ends_with("/groups/refresh"))
            .count()
    };
    let before = refreshes();
    let ask = || stage.result("default", "RefreshGroups", json!({}));
    assert_eq!(ask().await, true);
    assert_eq!(refreshes(), before + 1);
    // Each of these is an answer of some version.
    for (body, done) in [("true", true), ("", true), (r#"{"success":false}"#, false)] {
        let answer = Fault::Answer(200, body.to_owned());
        stage.waha().fail("POST /groups/refresh", answer);
        assert_eq!(ask().await, done, "{body}");
    }
}

#[tokio::test]
async fn the_count_is_that_of_the_list_and_not_of_groups_that_were_left() {
    // NOWEB's store goes on listing a group that the account was removed from (`noweb-store-lid`).
    let stage = Stage::stored(true).await;
    let kept = stage.group("Kept", &[ONE]).await;
    let theirs = stage
        .waha()
        .created_by_hand("491700000009", "Theirs", &["15550000001"]);
    stage.events("default", &theirs, 2).await;
    // NOWEB's store may have the group later than its event comes.
    let until = async |count: usize| {
        let begun = Instant::now();
        loop {
            let answer = stage.result("default", "CountGroups", json!({})).await;
            if answer == json!({ "count": count }) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{answer}");
        }
    };
    until(2).await;
    stage
        .waha()
        .by_hand(&theirs, |group| group.remove(&["15550000001"]));
    stage.events("default", &theirs, 4).await;
    let listed = stage.result("default", "ListGroups", json!({})).await;
    assert_eq!(listed[0]["id"], kept);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    until(1).await;
}

#[tokio::test]
async fn doctor_names_the_commands_that_the_server_cannot_execute() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let stage = Stage::with(Kind::Gows, |options| options.set("store.url", store)).await;
    let doctor = async || {
        let text = run(&stage.scene.options, &["doctor"]).await;
        assert_eq!(text.code, 0, "{text:?}");
        let json = run(&stage.scene.options, &["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&json.out).unwrap();
        let checks = report["checks"].as_array().unwrap().iter();
        let mut found = checks.filter(|check| check["name"] == "supports");
        (text.out, found.next().cloned().unwrap())
    };
    let (text, check) = doctor().await;
    let all = CommandType::ALL.len();
    let line = format!(
        "WAHA 2026.9.1 with GOWS (default): {} of {all} commands, not SetDisappearingMessages",
        all - 1
    );
    assert!(text.contains(&line), "{text}");
    let commands = check["commands"].as_array().unwrap();
    assert_eq!(commands.len(), all);
    let of = |commands: &[Value], name: &str| {
        let found = commands.iter().find(|it| it["command"] == name);
        found.unwrap().clone()
    };
    assert_eq!(of(commands, "SetMemberAddMode")["supported"], true);

    stage.waha().set(Quirks::default());
    let (text, check) = doctor().await;
    for words in ["WAHA 2026.2.1 with GOWS (default): ", "GetMemberAddMode, "] {
        assert!(text.contains(words), "{text}");
    }
    let older = of(check["commands"].as_array().unwrap(), "SetMemberAddMode");
    assert_eq!(older["supported"], false);
    let reason = older["reason"].as_str().unwrap();
    assert!(reason.contains("since 2026.7.2"), "{reason}");

    // A server that does not describe itself is not unhealthy.
    let nothing = Fault::Answer(404, json!({"statusCode": 404}).to_string());
    stage.waha().fail_always("GET /api/server/version", nothing);
    let (text, check) = doctor().await;
    assert!(text.contains("supports     unknown: "), "{text}");
    assert!(check.get("commands").is_none(), "{check}");
}
