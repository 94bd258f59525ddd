//! What groups and lists look like.

use serde_json::{Value, json};

use super::{ALICE, BOB, CAROL, DAVE, ERIN, World, of, person};
use crate::config;
use crate::contract::ErrorCode;
use crate::engines::{EngineError, ResultLimit};

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

#[tokio::test]
async fn a_list_that_no_message_can_hold_is_refused_and_its_parts_are_not() {
    // A frame of 64 KiB, and a result of 4 KiB.
    let limit = ResultLimit::of_messages(68 << 10);
    let world = World::limited(config::Sandbox::default(), limit).await;
    for _ in 0..12 {
        world.group(&[BOB, DAVE]).await;
    }
    let list = world.execute("list", "alice", "ListGroups", json!({}));
    let refused = list.await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidPayload);
    let EngineError::InvalidField { path, reason } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(path, &"/payload/limit");
    assert!(reason.contains("amqp.message_max, 69632 bytes"), "{reason}");
    let mut shown = 0;
    for offset in (0..12).step_by(4) {
        let part = json!({"limit": 4, "offset": offset});
        let part = world.ok("alice", "ListGroups", part).await;
        shown += part.as_array().unwrap().len();
    }
    assert_eq!(shown, 12);
    let count = world.ok("alice", "CountGroups", json!({})).await;
    assert_eq!(count, json!({"count": 12}));
}

#[tokio::test]
async fn a_session_knows_the_private_ids_of_those_in_its_groups() {
    let world = World::new().await;
    world.group(&[BOB]).await;
    world.group(&[BOB, DAVE]).await;
    let pair = |phone: &str| {
        let lid = format!("8000{}", phone.replace("@c.us", "@lid"));
        json!({"lid": lid, "pn": phone})
    };
    let list = world.ok("alice", "ListLids", json!({})).await;
    assert_eq!(list, json!([pair(ALICE), pair(BOB), pair(DAVE)]));
    let part = json!({"limit": 1, "offset": 1});
    let part = world.ok("alice", "ListLids", part).await;
    assert_eq!(part, json!([pair(BOB)]));
    let count = world.ok("alice", "CountLids", json!({})).await;
    assert_eq!(count, json!({"count": 3}));
    // Who is in no group knows itself.
    let alone = world.ok("carol", "ListLids", json!({})).await;
    assert_eq!(alone, json!([pair(CAROL)]));
    for (who, is_known) in [(ALICE, true), (DAVE, true), (CAROL, false), (ERIN, false)] {
        let both = pair(who);
        let (lid, phone) = (&both["lid"], &both["pn"]);
        let asked = json!({ "lid": lid });
        let by_lid = world.ok("alice", "GetPhoneByLid", asked).await;
        let asked = json!({ "phone": phone });
        let by_phone = world.ok("alice", "GetLidByPhone", asked).await;
        if is_known {
            assert_eq!((&by_lid, &by_phone), (&both, &both), "{who}");
        } else {
            assert_eq!(by_lid.get("pn"), Some(&Value::Null), "{who}");
            assert_eq!(by_phone.get("lid"), Some(&Value::Null), "{who}");
        }
    }
}
