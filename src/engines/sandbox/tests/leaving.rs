//! Removing, leaving, deleting, and who takes over.

use serde_json::json;

use super::{ALICE, BOB, CAROL, DAVE, ERIN, World, expect, of, on, outcomes, roles};
use crate::contract::ErrorCode;

#[tokio::test]
async fn only_admins_remove_and_the_creator_cannot_be_removed() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL, DAVE]).await;
    let refused = world
        .refused("bob", "RemoveParticipants", on(&id, &[CAROL]))
        .await;
    assert_eq!(refused, ErrorCode::NotAllowed);
    world
        .ok("alice", "PromoteAdmin", on(&id, &[BOB, CAROL]))
        .await;
    let removed = world
        .ok(
            "bob",
            "RemoveParticipants",
            on(&id, &[CAROL, ALICE, ERIN, DAVE]),
        )
        .await;
    let expected = expect(&[
        ("ok", 200),
        ("notAllowed", 403),
        ("notMember", 404),
        ("ok", 200),
    ]);
    assert_eq!(outcomes(&removed), expected);
    assert_eq!(
        world.roles("bob", &id).await,
        roles(&[(ALICE, "superadmin"), (BOB, "admin")])
    );
}

#[tokio::test]
async fn removing_oneself_is_leaving_and_needs_no_right() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL]).await;
    let left = world
        .ok("bob", "RemoveParticipants", on(&id, &[BOB, BOB]))
        .await;
    assert_eq!(outcomes(&left), expect(&[("ok", 200), ("notMember", 404)]));
    assert_eq!(
        world.refused("bob", "GetGroup", of(&id)).await,
        ErrorCode::NotAMember
    );
    let added = world.ok("alice", "AddParticipants", on(&id, &[BOB])).await;
    assert_eq!(outcomes(&added), expect(&[("recentlyLeft", 408)]));
    let refused = world
        .refused("carol", "RemoveParticipants", on(&id, &[CAROL, ALICE]))
        .await;
    assert_eq!(refused, ErrorCode::NotAllowed);
}

#[tokio::test]
async fn when_the_last_admin_leaves_the_longest_standing_member_becomes_one() {
    let world = World::new().await;
    let id = world.group(&[DAVE, BOB]).await;
    // Bob comes back later than carol, so she stands longer.
    world
        .ok("alice", "RemoveParticipants", on(&id, &[DAVE, BOB]))
        .await;
    world
        .ok("alice", "AddParticipants", on(&id, &[CAROL, BOB]))
        .await;
    world.ok("alice", "LeaveGroup", of(&id)).await;
    let expected = roles(&[(CAROL, "admin"), (BOB, "participant")]);
    assert_eq!(world.roles("bob", &id).await, expected);
}

#[tokio::test]
async fn a_creator_who_comes_back_is_an_ordinary_participant() {
    let world = World::new().await;
    let id = world.group_with_admins(&[BOB], &[BOB]).await;
    world.ok("alice", "LeaveGroup", of(&id)).await;
    world.later(super::DAY);
    world.ok("bob", "AddParticipants", on(&id, &[ALICE])).await;
    assert_eq!(
        world.roles("bob", &id).await,
        roles(&[(BOB, "admin"), (ALICE, "participant")])
    );
}

#[tokio::test]
async fn a_former_member_and_a_stranger_get_different_errors() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    for (name, payload) in [
        ("GetGroup", of(&id)),
        ("GetParticipants", of(&id)),
        ("GetInfoAdminOnly", of(&id)),
        ("GetInviteCode", of(&id)),
        ("LeaveGroup", of(&id)),
        ("RevokeInviteCode", of(&id)),
        ("SetInfoAdminOnly", of(&id)),
        ("SetGroupSubject", json!({"groupId": id, "subject": "x"})),
        (
            "SetGroupDescription",
            json!({"groupId": id, "description": "x"}),
        ),
        ("AddParticipants", on(&id, &[DAVE])),
        ("RemoveParticipants", on(&id, &[DAVE])),
        ("PromoteAdmin", on(&id, &[DAVE])),
        ("DemoteAdmin", on(&id, &[DAVE])),
        ("DeleteGroup", json!({"groupId": id, "forEveryone": true})),
    ] {
        let left = world.refused("bob", name, payload.clone()).await;
        assert_eq!(left, ErrorCode::NotAMember, "{name}");
        let never = world.refused("carol", name, payload).await;
        assert_eq!(never, ErrorCode::GroupNotFound, "{name}");
    }
}

#[tokio::test]
async fn a_group_that_everybody_left_is_in_no_list() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    world.ok("alice", "LeaveGroup", of(&id)).await;
    assert_eq!(world.ok("alice", "ListGroups", json!({})).await, json!([]));
    assert_eq!(
        world.refused("alice", "GetGroup", of(&id)).await,
        ErrorCode::NotAMember
    );
}

#[tokio::test]
async fn deleting_leaves_the_group_to_the_others() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    assert_eq!(world.ok("alice", "DeleteGroup", of(&id)).await, json!(true));
    assert_eq!(
        world.refused("alice", "GetGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );
    assert_eq!(
        world.refused("alice", "DeleteGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );
    assert_eq!(world.roles("bob", &id).await, roles(&[(BOB, "admin")]));
}

#[tokio::test]
async fn who_has_left_deletes_the_group_from_their_list_once() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    let deleted = world.send("bob", "DeleteGroup", of(&id)).await;
    assert_eq!(deleted.outcome, Ok(json!(true)));
    assert!(deleted.events.is_empty());
    assert_eq!(
        world.refused("bob", "GetGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );
    assert_eq!(
        world.refused("bob", "DeleteGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );
    world.later(super::DAY);
    world.ok("alice", "AddParticipants", on(&id, &[BOB])).await;
    assert_eq!(world.roles("bob", &id).await.len(), 2);
}

#[tokio::test]
async fn deleting_for_everyone_empties_the_group_and_is_the_creators_while_they_are_in() {
    let world = World::new().await;
    let id = world.group_with_admins(&[BOB, CAROL, DAVE], &[BOB]).await;
    let everyone = json!({"groupId": id, "forEveryone": true});
    for session in ["carol", "bob"] {
        let refused = world
            .refused(session, "DeleteGroup", everyone.clone())
            .await;
        assert_eq!(refused, ErrorCode::NotAllowed, "{session}");
    }
    assert_eq!(world.roles("bob", &id).await.len(), 4);
    assert_eq!(
        world.ok("alice", "DeleteGroup", everyone).await,
        json!(true)
    );
    assert_eq!(
        world.refused("bob", "GetGroup", of(&id)).await,
        ErrorCode::NotAMember
    );
    assert_eq!(
        world.refused("alice", "GetGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );

    let id = world.group_with_admins(&[BOB, CAROL], &[BOB]).await;
    world.ok("alice", "LeaveGroup", of(&id)).await;
    let everyone = json!({"groupId": id, "forEveryone": true});
    assert_eq!(world.ok("bob", "DeleteGroup", everyone).await, json!(true));
    assert_eq!(
        world.refused("carol", "GetGroup", of(&id)).await,
        ErrorCode::NotAMember
    );
}
