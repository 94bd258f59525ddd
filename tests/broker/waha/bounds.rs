//! Effects that may have happened: one `CreateGroup` makes one group, or two at the very most, and what
//! nobody can tell is said to be in doubt.

use std::time::Duration;

use groupmq_test_support::producer::Command;
use groupmq_test_support::waha::{Fault, Quirks, Waha};
use serde_json::{Value, json};

use crate::behaviour::stage::{Kind, Stage, outcomes};

const ONE: &str = "491700000001@c.us";
const REFUSED: &str = "99900000000403@c.us";

async fn soon_settled(kind: Kind) -> Stage {
    Stage::with(kind, |options| options.set("engine.waha.settle", "1s")).await
}

fn creations(waha: &Waha) -> usize {
    let asked = waha.asked();
    let creations = asked
        .iter()
        .filter(|it| it.method == "POST" && it.path.ends_with("/groups"));
    creations.count()
}

async fn in_doubt(stage: &Stage, name: &str) -> Value {
    let payload = json!({"name": name, "participants": [ONE]});
    let reply = stage.ask("default", "CreateGroup", payload).await;
    assert_eq!(reply["error"]["code"], "IN_DOUBT", "{reply}");
    let dead = stage.scene.producer.dead_letters().await.unwrap();
    assert_eq!(dead.len(), 1, "it is kept");
    reply
}

#[tokio::test]
async fn a_creation_that_fails_for_unknown_reasons_is_sent_twice_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let store = groupmq_test_support::worker::store_in(folder.path());
    let mut stage = Stage::with(Kind::Webjs, |options| {
        options
            .set("engine.waha.settle", "1s")
            .set("store.url", store)
    })
    .await;
    let fault = Fault::UnknownErrorOnCreate { made: false };
    stage.waha().fail_always("POST groups", fault);
    let reply = in_doubt(&stage, "Unknown").await;
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("An unknown error occupied"), "{message}");
    assert_eq!(creations(stage.waha()), 2);
    // Nor does it begin anew when it comes again, to a worker that knows nothing of it.
    stage.scene.worker.stop().await.unwrap();
    stage.scene.worker = groupmq_test_support::worker::Worker::start(&stage.scene.options)
        .await
        .unwrap();
    let payload = json!({"name": "Unknown", "participants": [ONE]});
    let again = Command::new("CreateGroup-0", "CreateGroup", "default", &payload);
    stage.scene.producer.send(again).await.unwrap();
    let dead = stage.scene.producer.dead_letters_of(1).await.unwrap();
    assert_eq!(dead[0].headers["groupmq-fault-code"], "IN_DOUBT");
    assert_eq!(creations(stage.waha()), 2);
}

#[tokio::test]
async fn a_group_that_the_list_cannot_show_is_not_made_again() {
    // The list is empty though groups are known; and it lacks one group.
    for lacks in ["all", "one"] {
        let stage = soon_settled(Kind::Webjs).await;
        let known = stage.group("Known", &[ONE]).await;
        stage.events("default", &known, 2).await;
        let fault = Fault::UnknownErrorOnCreate { made: true };
        stage.waha().fail("POST groups", fault);
        if lacks == "all" {
            stage.waha().set(Quirks {
                no_groups: true,
                ..Quirks::default()
            });
        } else {
            let fault = Fault::Answer(500, "{\"exception\":{\"message\":\"r\"}}".to_owned());
            stage.waha().fail_always("GET groups", fault);
        }
        let reply = in_doubt(&stage, "Hidden").await;
        assert_eq!(creations(stage.waha()), 2, "{lacks}: {reply}");
        assert_eq!(stage.waha().groups().len(), 2, "{lacks}: {reply}");
    }
}

#[tokio::test]
async fn an_answer_that_came_too_late_and_a_number_with_two_forms_make_one_group() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::with(kind, |options| {
            options
                .set("engine.waha.timeout", "400ms")
                .set("engine.waha.settle", "1s")
        })
        .await;
        stage.waha().own_form("5511987654321", "551187654321");
        let late = Fault::DoneAnsweredLate(Duration::from_secs(1));
        stage.waha().fail("POST groups", late);
        let payload = json!({"name": "Late", "participants": ["5511987654321@c.us"]});
        let made = stage.result("default", "CreateGroup", payload).await;
        assert_eq!(
            outcomes(&made["outcomes"]),
            ["5511987654321 ok 200"],
            "{kind:?}"
        );
        assert_eq!(stage.waha().groups().len(), 1, "{kind:?}");
        assert_eq!(creations(stage.waha()), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn two_creations_of_one_name_that_nobody_saw_the_end_of_find_a_group_each() {
    for kind in [Kind::Webjs, Kind::Gows] {
        let stage = soon_settled(kind).await;
        let silence = Fault::DoneInSilence(Duration::from_millis(50));
        stage.waha().fail("POST groups", silence.clone());
        stage.waha().fail("POST groups", silence);
        let payload = || json!({"name": "Twins", "participants": [ONE]});
        let (one, other) = tokio::join!(
            stage.result("default", "CreateGroup", payload()),
            stage.result("default", "CreateGroup", payload()),
        );
        let groups = stage.waha().groups();
        assert_eq!(groups.len(), 2, "{kind:?}");
        let mut told = [one["id"].as_str().unwrap(), other["id"].as_str().unwrap()];
        told.sort_unstable();
        let mut there: Vec<_> = groups.iter().map(|group| group.id.as_str()).collect();
        there.sort_unstable();
        assert_eq!(told[..], there, "{kind:?}");
    }
}

#[tokio::test]
async fn who_was_refused_is_not_told_as_added_because_baileys_lists_them() {
    for (store, store_waits) in [(false, false), (true, false), (true, true)] {
        let stage = Stage::new(Kind::Noweb).await;
        stage.waha().set(Quirks {
            store,
            store_waits,
            ..Quirks::default()
        });
        let payload = json!({"name": "Refused", "participants": [ONE, REFUSED]});
        let made = stage.result("default", "CreateGroup", payload).await;
        let told = outcomes(&made["outcomes"]);
        assert_eq!(
            told,
            ["01 ok 200", "99900000000403 unknown 400"],
            "{store} {store_waits}"
        );
        let people = made["participants"].as_array().unwrap();
        assert!(people.iter().all(|it| it["id"] != REFUSED), "{made}");
    }
}

#[tokio::test]
async fn a_view_from_before_the_change_does_not_deny_what_waha_has_confirmed() {
    for (deaf, promise) in [(false, "01 ok 200"), (true, "01 unknown 400")] {
        let stage = Stage::new(Kind::Webjs).await;
        let id = stage.group("Stale", &[ONE]).await;
        stage.waha().set(Quirks {
            deaf,
            ..Quirks::default()
        });
        stage.waha().freeze(&id);
        let named = json!({"groupId": id, "participants": [ONE]});
        let told = stage.result("default", "RemoveParticipants", named).await;
        assert_eq!(outcomes(&told), [promise]);
        assert_eq!(stage.waha().group(&id).unwrap().members.len(), 1);
    }
}
