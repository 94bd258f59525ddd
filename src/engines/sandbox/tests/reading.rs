//! What groups and lists look like.

use serde_json::{Value, json};

use super::{ALICE, BOB, DAVE, World, of, person};

#[tokio::test]
async fn a_group_is_shown_whole() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let shown = world.ok("bob", "GetGroup", of(&id)).await;
    let expected = json!({
        "id": id,
        "subject": "Group",
        "description": "",
        "owner": ALICE,
        "createdAt": "2024-11-23T09:58:01.123Z",
        "size": 2,
        "settings": {
            "infoAdminOnly": false,
            "messagesAdminOnly": false,
            "membersCanAddNewMember": false,
            "newMembersApprovalRequired": false,
            "membersCanShareHistory": true,
            "disappearingSeconds": 0,
        },
        "participants": [
            person(ALICE, Some("superadmin")),
            person(BOB, Some("participant")),
        ],
    });
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn a_list_has_the_groups_that_the_account_is_in() {
    let world = World::new().await;
    let mut mine = [world.group(&[BOB]).await, world.group(&[BOB, DAVE]).await];
    let left = world.group(&[BOB]).await;
    world.group(&[DAVE]).await;
    world.ok("bob", "LeaveGroup", of(&left)).await;
    mine.sort();
    let list = world.ok("bob", "ListGroups", json!({})).await;
    let ids: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["id"])
        .collect();
    assert_eq!(ids, mine.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(list[0]["participants"].is_array());
    let asked = json!({"exclude": ["participants"], "limit": 1, "offset": 1});
    let short = world.ok("bob", "ListGroups", asked).await;
    assert_eq!(short.as_array().unwrap().len(), 1);
    assert_eq!(short[0]["id"], mine[1].as_str());
    assert!(short[0].get("participants").is_none());
    assert!(short[0]["size"].as_u64().unwrap() >= 2);
}
