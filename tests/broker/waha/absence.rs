//! Views that are not whole, or not of today: what WAHA does not show is not gone, and what has changed is
//! published all the same.

use std::time::{Duration, Instant};

use groupmq_test_support::waha::{Fault, Quirks};
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage};
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";
const THREE: &str = "491700000003@c.us";
const ME: &str = "15550000001";
const ENGINES: [Kind; 3] = [Kind::Webjs, Kind::Noweb, Kind::Gows];

/// With looks at all groups every second, which may show what was so `lag` before.
async fn watched(kind: Kind, quirks: Quirks, lag: &str) -> Stage {
    Stage::set_up(kind, quirks, |options| {
        options
            .set("engine.waha.reconcile.interval", "1s")
            .set("engine.waha.reconcile.lag", lag)
    })
    .await
}

/// Waits until so many looks at all groups have been taken in that were begun after this.
pub(super) async fn looks(stage: &Stage, count: usize) {
    let lists = || {
        let asked = stage.waha().asked();
        let lists = asked.iter().filter(|it| it.method == "GET");
        lists
            .filter(|it| it.path.ends_with("/default/groups"))
            .count()
    };
    // The one that is under way now, and the one that follows the last.
    let enough = lists() + count + 1;
    let begun = Instant::now();
    while lists() < enough {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.scene.worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All events of a group, once there are as many as these: these and no others, whoever told first.
async fn assert_events(stage: &Stage, id: &str, wanted: &[&str]) {
    let events = stage.events("default", id, wanted.len()).await;
    let events = events.iter().map(|it| it.replace(" reconciled", ""));
    let events: Vec<_> = events.collect();
    assert_eq!(events, wanted, "{:?}", stage.kind);
}

/// The events of a group that `CreateGroup` has made, in short.
async fn made(stage: &Stage, name: &str, people: &[&str]) -> (String, Vec<String>) {
    let id = stage.group(name, people).await;
    let events = stage.events("default", &id, 2).await;
    let events = events.iter().map(|it| it.replace(" reconciled", ""));
    (id, events.collect())
}

fn strs(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

fn deaf(stage: &Stage, quirks: Quirks) {
    stage.waha().set(Quirks {
        deaf: true,
        ..quirks
    });
}

/// Waits until so many looks have been in doubt for a reason. A look soon after a command proves nothing
/// either way, so not each of them is.
async fn doubted(stage: &Stage, reason: &str, times: u64) {
    let series = format!("groupmq_waha_doubtful_looks_total{{reason=\"{reason}\"}}");
    let begun = Instant::now();
    while super::metric(&stage.scene.worker, &series).await < times {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.scene.worker.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn groups_that_are_not_shown_for_a_while_are_not_gone() {
    for kind in ENGINES {
        let stage = watched(kind, Quirks::default(), "1m").await;
        let (one, mut of_one) = made(&stage, "One", &[ONE]).await;
        let (two, mut of_two) = made(&stage, "Two", &[ONE, TWO]).await;
        stage.waha().set(Quirks {
            no_groups: true,
            ..Quirks::default()
        });
        doubted(&stage, "no-groups", 4).await;
        let log = stage.scene.worker.log();
        let warnings = log.matches("does not show most of the session's groups");
        assert_eq!(warnings.count(), 1, "{log}");
        // They are back, and what happens then is published.
        stage.waha().set(Quirks::default());
        looks(&stage, 2).await;
        for (id, events) in [(&one, &mut of_one), (&two, &mut of_two)] {
            stage.waha().by_hand(id, |group| group.subject("Theirs"));
            events.push(r#"group.v2.update subject="Theirs""#.to_owned());
            assert_events(&stage, id, &strs(events)).await;
        }
    }
}

#[tokio::test]
async fn groups_that_are_gone_all_at_once_are_told_when_several_looks_agree() {
    for kind in [Kind::Noweb, Kind::Gows] {
        let stage = watched(kind, Quirks::default(), "300ms").await;
        let mut groups = Vec::new();
        for name in ["One", "Two"] {
            groups.push(made(&stage, name, &[ONE]).await);
        }
        deaf(&stage, Quirks::default());
        for (id, _) in &groups {
            stage.waha().by_hand(id, |group| group.remove(&[ME]));
        }
        for (id, events) in &mut groups {
            let left = ["group.v2.leave", "group.left leave 15550000001"];
            events.extend(left.map(str::to_owned));
            assert_events(&stage, id, &strs(events)).await;
        }
        doubted(&stage, "no-groups", 4).await;
    }
}

/// `{"size": 6, "participants": [two of them]}`
#[tokio::test]
async fn people_whom_a_list_lacks_are_not_gone() {
    let quirks = Quirks::default();
    for kind in ENGINES {
        let stage = watched(kind, quirks, "300ms").await;
        let people: Vec<_> = (1..6).map(|n| format!("4917000000{n:02}@c.us")).collect();
        let (id, mut events) = made(&stage, "Partial", &strs(&people)).await;
        let hidden = ["02", "03", "04", "05"].map(|it| format!("4917000000{it}"));
        stage.waha().hide(&id, &strs(&hidden));
        doubted(&stage, "incomplete", 3).await;
        // What is told of somebody who is not listed, and what an incomplete list shows.
        let hand = |group: &mut groupmq_test_support::waha::ByHand<'_>| {
            group.remove(&["491700000002"]);
        };
        stage.waha().by_hand(&id, hand);
        let went = ["group.left remove 02", "group.v2.participants leave 02:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        deaf(&stage, quirks);
        stage
            .waha()
            .by_hand(&id, |group| group.promote("491700000001"));
        events.push("group.v2.participants promote 01:admin".to_owned());
        assert_events(&stage, &id, &strs(&events)).await;
        // What nobody told is found once the list is whole.
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["491700000003"]));
        looks(&stage, 2).await;
        stage.waha().views_are_whole();
        let went = ["group.left leave 03", "group.v2.participants leave 03:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
    }
}

/// NOWEB's store keeps `size` when people come and go (captured: `noweb-store-lid`).
#[tokio::test]
async fn who_comes_and_goes_untold_is_found_though_the_store_keeps_the_size() {
    for lids in [false, true] {
        let quirks = Quirks {
            store: true,
            lids,
            ..Quirks::default()
        };
        let stage = watched(Kind::Noweb, quirks, "300ms").await;
        let (id, mut events) = made(&stage, "Stored", &[ONE, TWO, THREE]).await;
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["491700000002"]));
        let went = ["group.left remove 02", "group.v2.participants leave 02:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        deaf(&stage, quirks);
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["491700000003"]));
        let went = ["group.left leave 03", "group.v2.participants leave 03:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        let people = ["491700000004", "491700000005"];
        stage.waha().by_hand(&id, |group| group.add(&people));
        let came = [
            "group.join add 04 05",
            "group.v2.participants join 04:participant 05:participant",
        ];
        events.extend(came.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
    }
}

#[tokio::test]
async fn who_is_still_shown_after_leaving_has_not_come_back() {
    for kind in ENGINES {
        let stage = watched(kind, Quirks::default(), "1s").await;
        let (id, mut events) = made(&stage, "Stale", &[ONE, TWO, THREE]).await;
        stage.waha().freeze(&id);
        stage
            .waha()
            .by_hand(&id, |group| group.leaves("491700000002"));
        let went = ["group.left leave 02", "group.v2.participants leave 02:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        looks(&stage, 4).await;
        // Somebody comes back, and is told; another is found.
        stage
            .waha()
            .by_hand(&id, |group| group.add(&["491700000002"]));
        let came = [
            "group.join add 02",
            "group.v2.participants join 02:participant",
        ];
        events.extend(came.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        stage.waha().thaw(&id);
        deaf(&stage, Quirks::default());
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["491700000003"]));
        let went = ["group.left leave 03", "group.v2.participants leave 03:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
    }
}

#[tokio::test]
async fn a_view_from_before_a_command_takes_back_nothing_that_the_command_has_done() {
    for kind in ENGINES {
        let stage = watched(kind, Quirks::default(), "1m").await;
        let (id, mut events) = made(&stage, "Before", &[ONE, THREE]).await;
        stage.waha().freeze(&id);
        let did = [
            ("AddParticipants", TWO, "group.join add 02"),
            (
                "AddParticipants",
                "",
                "group.v2.participants join 02:participant",
            ),
            (
                "PromoteAdmin",
                ONE,
                "group.v2.participants promote 01:admin",
            ),
            ("RemoveParticipants", THREE, "group.left remove 03"),
            ("RemoveParticipants", "", "group.v2.participants leave 03:"),
        ];
        for (name, who, event) in did {
            if !who.is_empty() {
                let named = json!({"groupId": id, "participants": [who]});
                let told = stage.result("default", name, named).await;
                assert_eq!(told[0]["outcome"], "ok", "{kind:?}: {told}");
            }
            events.push(format!("{event} by {name}"));
        }
        looks(&stage, 4).await;
        stage.waha().thaw(&id);
        looks(&stage, 2).await;
        stage
            .waha()
            .by_hand(&id, |group| group.demote("491700000001"));
        events.push("group.v2.participants demote 01:participant".to_owned());
        assert_events(&stage, &id, &strs(&events)).await;
    }
}

/// `"Name": "", "Participants": null, "ParticipantCount": 952`
#[tokio::test]
async fn a_group_that_is_not_loaded_disturbs_no_other_and_holds_its_lane_for_a_moment_alone() {
    let stage = watched(Kind::Gows, Quirks::default(), "300ms").await;
    let (stub, mut of_stub) = made(&stage, "Stub", &[ONE, TWO]).await;
    let (good, mut of_good) = made(&stage, "Good", &[ONE, TWO]).await;
    stage.waha().stub(&stub);
    deaf(&stage, Quirks::default());
    for id in [&stub, &good] {
        stage
            .waha()
            .by_hand(id, |group| group.add(&["491700000005"]));
    }
    let came = [
        "group.join add 05",
        "group.v2.participants join 05:participant",
    ];
    of_good.extend(came.map(str::to_owned));
    assert_events(&stage, &good, &strs(&of_good)).await;
    looks(&stage, 2).await;
    let named = json!({"groupId": stub, "participants": [TWO]});
    let reply = stage
        .ask("default", "RemoveParticipants", named.clone())
        .await;
    assert_eq!(reply["error"]["code"], "ENGINE_UNAVAILABLE", "{reply}");
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("not loaded"), "{message}");
    let rested = super::metric(&stage.scene.worker, "groupmq_commands_deferred_total").await;
    assert!(rested <= 2, "it rested {rested} times");
    // Loaded, it is compared, and its commands are done.
    stage.waha().views_are_whole();
    of_stub.extend(came.map(str::to_owned));
    assert_events(&stage, &stub, &strs(&of_stub)).await;
    let told = stage.result("default", "RemoveParticipants", named).await;
    assert_eq!(told[0]["outcome"], "ok", "{told}");
    let went = ["group.left remove 02", "group.v2.participants leave 02:"];
    of_stub.extend(went.map(|it| format!("{it} by RemoveParticipants")));
    assert_events(&stage, &stub, &strs(&of_stub)).await;
}

#[tokio::test]
async fn a_group_that_turns_to_private_ids_while_the_own_one_is_not_told_loses_nobody() {
    let quirks = Quirks {
        me_without_lid: true,
        ..Quirks::default()
    };
    for kind in ENGINES {
        let stage = watched(kind, quirks, "300ms").await;
        let (id, mut events) = made(&stage, "Turned", &[ONE, TWO]).await;
        stage
            .waha()
            .by_hand(&id, |group| group.addressed_by_lid(true));
        looks(&stage, 4).await;
        stage
            .waha()
            .by_hand(&id, |group| group.add(&["491700000005"]));
        // NOWEB's event has the private id alone, and there is no directory without its store; a list that is
        // read at that moment has both.
        let came = stage.events("default", &id, events.len() + 2).await;
        let by_phone = came.iter().any(|it| it.starts_with("group.join add 05"));
        let new = if kind == Kind::Noweb && !by_phone {
            "9491700000005"
        } else {
            "05"
        };
        events.push(format!("group.join add {new}"));
        events.push(format!("group.v2.participants join {new}:participant"));
        assert_events(&stage, &id, &strs(&events)).await;
        deaf(&stage, quirks);
        stage
            .waha()
            .by_hand(&id, |group| group.promote("491700000001"));
        events.push("group.v2.participants promote 01:admin".to_owned());
        assert_events(&stage, &id, &strs(&events)).await;
    }
}

#[tokio::test]
async fn people_by_private_ids_that_nobody_can_match_are_neither_gone_nor_new() {
    let quirks = Quirks {
        me_without_lid: true,
        secret_phones: true,
        ..Quirks::default()
    };
    // Without its store, NOWEB has no directory; nor is the list of people to be had.
    let stage = watched(Kind::Noweb, quirks, "300ms").await;
    let (id, mut events) = made(&stage, "Private", &[ONE, TWO]).await;
    let broken = Fault::Answer(500, "{}".to_owned());
    stage.waha().fail_always("GET participants/v2", broken);
    stage
        .waha()
        .by_hand(&id, |group| group.addressed_by_lid(true));
    looks(&stage, 4).await;
    deaf(&stage, quirks);
    stage
        .waha()
        .by_hand(&id, |group| group.remove(&["491700000002"]));
    looks(&stage, 4).await;
    // WAHA can tell again who is who.
    stage.waha().mend();
    let went = ["group.left leave 02", "group.v2.participants leave 02:"];
    events.extend(went.map(str::to_owned));
    assert_events(&stage, &id, &strs(&events)).await;
}

#[tokio::test]
async fn people_who_are_hosted_are_who_they_were() {
    for (kind, lids) in [
        (Kind::Webjs, false),
        (Kind::Noweb, false),
        (Kind::Noweb, true),
        (Kind::Gows, false),
        (Kind::Gows, true),
    ] {
        let quirks = Quirks {
            lids,
            ..Quirks::default()
        };
        let stage = watched(kind, quirks, "300ms").await;
        let (id, mut events) = made(&stage, "Hosted", &[ONE, TWO]).await;
        for phone in ["491700000001", "491700000005"] {
            stage.waha().host(phone);
        }
        looks(&stage, 4).await;
        let named = json!({"groupId": id, "participants": ["491700000005@c.us"]});
        let told = stage.result("default", "AddParticipants", named).await;
        assert_eq!(told[0]["id"], "491700000005@c.us", "{kind:?} {lids}");
        assert_eq!(told[0]["outcome"], "ok", "{kind:?} {lids}");
        let came = [
            "group.join add 05 by AddParticipants",
            "group.v2.participants join 05:participant by AddParticipants",
        ];
        events.extend(came.map(str::to_owned));
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["491700000001"]));
        let went = ["group.left remove 01", "group.v2.participants leave 01:"];
        events.extend(went.map(str::to_owned));
        assert_events(&stage, &id, &strs(&events)).await;
        deaf(&stage, quirks);
        stage
            .waha()
            .by_hand(&id, |group| group.promote("491700000005"));
        events.push("group.v2.participants promote 05:admin".to_owned());
        assert_events(&stage, &id, &strs(&events)).await;
    }
}
