//! Which events an endpoint gets, and that a change of that loses and doubles nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use groupmq_test_support::announcer::{Announcement, Announcer};
use serde_json::json;

use super::scene::{PATIENCE, Scene};

#[tokio::test]
async fn an_endpoint_gets_the_events_and_sessions_it_asks_for_and_no_others() {
    let mut scene = Scene::shared().await;
    let shop = json!({"events": ["group.leave", "*.join"], "sessions": ["shop-*", "default"]});
    scene.endpoint("shop", "/shop", shop).await;
    scene.endpoint("all", "/all", json!({})).await;
    let mut wanted = BTreeSet::new();
    for session in ["default", "shop-1", "shop-2", "shopping", "second"] {
        for event in [
            "group.join",
            "group.left",
            "group.v2.join",
            "group.v2.update",
        ] {
            let event_sent = scene.announcer.announce(session, event, 1).await.unwrap();
            if session != "shopping" && session != "second" && event != "group.v2.update" {
                wanted.insert(event_sent[0].id.clone());
            }
        }
    }
    scene.receiver.takes("/all", 20, PATIENCE).await.unwrap();
    scene
        .receiver
        .takes("/shop", wanted.len(), PATIENCE)
        .await
        .unwrap();
    assert_eq!(scene.receiver.taken("/shop"), wanted);
}

#[tokio::test]
async fn a_filter_that_changes_under_load_lets_through_exactly_what_it_says() {
    let scene = Scene::shared().await;
    let kept = "group.join";
    let joins = json!({"events": [kept, "group.left"]});
    scene.endpoint("one", "/one", joins).await;
    let announce = |event: &'static str| {
        let (url, prefix) = (scene.url.clone(), scene.prefix.clone());
        async move {
            let mut announcer = Announcer::new(&url, &prefix);
            let mut sent = Vec::new();
            for _ in 0..40 {
                sent.extend(announcer.announce("default", event, 25).await.unwrap());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            sent
        }
    };
    let change = async {
        for turn in 0..6 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let other = if turn % 2 == 0 {
                "group.v2.update"
            } else {
                "group.left"
            };
            scene
                .endpoint("one", "/one", json!({"events": [kept, other]}))
                .await;
        }
    };
    // What fits before and after every change comes through all of them, once each.
    let (joined, _, ()) = tokio::join!(announce(kept), announce("group.v2.leave"), change);
    let ids = |all: &[Announcement]| all.iter().map(|it| it.id.clone()).collect::<BTreeSet<_>>();
    let joined = ids(&joined);
    scene
        .receiver
        .takes("/one", joined.len(), PATIENCE)
        .await
        .unwrap();
    let got = scene.receiver.got("/one");
    assert_eq!(
        scene.receiver.taken("/one"),
        joined,
        "what does not fit came too, or was lost"
    );
    assert_eq!(got.len(), joined.len(), "some came twice");

    // Before a change what fitted then, after it what fits now.
    let mut announcer = Announcer::new(&scene.url, &scene.prefix);
    let before = announcer
        .announce("default", "group.left", 100)
        .await
        .unwrap();
    let update = json!({"events": ["group.v2.update"]});
    scene.endpoint("one", "/one", update).await;
    let none = announcer
        .announce("default", "group.left", 100)
        .await
        .unwrap();
    let after = announcer
        .announce("default", "group.v2.update", 100)
        .await
        .unwrap();
    let mut wanted = joined;
    wanted.extend(ids(&before));
    wanted.extend(ids(&after));
    scene
        .receiver
        .takes("/one", wanted.len(), PATIENCE)
        .await
        .unwrap();
    let taken = scene.receiver.taken("/one");
    assert!(taken.is_disjoint(&ids(&none)));
    assert_eq!(taken, wanted);
    println!(
        "{} events through 7 changes of the filter, none lost, none twice",
        wanted.len()
    );
}
