//! Joining by the link, and requests that an admin decides.

use serde_json::{Value, json};

use super::{ALICE, Answer, BOB, CAROL, DAVE, DAY, ERIN, World, expect, of, on, outcomes, roles};
use crate::config;
use crate::contract::{CommandType, ErrorCode, Role, Timestamp};
use crate::engines::EngineError;
use crate::store::ledger::{Key, Record};
use crate::store::sandbox_groups::{Member, SandboxGroup};

impl World {
    /// Changes a group as no command of these tests does.
    async fn edit(&self, group: &str, edit: impl Fn(&mut SandboxGroup) + Send + 'static) {
        let id: crate::contract::GroupId = group.parse().unwrap();
        let n = self
            .commands
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = Key {
            session: "alice".parse().unwrap(),
            command_id: format!("edit-{n}").parse().unwrap(),
        };
        let at = Timestamp(jiff::Timestamp::UNIX_EPOCH);
        let groups = vec![id.clone()];
        let changed = self.groups.change(key, [9; 32], groups, move |world| {
            edit(world.group(&id)?.unwrap());
            world.changed(&id, CommandType::SetGroupSubject, at);
            Ok(Record {
                outcome: Ok(serde_json::value::to_raw_value(&true).unwrap()),
                events: Vec::new(),
                at,
            })
        });
        changed.await.unwrap().unwrap();
    }

    /// From now on admins have to approve who joins.
    async fn require_approval(&self, group: &str, on: bool) {
        self.edit(group, move |group| {
            group.settings.new_members_approval_required = on;
        })
        .await;
    }

    async fn code(&self, group: &str) -> String {
        let invite = self.ok("alice", "GetInviteCode", of(group)).await;
        invite["inviteCode"].as_str().unwrap().to_owned()
    }

    async fn requests(&self, group: &str) -> Vec<String> {
        let listed = self.ok("alice", "ListJoinRequests", of(group)).await;
        let who = |it: &Value| it["requesterId"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(who).collect()
    }
}

fn by(code: &str) -> Value {
    json!({ "code": code })
}

fn joined(group: &str, outcome: &str) -> Value {
    json!({"groupId": group, "outcome": outcome})
}

/// `session: event action` of each, in order.
fn seen(answer: &Answer) -> Vec<String> {
    let one = |event: &crate::contract::Event| {
        let payload = serde_json::to_value(&event.payload).unwrap();
        let kind = payload["action"].as_str().or(payload["type"].as_str());
        let (session, name) = (&event.session, event.event.as_str());
        format!("{session}: {name} {}", kind.unwrap_or_default())
            .trim_end()
            .to_owned()
    };
    answer.events.iter().map(one).collect()
}

fn payload(answer: &Answer, index: usize) -> Value {
    serde_json::to_value(&answer.events[index].payload).unwrap()
}

#[tokio::test]
async fn a_session_joins_by_the_link_of_another_and_a_second_time_is_in_already() {
    let world = World::new().await;
    let id = world.group(&[CAROL]).await;
    let code = world.code(&id).await;
    let link = format!("https://chat.whatsapp.com/{code}?mode=ac_t");
    let answer = world.send("bob", "JoinGroup", by(&link)).await;
    assert_eq!(answer.outcome, Ok(joined(&id, "ok")));
    assert_eq!(
        seen(&answer),
        [
            "alice: group.join invite",
            "alice: group.v2.participants join",
            "carol: group.join invite",
            "carol: group.v2.participants join",
            "bob: group.v2.join",
            "bob: group.join invite",
        ]
    );
    assert_eq!(payload(&answer, 0)["author"], BOB);
    assert_eq!(payload(&answer, 0)["recipientIds"], json!([BOB]));
    let expected = roles(&[
        (ALICE, "superadmin"),
        (CAROL, "participant"),
        (BOB, "participant"),
    ]);
    assert_eq!(world.roles("bob", &id).await, expected);
    let again = world.send("bob", "JoinGroup", by(&code)).await;
    assert_eq!(again.outcome, Ok(joined(&id, "alreadyMember")));
    assert!(again.events.is_empty());
}

#[tokio::test]
async fn a_join_that_is_repeated_has_the_same_answer_and_no_second_effect() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    let code = world.code(&id).await;
    let first = world.send_as("join", "bob", "JoinGroup", by(&code)).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    world.ok("alice", "RevokeInviteCode", of(&id)).await;
    let again = world.send_as("join", "bob", "JoinGroup", by(&code)).await;
    assert_eq!(first.outcome, Ok(joined(&id, "ok")));
    assert_eq!(again, first);
    assert_eq!(world.roles("alice", &id).await.len(), 1);
}

