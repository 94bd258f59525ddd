//! Which session sees what, in which order.

use serde_json::{Value, json};

use super::{ALICE, Answer, BOB, CAROL, DAVE, ERIN, World, of, on, person};

/// `session: event` of each, in order.
fn seen(answer: &Answer) -> Vec<String> {
    answer
        .events
        .iter()
        .map(|e| format!("{}: {}", e.session, e.event.as_str()))
        .collect()
}

/// The payloads that a session saw, without ids and times.
fn payloads(answer: &Answer, session: &str) -> Vec<Value> {
    let of_session = answer
        .events
        .iter()
        .filter(|event| event.session.as_str() == session);
    let bare = |event: &crate::contract::Event| {
        let mut payload = serde_json::to_value(&event.payload).unwrap();
        let fields = payload.as_object_mut().unwrap();
        for varying in ["id", "timestamp", "commandId"] {
            fields.remove(varying);
        }
        payload
    };
    of_session.map(bare).collect()
}

fn notification(group: &str, author: &str, kind: &str, who: &[&str], sequence: u64) -> Value {
    json!({"chatId": group, "author": author, "type": kind, "body": "", "recipientIds": who,
           "sequence": sequence})
}

#[tokio::test]
async fn creating_sends_a_join_to_every_session_in_the_group() {
    let world = World::new().await;
    let payload = json!({"name": "Group", "participants": [BOB, DAVE, "9990000404@c.us"]});
    let made = world.send("alice", "CreateGroup", payload).await;
    assert_eq!(
        seen(&made),
        [
            "alice: group.v2.join",
            "alice: group.join",
            "bob: group.v2.join",
            "bob: group.join"
        ]
    );
    let group = made.outcome.clone().unwrap();
    let id = group["id"].as_str().unwrap();
    for session in ["alice", "bob"] {
        let told = payloads(&made, session);
        assert_eq!(
            told[0]["group"]["participants"].as_array().unwrap().len(),
            3
        );
        assert_eq!(told[0]["sequence"], 1);
        let who = [ALICE, BOB, DAVE];
        assert_eq!(told[1], notification(id, ALICE, "create", &who, 2));
    }
}

#[tokio::test]
async fn adding_sends_events_to_old_and_new_members() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let added = world
        .send("alice", "AddParticipants", on(&id, &[CAROL, DAVE, BOB]))
        .await;
    assert_eq!(
        seen(&added),
        [
            "alice: group.join",
            "alice: group.v2.participants",
            "bob: group.join",
            "bob: group.v2.participants",
            "carol: group.v2.join",
            "carol: group.join",
        ]
    );
    let alice = payloads(&added, "alice");
    assert_eq!(alice[0], notification(&id, ALICE, "add", &[CAROL, DAVE], 3));
    let joined = json!({
        "type": "join", "group": {"id": id}, "author": ALICE, "sequence": 4,
        "participants": [
            person(CAROL, Some("participant")), person(DAVE, Some("participant")),
        ],
    });
    assert_eq!(alice[1], joined);
    let carol = payloads(&added, "carol");
    assert_eq!(carol[0]["group"]["size"], 4);
    assert_eq!(carol[1], notification(&id, ALICE, "add", &[CAROL, DAVE], 2));
}

#[tokio::test]
async fn removing_sends_events_to_remaining_and_removed_members() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL, DAVE]).await;
    let removed = world
        .send("alice", "RemoveParticipants", on(&id, &[BOB, DAVE]))
        .await;
    assert_eq!(
        seen(&removed),
        [
            "alice: group.left",
            "alice: group.v2.participants",
            "carol: group.left",
            "carol: group.v2.participants",
            "bob: group.v2.leave",
            "bob: group.left",
        ]
    );
    let carol = payloads(&removed, "carol");
    assert_eq!(
        carol[0],
        notification(&id, ALICE, "remove", &[BOB, DAVE], 3)
    );
    assert_eq!(
        carol[1]["participants"],
        json!([person(BOB, None), person(DAVE, None)])
    );
    let bob = payloads(&removed, "bob");
    assert_eq!(
        bob[0],
        json!({"group": {"id": id}, "author": ALICE, "sequence": 3})
    );
    // Bob hears nothing more, and counts on where he was when he is back.
    let subject = json!({"groupId": id, "subject": "new"});
    let changed = world.send("alice", "SetGroupSubject", subject).await;
    assert_eq!(
        seen(&changed),
        ["alice: group.v2.update", "carol: group.v2.update"]
    );
    let back = world
        .send("alice", "AddParticipants", on(&id, &[BOB]))
        .await;
    assert_eq!(payloads(&back, "bob")[0]["sequence"], 5);
}

