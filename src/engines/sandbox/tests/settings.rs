//! Subject, description, who may change them, and the invite code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{ALICE, BOB, World, of};
use crate::contract::ErrorCode;
use crate::store::sandbox_groups::SandboxGroup;

#[tokio::test]
async fn everybody_changes_subject_and_description_until_they_are_for_admins_only() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let subject = |text: &str| json!({"groupId": id, "subject": text});
    let description = |text: &str| json!({"groupId": id, "description": text});
    assert_eq!(
        world.ok("bob", "SetGroupSubject", subject("one")).await,
        json!(true)
    );
    assert_eq!(
        world
            .ok("bob", "SetGroupDescription", description("one"))
            .await,
        json!(true)
    );
    assert_eq!(
        world.ok("alice", "SetInfoAdminOnly", of(&id)).await,
        json!(true)
    );
    assert_eq!(
        world.ok("bob", "GetInfoAdminOnly", of(&id)).await,
        json!({"adminsOnly": true})
    );
    assert_eq!(
        world.ok("bob", "SetGroupSubject", subject("two")).await,
        json!(false)
    );
    assert_eq!(
        world
            .ok("bob", "SetGroupDescription", description("two"))
            .await,
        json!(false)
    );
    assert_eq!(
        world.ok("alice", "SetGroupSubject", subject("three")).await,
        json!(true)
    );
    let group = world.ok("bob", "GetGroup", of(&id)).await;
    assert_eq!(
        (&group["subject"], &group["description"]),
        (&json!("three"), &json!("one"))
    );
    assert_eq!(group["settings"]["infoAdminOnly"], json!(true));
}

#[tokio::test]
async fn only_admins_say_who_may_change_the_info() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let payload = json!({"groupId": id, "adminsOnly": false});
    assert_eq!(
        world.ok("bob", "SetInfoAdminOnly", payload).await,
        json!(false)
    );
    assert_eq!(
        world.ok("bob", "SetInfoAdminOnly", of(&id)).await,
        json!(false)
    );
    assert_eq!(
        world.ok("bob", "GetInfoAdminOnly", of(&id)).await,
        json!({"adminsOnly": false})
    );
}

/// The commands of each setting: its field, its other value, and the field of the group's settings.
const SETTINGS: [(&str, &str, bool, &str); 5] = [
    ("InfoAdminOnly", "adminsOnly", true, "infoAdminOnly"),
    ("MessagesAdminOnly", "adminsOnly", true, "messagesAdminOnly"),
    (
        "MemberAddMode",
        "membersCanAddNewMember",
        true,
        "membersCanAddNewMember",
    ),
    (
        "MembershipApproval",
        "newMembersApprovalRequired",
        true,
        "newMembersApprovalRequired",
    ),
    (
        "MemberShareHistory",
        "membersCanShareHistory",
        false,
        "membersCanShareHistory",
    ),
];

#[tokio::test]
async fn every_setting_is_read_by_members_changed_by_admins_and_told_to_all_of_them() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    for (setting, field, changed, shown) in SETTINGS {
        let (get, set) = (format!("Get{setting}"), format!("Set{setting}"));
        let before = json!({field: !changed});
        assert_eq!(world.ok("bob", &get, of(&id)).await, before, "{setting}");
        let payload = json!({"groupId": id, field: changed});
        assert_eq!(
            world.ok("bob", &set, payload.clone()).await,
            json!(false),
            "{setting}"
        );
        let answer = world.send("alice", &set, payload).await;
        assert_eq!(answer.outcome, Ok(json!(true)), "{setting}");
        for event in &answer.events {
            let payload = serde_json::to_value(&event.payload).unwrap();
            assert_eq!(payload["group"], json!({"id": id, shown: changed}));
        }
        assert_eq!(answer.events.len(), 2, "{setting}");
        let after = json!({field: changed});
        assert_eq!(world.ok("bob", &get, of(&id)).await, after, "{setting}");
        let group = world.ok("bob", "GetGroup", of(&id)).await;
        assert_eq!(group["settings"][shown], json!(changed), "{setting}");
    }
}

