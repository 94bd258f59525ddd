//! Who can be added, by whom, and what becomes of each.

use serde_json::{Value, json};

use super::{ALICE, BOB, CAROL, DAVE, DAY, ERIN, World, expect, of, on, outcomes, roles};
use crate::config;
use crate::contract::ErrorCode;

fn open_to_members() -> config::Sandbox {
    config::Sandbox {
        members_can_add: true,
        ..config::Sandbox::default()
    }
}

#[tokio::test]
async fn the_creator_is_in_as_superadmin_without_being_named() {
    let world = World::new().await;
    let payload = json!({"name": "Group", "participants": [BOB, ALICE, BOB]});
    let made = world.ok("alice", "CreateGroup", payload).await;
    assert_eq!(made["owner"], ALICE);
    assert_eq!(made["size"], 2);
    let expected = expect(&[("ok", 200), ("alreadyMember", 409), ("alreadyMember", 409)]);
    assert_eq!(outcomes(&made["outcomes"]), expected);
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("120363") && id.len() == 23);
    let expected = roles(&[(ALICE, "superadmin"), (BOB, "participant")]);
    assert_eq!(world.roles("bob", id).await, expected);
}

#[tokio::test]
async fn special_numbers_are_refused_with_their_code_when_creating_and_when_adding() {
    let world = World::new().await;
    let special = ["0401", "0403", "0404", "0408", "0419", "0421"];
    let people: Vec<String> = special
        .iter()
        .map(|end| format!("99900555{end}@c.us"))
        .collect();
    let payload = json!({"name": "Group", "participants": people});
    let made = world.ok("alice", "CreateGroup", payload).await;
    let expected = expect(&[
        ("notAllowed", 401),
        ("privacyBlocked", 403),
        ("notOnWhatsapp", 404),
        ("recentlyLeft", 408),
        ("groupFull", 419),
        ("pendingApproval", 421),
    ]);
    assert_eq!(outcomes(&made["outcomes"]), expected);
    assert_eq!(made["size"], 1);
    let id = made["id"].as_str().unwrap();
    let named: Vec<&str> = people.iter().map(String::as_str).collect();
    let added = world.ok("alice", "AddParticipants", on(id, &named)).await;
    assert_eq!(outcomes(&added), expected);
    let with_invite = |result: &Value| -> Vec<bool> {
        result
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.get("invite").is_some())
            .collect()
    };
    assert_eq!(
        with_invite(&added),
        [false, true, false, false, false, false]
    );
    assert_eq!(added[1]["invite"]["code"].as_str().unwrap().len(), 16);
    // Three days after 2024-11-23T09:58:01.123Z.
    assert_eq!(added[1]["invite"]["expiresAt"], "2024-11-26T09:58:01.123Z");
}

#[tokio::test]
async fn members_may_add_only_where_new_groups_let_them() {
    let closed = World::new().await;
    let id = closed.group(&[BOB]).await;
    let refused = closed
        .refused("bob", "AddParticipants", on(&id, &[CAROL]))
        .await;
    assert_eq!(refused, ErrorCode::NotAllowed);

    let open = World::with(open_to_members()).await;
    let id = open.group(&[BOB]).await;
    let added = open.ok("bob", "AddParticipants", on(&id, &[CAROL])).await;
    assert_eq!(outcomes(&added), expect(&[("ok", 200)]));
}

#[tokio::test]
async fn who_left_can_be_added_again_after_a_day_and_who_was_removed_at_once() {
    let world = World::new().await;
    let id = world.group(&[BOB, DAVE]).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    world
        .ok("alice", "RemoveParticipants", on(&id, &[DAVE]))
        .await;
    let added = world
        .ok("alice", "AddParticipants", on(&id, &[BOB, DAVE]))
        .await;
    assert_eq!(
        outcomes(&added),
        expect(&[("recentlyLeft", 408), ("ok", 200)])
    );
    world.later(DAY - 1);
    let added = world.ok("alice", "AddParticipants", on(&id, &[BOB])).await;
    assert_eq!(outcomes(&added), expect(&[("recentlyLeft", 408)]));
    world.later(1);
    let added = world.ok("alice", "AddParticipants", on(&id, &[BOB])).await;
    assert_eq!(outcomes(&added), expect(&[("ok", 200)]));
}

#[tokio::test]
async fn a_group_is_full_with_1024_people() {
    let world = World::new().await;
    let people: Vec<String> = (0..1022).map(|n| format!("4916{n:08}@c.us")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let id = world.group(&people).await;
    let added = world
        .ok("alice", "AddParticipants", on(&id, &[BOB, CAROL, BOB]))
        .await;
    let expected = expect(&[("ok", 200), ("groupFull", 419), ("alreadyMember", 409)]);
    assert_eq!(outcomes(&added), expected);
    world
        .ok("alice", "RemoveParticipants", on(&id, &[people[0]]))
        .await;
    let added = world
        .ok("alice", "AddParticipants", on(&id, &[CAROL]))
        .await;
    assert_eq!(outcomes(&added), expect(&[("ok", 200)]));
}

#[tokio::test]
async fn a_lid_is_a_person_of_its_own() {
    let world = World::new().await;
    let id = world.group(&["491700000002@lid", DAVE]).await;
    let added = world
        .ok(
            "alice",
            "AddParticipants",
            on(&id, &[BOB, "491700000002@lid", ERIN]),
        )
        .await;
    let expected = expect(&[("ok", 200), ("alreadyMember", 409), ("ok", 200)]);
    assert_eq!(outcomes(&added), expected);
}