#[tokio::test]
async fn the_next_admin_after_the_last_one_left_has_no_author() {
    let world = World::new().await;
    let id = world.group(&[BOB, DAVE]).await;
    let left = world.send("alice", "LeaveGroup", of(&id)).await;
    assert_eq!(
        seen(&left),
        [
            "bob: group.left",
            "bob: group.v2.participants",
            "alice: group.v2.leave",
            "alice: group.left",
            "bob: group.v2.participants",
        ]
    );
    let bob = payloads(&left, "bob");
    assert_eq!(bob[0], notification(&id, ALICE, "leave", &[ALICE], 3));
    let promoted = json!({
        "type": "promote", "group": {"id": id}, "author": null, "sequence": 5,
        "participants": [person(BOB, Some("admin"))],
    });
    assert_eq!(bob[2], promoted);
}

#[tokio::test]
async fn promoting_and_demoting_name_whom_it_concerned_with_their_new_role() {
    let world = World::new().await;
    let id = world.group(&[BOB, DAVE]).await;
    let promoted = world
        .send("alice", "PromoteAdmin", on(&id, &[DAVE, ERIN, ALICE]))
        .await;
    assert_eq!(
        seen(&promoted),
        ["alice: group.v2.participants", "bob: group.v2.participants"]
    );
    let bob = payloads(&promoted, "bob");
    assert_eq!(bob[0]["type"], "promote");
    assert_eq!(bob[0]["participants"], json!([person(DAVE, Some("admin"))]));
    let demoted = world.send("alice", "DemoteAdmin", on(&id, &[DAVE])).await;
    let bob = payloads(&demoted, "bob");
    assert_eq!(bob[0]["type"], "demote");
    assert_eq!(
        bob[0]["participants"],
        json!([person(DAVE, Some("participant"))])
    );
}

#[tokio::test]
async fn an_update_has_what_changed_and_nothing_else() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    for (name, payload, changed) in [
        (
            "SetGroupSubject",
            json!({"subject": "new"}),
            json!({"subject": "new"}),
        ),
        (
            "SetGroupDescription",
            json!({"description": "d"}),
            json!({"description": "d"}),
        ),
        (
            "SetGroupDescription",
            json!({"description": ""}),
            json!({"description": ""}),
        ),
        (
            "SetInfoAdminOnly",
            json!({"adminsOnly": true}),
            json!({"infoAdminOnly": true}),
        ),
    ] {
        let mut payload = payload;
        payload["groupId"] = json!(id);
        let answer = world.send("alice", name, payload).await;
        assert_eq!(seen(&answer), ["alice: group.v2.update"], "{name}");
        let mut expected = changed;
        expected["id"] = json!(id);
        assert_eq!(payloads(&answer, "alice")[0]["group"], expected, "{name}");
    }
}

#[tokio::test]
async fn a_new_invite_code_is_sent_to_admins_only() {
    let world = World::new().await;
    let id = world.group_with_admins(&[BOB, CAROL], &[CAROL]).await;
    let revoked = world.send("alice", "RevokeInviteCode", of(&id)).await;
    assert_eq!(
        seen(&revoked),
        ["alice: group.v2.update", "carol: group.v2.update"]
    );
    let url = &revoked.outcome.clone().unwrap()["inviteUrl"];
    assert_eq!(&payloads(&revoked, "carol")[0]["group"]["invite"], url);
}

#[tokio::test]
async fn every_event_has_its_own_id_and_names_the_command() {
    let world = World::new().await;
    let payload = json!({"name": "Group", "participants": [BOB, CAROL]});
    let made = world
        .send_as("the-command", "alice", "CreateGroup", payload)
        .await;
    let mut ids: Vec<_> = made.events.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    for event in &made.events {
        let payload = serde_json::to_value(&event.payload).unwrap();
        assert_eq!(payload["commandId"], "the-command");
        assert_eq!(payload["timestamp"], 1_732_355_881);
        assert_eq!(event.timestamp, 1_732_355_881_123);
    }
}