#[tokio::test]
async fn the_settings_of_a_group_are_kept_from_those_who_are_not_in_it() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    for (setting, field, changed, _) in SETTINGS {
        let get = format!("Get{setting}");
        let refused = world.refused("carol", &get, of(&id)).await;
        assert_eq!(refused, ErrorCode::GroupNotFound, "{setting}");
        let payload = json!({"groupId": id, field: changed});
        let refused = world
            .refused("carol", &format!("Set{setting}"), payload)
            .await;
        assert_eq!(refused, ErrorCode::GroupNotFound, "{setting}");
    }
}

#[tokio::test]
async fn messages_disappear_after_the_time_that_an_admin_sets() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let payload = |seconds: u32| json!({"groupId": id, "seconds": seconds});
    let group = world.ok("bob", "GetGroup", of(&id)).await;
    assert_eq!(group["settings"]["disappearingSeconds"], json!(0));
    let set = "SetDisappearingMessages";
    assert_eq!(
        world.ok("bob", set, payload(86_400)).await,
        json!(false),
        "only admins may"
    );
    for seconds in [86_400, 604_800, 7_776_000, 0] {
        let answer = world.send("alice", set, payload(seconds)).await;
        assert_eq!(answer.outcome, Ok(json!(true)));
        let told = serde_json::to_value(&answer.events[0].payload).unwrap();
        assert_eq!(told["group"]["disappearingSeconds"], json!(seconds));
        let group = world.ok("bob", "GetGroup", of(&id)).await;
        assert_eq!(group["settings"]["disappearingSeconds"], json!(seconds));
    }
}

#[tokio::test]
async fn a_group_that_an_earlier_release_stored_has_the_settings_of_a_new_one() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let state = world.groups.get(&id.parse().unwrap()).await.unwrap();
    let mut stored = serde_json::to_value(state.unwrap()).unwrap();
    let settings = stored["settings"].as_object_mut().unwrap();
    settings.remove("membersCanShareHistory").unwrap();
    settings.remove("disappearingSeconds").unwrap();
    let read: SandboxGroup = serde_json::from_value(stored).unwrap();
    let shown = crate::engines::sandbox::view::group(&id.parse().unwrap(), &read).settings;
    assert_eq!(shown.members_can_share_history, Some(true));
    assert_eq!(shown.disappearing_seconds, Some(0));
}

#[tokio::test]
async fn groups_are_counted_for_each_account_and_refreshed_at_any_time() {
    let world = World::new().await;
    let first = world.group(&[BOB]).await;
    world.group(&[]).await;
    assert_eq!(
        world.ok("alice", "CountGroups", json!({})).await,
        json!({"count": 2})
    );
    assert_eq!(
        world.ok("bob", "CountGroups", json!({})).await,
        json!({"count": 1})
    );
    world.ok("bob", "LeaveGroup", of(&first)).await;
    assert_eq!(
        world.ok("bob", "CountGroups", json!({})).await,
        json!({"count": 0})
    );
    assert_eq!(
        world.ok("bob", "RefreshGroups", json!({})).await,
        json!(true)
    );
}

