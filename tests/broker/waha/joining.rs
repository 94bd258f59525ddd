//! Joining by the link when something comes between: no answer, a worker that is killed, somebody else.

use std::time::Duration;

use groupmq_test_support::producer::Command;
use groupmq_test_support::waha::{Fault, Quirks, Waha};
use groupmq_test_support::worker::Worker;
use serde_json::{Value, json};

use crate::behaviour::stage::{Kind, Stage};
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";
const KINDS: [Kind; 3] = [Kind::Webjs, Kind::Noweb, Kind::Gows];

/// A group of `default`, and its link.
async fn linked(stage: &Stage) -> (String, String) {
    let id = stage.group("Linked", &[ONE]).await;
    let code = stage.waha().group(&id).unwrap().invite;
    (id, format!("https://chat.whatsapp.com/{code}"))
}

async fn join(stage: &Stage, link: &str) -> Value {
    let payload = json!({ "code": link });
    stage.result("second", "JoinGroup", payload).await["outcome"].clone()
}

/// WAHA's posts come in any order, so this one is waited for.
async fn requires_approval(stage: &Stage, id: &str) {
    stage.waha().by_hand(id, |group| group.approval(true));
    stage.events("default", id, 3).await;
}

fn joins(waha: &Waha) -> usize {
    let asked = waha.asked();
    let joins = asked.iter().filter(|it| it.path.ends_with("/groups/join"));
    joins.count()
}

