//! Promoting and demoting.

use super::{ALICE, BOB, CAROL, DAVE, World, expect, of, on, outcomes, roles};
use crate::contract::ErrorCode;

#[tokio::test]
async fn only_admins_promote_and_demote() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL]).await;
    for name in ["PromoteAdmin", "DemoteAdmin"] {
        let refused = world.refused("bob", name, on(&id, &[CAROL])).await;
        assert_eq!(refused, ErrorCode::NotAllowed, "{name}");
    }
    world.ok("alice", "PromoteAdmin", on(&id, &[BOB])).await;
    let promoted = world.ok("bob", "PromoteAdmin", on(&id, &[CAROL])).await;
    assert_eq!(outcomes(&promoted), expect(&[("ok", 200)]));
}

#[tokio::test]
async fn promoting_an_admin_and_demoting_a_participant_changes_nothing() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL]).await;
    let promoted = world
        .send("alice", "PromoteAdmin", on(&id, &[ALICE, BOB, BOB, DAVE]))
        .await;
    let expected = expect(&[
        ("alreadyAdmin", 200),
        ("ok", 200),
        ("alreadyAdmin", 200),
        ("notMember", 404),
    ]);
    assert_eq!(outcomes(&promoted.outcome.unwrap()), expected);
    let again = world.send("alice", "PromoteAdmin", on(&id, &[BOB])).await;
    assert_eq!(
        outcomes(&again.outcome.unwrap()),
        expect(&[("alreadyAdmin", 200)])
    );
    assert!(again.events.is_empty());
    let demoted = world.send("alice", "DemoteAdmin", on(&id, &[CAROL])).await;
    assert_eq!(
        outcomes(&demoted.outcome.unwrap()),
        expect(&[("notAdmin", 200)])
    );
    assert!(demoted.events.is_empty());
    let history = world.groups.history(&id.parse().unwrap()).await.unwrap();
    assert_eq!(history.len(), 2);
}

#[tokio::test]
async fn the_creator_cannot_be_demoted() {
    let world = World::new().await;
    let id = world.group_with_admins(&[BOB], &[BOB]).await;
    for session in ["bob", "alice"] {
        let demoted = world.ok(session, "DemoteAdmin", on(&id, &[ALICE])).await;
        assert_eq!(outcomes(&demoted), expect(&[("notAllowed", 403)]));
    }
}

#[tokio::test]
async fn the_last_admin_stays_one() {
    let world = World::new().await;
    let id = world.group_with_admins(&[BOB, CAROL], &[BOB, CAROL]).await;
    world.ok("alice", "LeaveGroup", of(&id)).await;
    let demoted = world.ok("bob", "DemoteAdmin", on(&id, &[CAROL, BOB])).await;
    assert_eq!(
        outcomes(&demoted),
        expect(&[("ok", 200), ("notAllowed", 403)])
    );
    let expected = roles(&[(BOB, "admin"), (CAROL, "participant")]);
    assert_eq!(world.roles("bob", &id).await, expected);
}