#[tokio::test]
async fn setting_what_is_set_already_is_done_without_an_event() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    for (name, payload) in [
        (
            "SetGroupSubject",
            json!({"groupId": id, "subject": "Group"}),
        ),
        (
            "SetGroupDescription",
            json!({"groupId": id, "description": ""}),
        ),
        (
            "SetInfoAdminOnly",
            json!({"groupId": id, "adminsOnly": false}),
        ),
        (
            "SetMemberShareHistory",
            json!({"groupId": id, "membersCanShareHistory": true}),
        ),
        (
            "SetDisappearingMessages",
            json!({"groupId": id, "seconds": 0}),
        ),
    ] {
        let answer = world.send("alice", name, payload).await;
        assert_eq!(answer.outcome, Ok(json!(true)), "{name}");
        assert!(answer.events.is_empty(), "{name}");
    }
    assert_eq!(
        world
            .groups
            .history(&id.parse().unwrap())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_invite_code_is_the_admins_and_a_new_one_each_time() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    for name in ["GetInviteCode", "RevokeInviteCode"] {
        assert_eq!(
            world.refused("bob", name, of(&id)).await,
            ErrorCode::NotAllowed
        );
    }
    let first = world.ok("alice", "GetInviteCode", of(&id)).await;
    let code = first["inviteCode"].as_str().unwrap();
    assert_eq!(code.len(), 22);
    assert_eq!(
        first["inviteUrl"],
        format!("https://chat.whatsapp.com/{code}")
    );
    let second = world.ok("alice", "RevokeInviteCode", of(&id)).await;
    let third = world.ok("alice", "RevokeInviteCode", of(&id)).await;
    assert!(first != second && second != third);
    assert_eq!(world.ok("alice", "GetInviteCode", of(&id)).await, third);
    assert_eq!(world.roles("alice", &id).await[0].0, ALICE);
}

fn picture(id: &str, bytes: &[u8]) -> serde_json::Value {
    json!({"groupId": id, "picture": {"data": STANDARD.encode(bytes)}})
}

const JPEG: &[u8] = include_bytes!("../../../../tests/support/data/pictures/small.jpg");
const PNG: &[u8] = include_bytes!("../../../../tests/support/data/pictures/small.png");

#[tokio::test]
async fn a_picture_is_kept_by_its_digest_and_told_once() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let url = async || world.ok("bob", "GetGroupPicture", of(&id)).await["url"].clone();
    assert_eq!(url().await, json!(null));
    let changes = async |name: &str, payload: serde_json::Value| {
        let answer = world.send("bob", name, payload).await;
        assert_eq!(answer.outcome, Ok(json!(true)));
        let events = answer
            .events
            .iter()
            .map(|it| serde_json::to_value(it).unwrap());
        let told = events.filter(|it| it["session"] == "alice");
        told.map(|it| it["payload"]["group"]["picture"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        changes("SetGroupPicture", picture(&id, PNG)).await,
        ["changed"]
    );
    let first = url().await;
    assert!(first.as_str().unwrap().len() < 128, "{first}");
    assert_eq!(changes("SetGroupPicture", picture(&id, PNG)).await, [""; 0]);
    assert_eq!(
        changes("SetGroupPicture", picture(&id, JPEG)).await,
        ["changed"]
    );
    assert_ne!(url().await, first);
    assert_eq!(changes("DeleteGroupPicture", of(&id)).await, ["removed"]);
    assert_eq!(changes("DeleteGroupPicture", of(&id)).await, [""; 0]);
    assert_eq!(url().await, json!(null));
}

#[tokio::test]
async fn who_may_change_the_subject_may_change_the_picture() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    world.ok("alice", "SetInfoAdminOnly", of(&id)).await;
    for (session, may) in [("bob", false), ("alice", true)] {
        let set = world
            .ok(session, "SetGroupPicture", picture(&id, PNG))
            .await;
        assert_eq!(set, json!(may), "{session}");
        let deleted = world.ok(session, "DeleteGroupPicture", of(&id)).await;
        assert_eq!(deleted, json!(may), "{session}");
    }
    for (name, payload) in [
        ("GetGroupPicture", of(&id)),
        ("SetGroupPicture", picture(&id, PNG)),
        ("DeleteGroupPicture", of(&id)),
    ] {
        assert_eq!(
            world.refused("carol", name, payload).await,
            ErrorCode::GroupNotFound,
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_decoded_is_named_and_changes_nothing() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    let cut = PNG.get(..PNG.len() / 2).unwrap();
    let sent = world.execute("cut", "alice", "SetGroupPicture", picture(&id, cut));
    let error = sent.await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidPayload);
    assert!(
        error.to_string().starts_with("/payload/picture/data"),
        "{error}"
    );
    let url = world.ok("alice", "GetGroupPicture", of(&id)).await;
    assert_eq!(url, json!({"url": null}));
}
