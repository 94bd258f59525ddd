//! WAHA's WebSocket in the place of webhooks.

use std::time::{Duration, Instant};

use groupmq_test_support::waha::Waha;
use serde_json::json;

use super::metric;
use crate::behaviour::stage::{Kind, Stage};
use crate::scene::PATIENCE;

const ONE: &str = "491700000001@c.us";

async fn until_listening(waha: &Waha) {
    let begun = Instant::now();
    while waha.listeners() == 0 {
        assert!(begun.elapsed() < PATIENCE, "nobody listens");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn events_come_over_the_socket_and_what_was_missed_is_found_after_a_reconnection() {
    for kind in [Kind::Webjs, Kind::Noweb, Kind::Gows] {
        let stage = Stage::with(kind, |options| {
            options
                .set("engine.waha.socket", "true")
                .set("engine.waha.intake.enabled", "false")
                .set("engine.waha.reconcile.interval", "1h")
        })
        .await;
        until_listening(stage.waha()).await;
        let id = stage.group("Wired", &[ONE]).await;
        stage.events("default", &id, 2).await;
        stage
            .waha()
            .by_hand(&id, |group| group.promote("491700000001"));
        let events = stage.events("default", &id, 3).await;
        assert_eq!(
            events[2..],
            ["group.v2.participants promote 01:admin"],
            "{kind:?}"
        );

        stage.waha().stop().await;
        stage.waha().by_hand(&id, |group| group.subject("Unheard"));
        stage.waha().resume().await.unwrap();
        let events = stage.events("default", &id, 4).await;
        assert_eq!(
            events[3..],
            [r#"group.v2.update subject="Unheard" reconciled"#],
            "{kind:?}"
        );

        until_listening(stage.waha()).await;
        stage
            .waha()
            .by_hand(&id, |group| group.demote("491700000001"));
        let events = stage.events("default", &id, 5).await;
        assert_eq!(
            events[4..],
            ["group.v2.participants demote 01:participant"],
            "{kind:?}"
        );
        let open = metric(&stage.scene.worker, "groupmq_waha_sockets").await;
        assert_eq!(open, 1);
        assert!(
            !stage
                .scene
                .worker
                .log()
                .contains(groupmq_test_support::waha::KEY)
        );
        assert_eq!(
            stage
                .result("default", "ListGroups", json!({}))
                .await
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }
}
