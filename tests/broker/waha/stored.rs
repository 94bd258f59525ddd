//! NOWEB shows groups from a list that it has, and its store learns of a new group late: what is known to
//! be there is asked for again.

use groupmq_test_support::waha::Quirks;
use serde_json::{Value, json};

use crate::behaviour::stage::{Kind, Stage};

const ONE: &str = "491700000001@c.us";

/// A store that never learns of a new group by itself: the notification is lost.
async fn with_a_slow_store(lids: bool) -> Stage {
    let quirks = Quirks {
        store: true,
        store_waits: true,
        lids,
        ..Quirks::default()
    };
    Stage::set_up(Kind::Noweb, quirks, |options| options).await
}

fn refreshes(stage: &Stage) -> usize {
    let asked = stage.waha().asked();
    let refreshes = asked.iter().filter(|it| it.path.ends_with("/refresh"));
    refreshes.count()
}

fn ids(listed: &Value) -> Vec<&str> {
    let listed = listed.as_array().unwrap().iter();
    listed.map(|it| it["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_group_that_was_just_made_is_found_though_the_store_lacks_it() {
    for lids in [false, true] {
        let stage = with_a_slow_store(lids).await;
        // The store is loaded, so that it lacks what is new.
        stage.result("default", "ListGroups", json!({})).await;
        for (name, command) in [("One", "GetGroup"), ("Two", "GetParticipants")] {
            let id = stage.group(name, &[ONE]).await;
            let it = json!({ "groupId": id });
            let found = stage.result("default", command, it).await;
            let people = found["participants"].as_array().or(found.as_array());
            assert_eq!(people.unwrap().len(), 2, "{found}");
        }
        let id = stage.group("Three", &[ONE]).await;
        let setting = stage.result("default", "GetInfoAdminOnly", json!({ "groupId": id }));
        assert_eq!(setting.await, json!({"adminsOnly": false}));
        stage.assert_valid();
    }
}

#[tokio::test]
async fn groups_that_were_just_made_are_listed_and_whatsapp_is_seldom_asked_for_it() {
    let stage = with_a_slow_store(false).await;
    stage.result("default", "ListGroups", json!({})).await;
    let mut made = Vec::new();
    for name in ["One", "Two"] {
        made.push(stage.group(name, &[ONE]).await);
        let listed = stage.result("default", "ListGroups", json!({})).await;
        assert_eq!(ids(&listed), made, "{listed}");
    }
    assert_eq!(refreshes(&stage), 2);
    // What the list has is not asked for anew.
    stage.result("default", "ListGroups", json!({})).await;
    assert_eq!(refreshes(&stage), 2);
    stage.assert_valid();
}

#[tokio::test]
async fn a_group_that_the_account_is_in_is_not_said_to_be_none_where_waha_does_not_show_it() {
    for lids in [false, true] {
        let quirks = Quirks {
            lids,
            ..Quirks::default()
        };
        let stage = Stage::set_up(Kind::Noweb, quirks, |options| {
            options.set("engine.waha.reconcile.lag", "10m")
        })
        .await;
        let id = stage.group("Hidden", &[ONE]).await;
        stage.waha().omit(&id);
        let refused = stage.refusal("default", "GetGroup", json!({ "groupId": id }));
        assert_eq!(refused.await, "ENGINE_UNAVAILABLE", "{lids}");
        stage.waha().views_are_whole();
        let group = stage.result("default", "GetGroup", json!({ "groupId": id }));
        assert_eq!(group.await["subject"], "Hidden", "{lids}");
        stage.assert_valid();
    }
}