#[tokio::test]
async fn a_join_without_an_answer_is_ok_and_not_a_membership_from_before() {
    for kind in KINDS {
        let stage = Stage::new(kind).await;
        let (id, link) = linked(&stage).await;
        stage
            .waha()
            .fail("POST join", Fault::DoneInSilence(Duration::ZERO));
        assert_eq!(join(&stage, &link).await, "ok", "{kind:?}");
        assert!(joins(stage.waha()) >= 2, "{kind:?}");
        let wanted = [
            "group.v2.join by JoinGroup",
            "group.join invite 15550000002 by JoinGroup",
        ];
        let seen = stage.events("second", &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?}");
        // The next command is another one.
        assert_eq!(join(&stage, &link).await, "alreadyMember", "{kind:?}");
        stage.assert_valid();
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_between_the_join_and_its_answer_is_followed_by_the_right_answer() {
    for kind in KINDS {
        let mut stage = Stage::new(kind).await;
        let (id, link) = linked(&stage).await;
        let fault = Fault::DoneAnsweredLate(Duration::from_mins(1));
        stage.waha().fail("POST join", fault);
        let command = Command::new("join-1", "JoinGroup", "second", &json!({ "code": link }));
        stage.scene.producer.send_all(vec![command]).await.unwrap();
        // Its event may come before the kill, and may not.
        while joins(stage.waha()) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.scene.worker.kill().unwrap();
        stage.scene.worker = Worker::start(&stage.scene.options).await.unwrap();
        crate::behaviour::stage::hook(stage.waha(), &stage.scene);
        // With the reply to the group's creation.
        stage.scene.producer.answered(2, PATIENCE).await.unwrap();
        let reply = stage.scene.producer.seen().answer_to("join-1");
        assert_eq!(reply["result"]["outcome"], "ok", "{kind:?} {reply}");
        assert_eq!(reply["result"]["groupId"], id, "{kind:?}");
        let members = stage.waha().group(&id).unwrap().members;
        let times = members.iter().filter(|(it, _)| it == "15550000002");
        assert_eq!(times.count(), 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_pending_join_stays_pending_without_an_answer_and_the_approval_is_another_event() {
    for kind in KINDS {
        let stage = Stage::new(kind).await;
        let (id, link) = linked(&stage).await;
        requires_approval(&stage, &id).await;
        stage
            .waha()
            .fail("POST join", Fault::DoneInSilence(Duration::ZERO));
        assert_eq!(join(&stage, &link).await, "pendingApproval", "{kind:?}");
        // An admin decides on the phone, later: that is no effect of the command.
        stage
            .waha()
            .by_hand(&id, |group| group.decides("15550000002", true));
        let wanted = ["group.v2.join", "group.join add 15550000002"];
        let seen = stage.events("second", &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?}");
        let request = "group.v2.participants.join-request";
        let wanted = [
            format!("{request} created 15550000002"),
            format!("{request} approved 15550000002"),
            "group.join add 15550000002".to_owned(),
            "group.v2.participants join 15550000002:participant".to_owned(),
        ];
        let seen = stage.events("default", &id, 7).await;
        assert_eq!(seen[3..], wanted, "{kind:?}");
        stage.assert_valid();
    }
}

#[tokio::test]
async fn requests_that_others_make_and_give_up_are_told() {
    for kind in [Kind::Noweb, Kind::Gows] {
        let stage = Stage::new(kind).await;
        let (id, _) = linked(&stage).await;
        requires_approval(&stage, &id).await;
        stage
            .waha()
            .by_hand(&id, |group| group.asks("491700000009"));
        stage.events("default", &id, 4).await;
        stage
            .waha()
            .by_hand(&id, |group| group.gives_up("491700000009"));
        let request = "group.v2.participants.join-request";
        let wanted = [
            format!("{request} created 09"),
            format!("{request} revoked 09"),
        ];
        let seen = stage.events("default", &id, 5).await;
        assert_eq!(seen[3..], wanted, "{kind:?}");
    }
}

#[tokio::test]
async fn a_group_that_is_full_or_locked_is_said_to_be() {
    for kind in KINDS {
        let stage = Stage::new(kind).await;
        let (id, link) = linked(&stage).await;
        for code in [419, 423] {
            stage.waha().fail("POST join", Fault::WhatsApp(code));
            let reply = stage
                .ask("second", "JoinGroup", json!({ "code": link }))
                .await;
            let error = &reply["error"];
            assert_eq!(error["code"], "ENGINE_REJECTED", "{kind:?} {reply}");
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&format!("({code})")), "{message}");
        }
        // Nothing of it is attributed to a later join by somebody else's hand.
        stage
            .waha()
            .by_hand(&id, |group| group.add(&["15550000002"]));
        let wanted = ["group.v2.join", "group.join add 15550000002"];
        let seen = stage.events("second", &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?}");
    }
}

#[tokio::test]
async fn the_socket_of_an_older_waha_is_joined_without_the_event_that_it_does_not_know() {
    for recent in [true, false] {
        let quirks = Quirks {
            recent,
            ..Quirks::default()
        };
        let stage = Stage::set_up(Kind::Noweb, quirks, |options| {
            options
                .set("engine.waha.socket", "true")
                .set("engine.waha.intake.enabled", "false")
                .set("engine.waha.reconcile.interval", "1h")
        })
        .await;
        let (id, _) = linked(&stage).await;
        stage.events("default", &id, 2).await;
        stage.waha().by_hand(&id, |group| {
            group.approval(true);
            group.asks("491700000009");
            group.promote("491700000001");
        });
        let count = if recent { 5 } else { 4 };
        let seen = stage.events("default", &id, count).await;
        let told = |what: &str| seen.iter().any(|it| it.contains(what));
        assert!(told("promote 01:admin"), "{seen:?}");
        assert_eq!(told("join-request created 09"), recent, "{seen:?}");
    }
}

#[tokio::test]
async fn a_worker_that_knows_a_waha_to_be_older_asks_again_once_it_has_been_updated() {
    let older = Quirks::default();
    let stage = Stage::set_up(Kind::Noweb, older, |options| {
        options
            .set("engine.waha.socket", "true")
            .set("engine.waha.intake.enabled", "false")
            .set("engine.waha.reconcile.interval", "1h")
    })
    .await;
    let (id, _) = linked(&stage).await;
    stage.events("default", &id, 2).await;
    let logged = |what: &str| stage.scene.worker.log().matches(what).count();
    let connected = || logged("connected to WAHA's WebSocket");
    for times in 1..=3 {
        until(|| connected() == times).await;
        // The refusal is no connection, and is not asked for again.
        assert_eq!(logged("does not know an event"), 1, "{times}");
        stage.waha().stop().await;
        if times == 3 {
            stage.waha().set(Quirks {
                recent: true,
                ..older
            });
        }
        stage.waha().resume().await.unwrap();
    }
    until(|| connected() == 4).await;
    stage.waha().by_hand(&id, |group| {
        group.approval(true);
        group.asks("491700000009");
    });
    let seen = stage.events("default", &id, 4).await;
    let request = "group.v2.participants.join-request created 09";
    assert!(seen.iter().any(|it| it == request), "{seen:?}");
    assert_eq!(logged("does not know an event"), 1);
}

async fn until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The group cannot be read after the join, and the command ends with an error.
#[tokio::test]
async fn a_join_that_ends_with_an_error_is_not_the_source_of_a_later_one() {
    for kind in KINDS {
        let stage = Stage::new(kind).await;
        let (id, link) = linked(&stage).await;
        requires_approval(&stage, &id).await;
        let read = format!("GET /second/groups/{}", id.replace('@', "%40"));
        stage.waha().fail(&read, Fault::WhatsApp(403));
        let invalid = json!({"statusCode": 400, "message": "the id is wrong"}).to_string();
        stage.waha().fail(&read, Fault::Answer(400, invalid));
        let reply = stage
            .ask("second", "JoinGroup", json!({ "code": link }))
            .await;
        assert_eq!(
            reply["error"]["code"], "ENGINE_REJECTED",
            "{kind:?} {reply}"
        );
        assert_eq!(stage.waha().faults_left(), 0, "{kind:?}");
        stage
            .waha()
            .by_hand(&id, |group| group.decides("15550000002", true));
        let wanted = ["group.v2.join", "group.join add 15550000002"];
        let seen = stage.events("second", &id, wanted.len()).await;
        assert_eq!(seen, wanted, "{kind:?}");
    }
}

/// How often WAHA was asked who waits.
fn lists_of_requests(waha: &Waha) -> usize {
    let asked = waha.asked();
    let lists = asked
        .iter()
        .filter(|it| it.method == "GET" && it.path.ends_with("/join-requests"));
    lists.count()
}

#[tokio::test]
async fn a_decision_whose_answer_names_nobody_is_looked_up_once_for_all() {
    for kind in KINDS {
        for (name, path, lists) in [
            ("RejectJoinRequests", "reject", 2),
            ("ApproveJoinRequests", "approve", 1),
        ] {
            let stage = Stage::new(kind).await;
            let (id, _) = linked(&stage).await;
            requires_approval(&stage, &id).await;
            let asking = ["491700000008", "491700000009"];
            stage
                .waha()
                .by_hand(&id, |group| asking.iter().for_each(|it| group.asks(it)));
            stage.events("default", &id, 5).await;
            let decision = format!("POST /participants/join-requests/{path}");
            let nobody = Fault::DoneButSays(201, "[]".to_owned());
            stage.waha().fail(&decision, nobody);
            // The third one never asked.
            let named = ["491700000008", "491700000009", "491700000007"];
            let named = named.map(|it| format!("{it}@c.us"));
            let payload = json!({"groupId": id, "participants": named});
            let decided = stage.result("default", name, payload).await;
            let codes: Vec<_> = decided.as_array().unwrap().iter().collect();
            let codes: Vec<_> = codes.iter().map(|it| it["code"].clone()).collect();
            let third = if path == "reject" { 400 } else { 404 };
            assert_eq!(codes, [200, 200, third], "{kind:?} {name}");
            assert_eq!(lists_of_requests(stage.waha()), lists, "{kind:?} {name}");
            // What WAHA reports of it changes nothing, and nobody else was decided about.
            let subject = json!({"groupId": id, "subject": "Decided"});
            stage.result("default", "SetGroupSubject", subject).await;
            let count = if path == "reject" { 8 } else { 10 };
            let seen = stage.events("default", &id, count).await;
            let about = |who: &str| {
                let about = seen.iter().filter(|it| it.contains("join-request"));
                about.filter(|it| it.contains(who)).count()
            };
            assert_eq!(
                (about("08"), about("09"), about("07")),
                (2, 2, 0),
                "{seen:?}"
            );
        }
    }
}