#[tokio::test]
async fn the_link_shows_the_group_to_who_is_not_in_it() {
    let world = World::new().await;
    let id = world.group(&[CAROL]).await;
    world.require_approval(&id, true).await;
    let code = world.code(&id).await;
    let info = world.ok("bob", "GetJoinInfo", by(&code)).await;
    assert_eq!(info["id"], id);
    assert_eq!(info["subject"], "Group");
    assert_eq!(info["owner"], ALICE);
    assert_eq!(info["size"], 2);
    assert_eq!(info["newMembersApprovalRequired"], true);
}

#[tokio::test]
async fn links_that_lead_nowhere_say_why() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let code = world.code(&id).await;
    world.ok("alice", "RevokeInviteCode", of(&id)).await;
    let new = world.code(&id).await;
    world
        .ok("alice", "RemoveParticipants", on(&id, &[BOB]))
        .await;
    for (session, code, expected, says) in [
        ("carol", code.as_str(), ErrorCode::EngineRejected, "(410)"),
        (
            "carol",
            "Unknown-code-12345",
            ErrorCode::GroupNotFound,
            "(406)",
        ),
        ("bob", new.as_str(), ErrorCode::NotAllowed, "(405)"),
    ] {
        for name in ["JoinGroup", "GetJoinInfo"] {
            let id = format!("{name}-{says}");
            let error = world.execute(&id, session, name, by(code)).await;
            let Err(EngineError::Refused { code, message }) = error else {
                panic!("{name} {says}: {error:?}");
            };
            assert_eq!(code, expected, "{name}: {message}");
            assert!(message.contains(says), "{name}: {message}");
        }
    }
    // Who left by themselves comes back by the link at once.
    let id = world.group(&[BOB]).await;
    let code = world.code(&id).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    let back = world.ok("bob", "JoinGroup", by(&code)).await;
    assert_eq!(back["outcome"], "ok");
}

#[tokio::test]
async fn a_full_group_is_said_to_be_full() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    world.ok("carol", "JoinGroup", by(&code)).await;
    world
        .edit(&id, |group| {
            for number in 0..1023_u64 {
                let who = format!("4915{number:08}@c.us").parse().unwrap();
                let role = Role::Participant;
                group.members.insert(who, Member { role, number });
            }
        })
        .await;
    let error = world.execute("full", "bob", "JoinGroup", by(&code)).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), ErrorCode::EngineRejected);
    assert!(error.to_string().contains("full (419)"), "{error}");
    let approved = world.ok("alice", "ApproveJoinRequests", on(&id, &[CAROL]));
    assert_eq!(outcomes(&approved.await), expect(&[("groupFull", 419)]));
    assert_eq!(world.requests(&id).await, [CAROL]);
}

