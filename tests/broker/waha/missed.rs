//! What nobody told is found by comparing, and told as such.

use groupmq_test_support::waha::Quirks;
use groupmq_test_support::worker::{Worker, store_in};
use serde_json::json;

use crate::behaviour::stage::{HMAC_KEY, Kind, Stage, hook, of_group, short};
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";

fn deaf(deaf: bool) -> Quirks {
    Quirks {
        deaf,
        ..Quirks::default()
    }
}

#[tokio::test]
async fn what_somebody_else_does_is_told_without_a_command() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::new(kind).await;
        let id = stage.group("Open", &[ONE]).await;
        stage.events("default", &id, 2).await;
        let mut count = 2;
        let mut then = async |hand: &dyn Fn(&mut groupmq_test_support::waha::ByHand<'_>),
                              wanted: &[&str]| {
            stage.waha().by_hand(&id, |group| hand(group));
            let events = stage.events("default", &id, count + wanted.len()).await;
            assert_eq!(events[count..], *wanted, "{kind:?}");
            count = events.len();
        };
        let came = [
            "group.join add 05",
            "group.v2.participants join 05:participant",
        ];
        then(&|group| group.add(&["491700000005"]), &came).await;
        let promoted = ["group.v2.participants promote 05:admin"];
        then(&|group| group.promote("491700000005"), &promoted).await;
        // NOWEB calls who was demoted an admin.
        let demoted = ["group.v2.participants demote 05:participant"];
        then(&|group| group.demote("491700000005"), &demoted).await;
        let went = ["group.left remove 05", "group.v2.participants leave 05:"];
        then(&|group| group.remove(&["491700000005"]), &went).await;
        then(
            &|group| group.subject("Theirs"),
            &[r#"group.v2.update subject="Theirs""#],
        )
        .await;
        // Its own doing as well, which only WEBJS calls a removal.
        let how = if kind == Kind::Webjs {
            "remove"
        } else {
            "leave"
        };
        let left = format!("group.left {how} 15550000001");
        let out = ["group.v2.leave", left.as_str()];
        then(&|group| group.remove(&["15550000001"]), &out).await;
        // The group is the account's own, so it came by itself; of that, GOWS names nobody.
        let how = if kind == Kind::Gows { "add" } else { "invite" };
        let came = format!("group.join {how} 15550000001");
        let back = ["group.v2.join", came.as_str()];
        then(&|group| group.add(&["15550000001"]), &back).await;
        stage.assert_valid();
    }
}

#[tokio::test]
async fn changes_that_waha_did_not_tell_are_found_now_and_then() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::with(kind, |options| {
            options.set("engine.waha.reconcile.interval", "1s")
        })
        .await;
        let id = stage.group("Watched", &[ONE, "491700000002@c.us"]).await;
        stage.events("default", &id, 2).await;
        stage.waha().set(deaf(true));
        stage.waha().by_hand(&id, |group| {
            group.add(&["491700000005"]);
            group.remove(&["491700000002"]);
            group.promote("491700000001");
            group.subject("Theirs");
        });
        let mut events = stage.events("default", &id, 8).await.split_off(2);
        events.sort();
        let mut wanted = [
            "group.join add 05 reconciled",
            "group.v2.participants join 05:participant reconciled",
            "group.left leave 02 reconciled",
            "group.v2.participants leave 02: reconciled",
            "group.v2.participants promote 01:admin reconciled",
            r#"group.v2.update subject="Theirs" reconciled"#,
        ];
        wanted.sort_unstable();
        assert_eq!(events, wanted, "{kind:?}");
        // A group that is new, and one that is gone.
        let new = stage
            .waha()
            .created_by_hand("491700000009", "New", &["15550000001"]);
        let joined = stage.events("default", &new, 2).await;
        assert_eq!(
            joined,
            [
                "group.v2.join reconciled",
                "group.join add 15550000001 reconciled"
            ]
        );
        stage
            .waha()
            .by_hand(&id, |group| group.remove(&["15550000001"]));
        let left = stage.events("default", &id, 10).await.split_off(8);
        assert_eq!(
            left,
            [
                "group.v2.leave reconciled",
                "group.left leave 15550000001 reconciled"
            ]
        );
    }
}

#[tokio::test]
async fn changes_while_no_worker_ran_are_found_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let mut stage = Stage::with(Kind::Gows, |options| {
        options
            .set("store.url", &store)
            .set("engine.waha.reconcile.interval", "1h")
    })
    .await;
    let id = stage.group("Left alone", &[ONE]).await;
    stage.events("default", &id, 2).await;
    stage.scene.worker.stop().await.unwrap();
    stage.waha().set(deaf(true));
    stage
        .waha()
        .by_hand(&id, |group| group.add(&["491700000005"]));
    stage.scene.worker = Worker::start(&stage.scene.options).await.unwrap();
    let events = stage.events("default", &id, 4).await.split_off(2);
    let wanted = [
        "group.join add 05 reconciled",
        "group.v2.participants join 05:participant reconciled",
    ];
    assert_eq!(events, wanted);
    // And what WAHA tells of it after all, late, is known.
    hook(stage.waha(), &stage.scene);
    stage.waha().set(deaf(false));
    let late = json!({
        "type": "join", "timestamp": groupmq_test_support::waha::now_ms(), "group": {"id": id},
        "participants": [{"id": "491700000005@c.us", "pn": "491700000005@c.us", "role": "participant"}],
    });
    let body = stage
        .waha()
        .envelope("default", "group.v2.participants", &late)
        .to_string();
    let signature = groupmq_test_support::waha::events::signature(HMAC_KEY, &body);
    let host = stage.scene.worker.health().to_string();
    let path = "/engines/waha/events";
    let post = groupmq_test_support::waha::events::post;
    assert_eq!(
        post(&host, path, &signature, body.as_bytes())
            .await
            .unwrap(),
        200
    );
    stage.waha().by_hand(&id, |group| group.subject("After it"));
    let events = stage.events("default", &id, 5).await;
    assert_eq!(events[4..], [r#"group.v2.update subject="After it""#]);
}

#[tokio::test]
async fn the_groups_of_the_first_start_are_no_news() {
    let waha =
        groupmq_test_support::waha::Waha::start(groupmq_test_support::waha::Personality::Noweb);
    let waha = waha.await.unwrap();
    let id = waha.created_by_hand("15550000001", "Old", &["491700000001"]);
    let scene =
        crate::scene::Scene::shared_with(|options| crate::behaviour::stage::on(&waha, options));
    let scene = scene.await;
    hook(&waha, &scene);
    let is_known = |line: &str| line.contains("the session is WORKING");
    let begun = std::time::Instant::now();
    while !scene.worker.log().lines().any(is_known) {
        assert!(begun.elapsed() < PATIENCE, "{}", scene.worker.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The list is asked for, and taken as it is, before anything is told of the group.
    while !waha
        .asked()
        .iter()
        .any(|it| it.path.ends_with("/default/groups"))
    {
        assert!(begun.elapsed() < PATIENCE, "{}", scene.worker.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    waha.by_hand(&id, |group| group.subject("Now"));
    let told = |seen: &groupmq_test_support::producer::Seen| {
        let events = of_group(seen, "default", &id);
        (!events.is_empty()).then_some(events)
    };
    let events = scene.producer.until(PATIENCE, told).await.unwrap();
    let events: Vec<_> = events.iter().map(short).collect();
    assert_eq!(events, [r#"group.v2.update subject="Now""#]);
}
