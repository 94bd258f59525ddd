//! A group as it shall be, on WAHA, by workers that are killed over it.

use std::time::Duration;

use futures_util::future::join_all;
use groupmq_test_support::producer::Command;
use groupmq_test_support::waha::Waha;
use groupmq_test_support::worker::Worker;
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage, hook};
use crate::scene::PATIENCE;

const PEOPLE: [&str; 3] = ["491700000001", "491700000002", "491700000003"];

/// The requests that change something.
fn changes(waha: &Waha) -> usize {
    let asked = waha.asked();
    asked.iter().filter(|it| it.method != "GET").count()
}

async fn is_as_wanted_whenever_workers_are_killed(kind: Kind) {
    let mut stage = Stage::new(kind).await;
    let wish = json!({
        "name": "Night shift",
        "description": "Who is on duty",
        "participants": [{"id": PEOPLE[0], "role": "admin"}, PEOPLE[1], PEOPLE[2]],
        "settings": {"infoAdminOnly": true, "messagesAdminOnly": true},
    });
    let command = Command::new("ensure", "EnsureGroup", "default", &wish);
    stage.scene.producer.send_all(vec![command]).await.unwrap();
    for kills in 1..=3 {
        // It goes on from where it was: each worker comes further than the one before.
        while changes(stage.waha()) < kills && stage.scene.producer.seen().answered() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        stage.scene.worker.kill().unwrap();
        stage.scene.worker = Worker::start(&stage.scene.options).await.unwrap();
        hook(stage.waha(), &stage.scene);
    }
    stage
        .scene
        .producer
        .answered(1, 2 * PATIENCE)
        .await
        .unwrap();
    let reply = stage.scene.producer.seen().answer_to("ensure");
    assert_eq!(reply["status"], "ok", "{kind:?} {reply}");
    let id = reply["result"]["groupId"].as_str().unwrap();
    let group = stage.waha().group(id).unwrap();
    let mut members: Vec<_> = group.members.iter().map(|(who, _)| who.as_str()).collect();
    members.sort_unstable();
    let wanted = ["15550000001", PEOPLE[0], PEOPLE[1], PEOPLE[2]];
    assert_eq!(members, wanted, "{kind:?}");
    assert_eq!(
        stage.waha().groups().len(),
        1,
        "{kind:?}: groups made twice"
    );
    let listed = stage.result("default", "ListGroups", json!({})).await;
    let shown = &listed[0];
    assert_eq!(shown["subject"], "Night shift", "{kind:?}");
    assert_eq!(shown["description"], "Who is on duty", "{kind:?}");
    assert_eq!(shown["settings"]["infoAdminOnly"], true, "{kind:?}");
    assert_eq!(shown["settings"]["messagesAdminOnly"], true, "{kind:?}");
    let roles = shown["participants"].as_array().unwrap().iter();
    let admins = roles.filter(|it| it["role"] == "admin");
    let admins: Vec<_> = admins.map(|it| it["id"].clone()).collect();
    assert_eq!(admins, ["491700000001@c.us"], "{kind:?} {shown}");
}

#[tokio::test]
async fn a_group_becomes_as_wanted_whenever_the_worker_is_killed() {
    let kinds = [Kind::Webjs, Kind::Noweb, Kind::Gows];
    join_all(kinds.map(is_as_wanted_whenever_workers_are_killed)).await;
}