#[tokio::test]
async fn where_admins_approve_a_join_is_a_request_however_often_it_is_sent() {
    let world = World::new().await;
    let id = world.group_with_admins(&[CAROL, ERIN], &[CAROL]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    let asked = world.send("bob", "JoinGroup", by(&code)).await;
    assert_eq!(asked.outcome, Ok(joined(&id, "pendingApproval")));
    // Admins learn of it; the requester and other members do not.
    let name = "group.v2.participants.join-request";
    let expected = [
        format!("alice: {name} created"),
        format!("carol: {name} created"),
    ];
    assert_eq!(seen(&asked), expected);
    let event = payload(&asked, 0);
    assert_eq!(event["requesterId"], BOB);
    assert_eq!(event["requesterPn"], BOB);
    assert_eq!(event["requestMethod"], "invite_link");
    assert_eq!(event["author"], BOB);
    let again = world.send("bob", "JoinGroup", by(&code)).await;
    assert_eq!(again.outcome, Ok(joined(&id, "pendingApproval")));
    assert!(again.events.is_empty());
    assert_eq!(
        world.refused("bob", "GetGroup", of(&id)).await,
        ErrorCode::GroupNotFound
    );
    let listed = world.ok("carol", "ListJoinRequests", of(&id)).await;
    let expected = json!([{
        "requesterId": BOB, "requesterPn": BOB, "addedById": null, "parentGroupId": null,
        "requestMethod": "invite_link", "timestamp": 1_732_355_881,
    }]);
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn an_approved_person_joins_and_a_rejected_one_may_ask_again() {
    let world = World::new().await;
    let id = world.group(&[ERIN]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    world.ok("bob", "JoinGroup", by(&code)).await;
    world.later(1_000);
    world.ok("carol", "JoinGroup", by(&code)).await;
    assert_eq!(world.requests(&id).await, [BOB, CAROL]);
    let named = on(&id, &[CAROL, DAVE, ERIN]);
    let rejected = world.send("alice", "RejectJoinRequests", named).await;
    let expected = expect(&[("ok", 200), ("notMember", 404), ("alreadyMember", 409)]);
    assert_eq!(outcomes(&rejected.outcome.clone().unwrap()), expected);
    let name = "group.v2.participants.join-request";
    assert_eq!(seen(&rejected), [format!("alice: {name} rejected")]);
    assert_eq!(payload(&rejected, 0)["requesterId"], CAROL);
    assert_eq!(payload(&rejected, 0)["author"], ALICE);
    let again = world.ok("carol", "JoinGroup", by(&code)).await;
    assert_eq!(again["outcome"], "pendingApproval");

    let named = on(&id, &[BOB, DAVE, ERIN, BOB]);
    let approved = world.send("alice", "ApproveJoinRequests", named).await;
    let expected = expect(&[
        ("ok", 200),
        ("notMember", 404),
        ("alreadyMember", 409),
        ("alreadyMember", 409),
    ]);
    assert_eq!(outcomes(&approved.outcome.clone().unwrap()), expected);
    assert_eq!(
        seen(&approved),
        [
            &format!("alice: {name} approved"),
            "alice: group.join add",
            "alice: group.v2.participants join",
            "bob: group.v2.join",
            "bob: group.join add",
        ]
    );
    let ids = approved.events.iter().map(|it| {
        let payload = serde_json::to_value(&it.payload).unwrap();
        payload["commandId"].clone()
    });
    assert!(
        ids.clone()
            .all(|id| id.is_string() && Some(&id) == ids.clone().next().as_ref())
    );
    assert_eq!(world.requests(&id).await, [CAROL]);
}

#[tokio::test]
async fn only_admins_see_and_decide_requests() {
    let world = World::new().await;
    let id = world.group(&[BOB]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    world.ok("carol", "JoinGroup", by(&code)).await;
    for (name, payload) in [
        ("ListJoinRequests", of(&id)),
        ("ApproveJoinRequests", on(&id, &[CAROL])),
        ("RejectJoinRequests", on(&id, &[CAROL])),
    ] {
        let refused = world.refused("bob", name, payload.clone()).await;
        assert_eq!(refused, ErrorCode::NotAllowed, "{name}");
        let unknown = world.refused("carol", name, payload).await;
        assert_eq!(unknown, ErrorCode::GroupNotFound, "{name}");
    }
    assert_eq!(world.requests(&id).await, [CAROL]);
}

#[tokio::test]
async fn a_member_who_adds_somebody_asks_the_admins_where_they_approve() {
    let open = config::Sandbox {
        members_can_add: true,
        ..config::Sandbox::default()
    };
    let world = World::with(open).await;
    let id = world.group(&[BOB]).await;
    world.require_approval(&id, true).await;
    let named = on(&id, &[CAROL, ALICE, "99900550403@c.us"]);
    let asked = world.send("bob", "AddParticipants", named).await;
    let expected = expect(&[
        ("pendingApproval", 421),
        ("alreadyMember", 409),
        ("privacyBlocked", 403),
    ]);
    assert_eq!(outcomes(&asked.outcome.clone().unwrap()), expected);
    let listed = world.ok("alice", "ListJoinRequests", of(&id)).await;
    assert_eq!(listed[0]["requesterId"], CAROL);
    assert_eq!(listed[0]["addedById"], BOB);
    assert_eq!(listed[0]["requestMethod"], "non_admin_add");
    // An admin adds at once, which approves whoever waits.
    let added = world
        .send("alice", "AddParticipants", on(&id, &[DAVE, CAROL]))
        .await;
    assert_eq!(
        seen(&added),
        [
            "alice: group.v2.participants.join-request approved",
            "alice: group.join add",
            "alice: group.v2.participants join",
            "bob: group.join add",
            "bob: group.v2.participants join",
            "carol: group.v2.join",
            "carol: group.join add",
        ]
    );
    assert_eq!(payload(&added, 0)["requesterId"], CAROL);
    assert!(world.requests(&id).await.is_empty());
}

#[tokio::test]
async fn leaving_and_being_removed_decide_who_may_ask_again() {
    let world = World::new().await;
    let id = world.group(&[BOB, CAROL]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    world.ok("bob", "LeaveGroup", of(&id)).await;
    world
        .ok("alice", "RemoveParticipants", on(&id, &[CAROL]))
        .await;
    let back = world.ok("bob", "JoinGroup", by(&code)).await;
    assert_eq!(back["outcome"], "pendingApproval");
    let removed = world.refused("carol", "JoinGroup", by(&code)).await;
    assert_eq!(removed, ErrorCode::NotAllowed);
    // An admin may let in at once who has left a short time ago, since they ask themselves.
    let approved = world.ok("alice", "ApproveJoinRequests", on(&id, &[BOB]));
    assert_eq!(outcomes(&approved.await), expect(&[("ok", 200)]));
    // Without approval the link lets in, and an open request is gone.
    world.ok("bob", "LeaveGroup", of(&id)).await;
    world.later(DAY);
    world.ok("bob", "JoinGroup", by(&code)).await;
    world.require_approval(&id, false).await;
    let entered = world.send("bob", "JoinGroup", by(&code)).await;
    assert_eq!(entered.outcome, Ok(joined(&id, "ok")));
    assert_eq!(seen(&entered)[0], "alice: group.join invite");
    assert!(world.requests(&id).await.is_empty());
}

/// The sandbox's private id of a phone.
fn lid(phone: &str) -> String {
    format!("8000{}", phone.replace("@c.us", "@lid"))
}

#[tokio::test]
async fn who_asks_may_be_named_by_the_private_id() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    for session in ["bob", "carol"] {
        world.ok(session, "JoinGroup", by(&code)).await;
    }
    for (name, who) in [("ApproveJoinRequests", BOB), ("RejectJoinRequests", CAROL)] {
        let named = lid(who);
        let decided = world.ok("alice", name, on(&id, &[named.as_str()])).await;
        assert_eq!(outcomes(&decided), expect(&[("ok", 200)]), "{name}");
        assert_eq!(decided[0]["id"], named, "{name}");
    }
    assert!(world.requests(&id).await.is_empty());
}

#[tokio::test]
async fn who_asks_and_is_added_by_both_ids_is_approved_once() {
    let world = World::new().await;
    let id = world.group(&[]).await;
    let code = world.code(&id).await;
    world.require_approval(&id, true).await;
    world.ok("bob", "JoinGroup", by(&code)).await;
    let both = lid(BOB);
    let added = world.send("alice", "AddParticipants", on(&id, &[BOB, both.as_str()]));
    let added = added.await;
    let expected = expect(&[("ok", 200), ("alreadyMember", 409)]);
    assert_eq!(outcomes(&added.outcome.clone().unwrap()), expected);
    let name = "group.v2.participants.join-request";
    let approved = format!("alice: {name} approved");
    let times = seen(&added).iter().filter(|it| **it == approved).count();
    assert_eq!(times, 1, "{:?}", seen(&added));
}
