//! Requests to join, and the account's own join by the link.

use serde_json::Value;

use super::*;
use crate::contract::{JoinRequestAction, RequestMethod};
use crate::engines::sync::{ExpectedChange, PendingCommand};

const ASKS: &str = "15550000009@c.us";
const ASKS_LID: &str = "915550000009@lid";
const ADMIN: &str = "15550000002@c.us";

fn request(action: JoinRequestAction, who: &str) -> Observation {
    Observation::JoinRequests {
        action,
        people: vec![person(who)],
        method: None,
    }
}

fn created(who: &str) -> Observation {
    Observation::JoinRequests {
        action: JoinRequestAction::Created,
        people: vec![person(who)],
        method: Some(RequestMethod::InviteLink),
    }
}

fn added(who: &str) -> Observation {
    Observation::MembersJoined(vec![person(who)], NotificationType::Add)
}

fn by_admin(n: i64, observation: Observation) -> Report {
    Report {
        author: Some(person(ADMIN)),
        ..notification(n, observation)
    }
}

fn expects(world: &mut World, by: &str, change: ExpectedChange) {
    world.state.expect(PendingCommand {
        command: command(by),
        at: 1_000,
        reported: false,
        change,
    });
}

/// Name, action, requester, author and command of each event.
fn short(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let one = |event: &Value| {
        let payload = &event["payload"];
        let kind = if payload["action"].is_string() {
            &payload["action"]
        } else {
            &payload["type"]
        };
        let words = [
            text(&event["event"]).replace("group.v2.participants.join-request", "request"),
            text(kind),
            text(&payload["requesterId"]),
            text(&payload["author"]),
            text(&payload["commandId"]),
        ];
        words.join(" ")
    };
    events.iter().map(one).collect()
}

#[test]
fn a_request_is_one_event_however_often_it_is_reported() {
    let mut world = World::with(&[ADMIN]);
    let events = world.apply(&notification(1, created(ASKS)));
    assert_eq!(short(&events), [format!("request created {ASKS} {ASKS} -")]);
    assert_eq!(events[0]["payload"]["requestMethod"], "invite_link");
    assert!(world.apply(&notification(2, created(ASKS))).is_empty());
    let rejected = by_admin(3, request(JoinRequestAction::Rejected, ASKS));
    let events = world.apply(&rejected);
    assert_eq!(
        short(&events),
        [format!("request rejected {ASKS} {ADMIN} -")]
    );
    // Known from its creation.
    assert_eq!(events[0]["payload"]["requestMethod"], "invite_link");
    let again = by_admin(4, request(JoinRequestAction::Rejected, ASKS));
    assert!(world.apply(&again).is_empty());
    // An old report of the creation comes late, a new request does not.
    assert!(world.apply(&notification(1, created(ASKS))).is_empty());
    assert_eq!(world.apply(&notification(5, created(ASKS))).len(), 1);
    let events = world.apply(&notification(6, request(JoinRequestAction::Revoked, ASKS)));
    assert_eq!(short(&events), [format!("request revoked {ASKS} {ASKS} -")]);
}

#[test]
fn a_request_that_was_made_before_we_listened_is_decided_all_the_same() {
    let mut world = World::with(&[ADMIN]);
    let rejected = by_admin(1, request(JoinRequestAction::Rejected, ASKS_LID));
    let events = world.apply(&rejected);
    assert_eq!(
        short(&events),
        [format!("request rejected {ASKS_LID} {ADMIN} -")]
    );
    assert!(events[0]["payload"]["requesterPn"].is_null());
}

#[test]
fn who_waits_and_is_let_in_has_been_approved() {
    let mut world = World::with(&[ADMIN]);
    world.apply(&notification(1, created(ASKS)));
    let events = world.apply(&by_admin(2, added(ASKS)));
    let wanted = [
        format!("request approved {ASKS} {ADMIN} -"),
        format!("group.join add - {ADMIN} -"),
        format!("group.v2.participants join - {ADMIN} -"),
    ];
    assert_eq!(short(&events), wanted);
}

#[test]
fn who_waits_and_comes_by_the_link_was_approved_by_nobody() {
    let mut world = World::with(&[ADMIN]);
    world.apply(&notification(1, created(ASKS)));
    let came = Report {
        author: Some(person(ASKS)),
        ..notification(
            2,
            Observation::MembersJoined(vec![person(ASKS)], NotificationType::Invite),
        )
    };
    assert_eq!(world.names(&came), ["group.join", "group.v2.participants"]);
}

#[test]
fn our_own_decisions_are_one_event_whichever_report_is_first() {
    for answer_first in [true, false] {
        for is_known in [true, false] {
            let mut world = World::with(&[ADMIN]);
            if is_known {
                world.apply(&notification(0, created(ASKS)));
            }
            let people: std::collections::BTreeSet<_> = [id(ASKS)].into();
            expects(&mut world, "approve-1", ExpectedChange::Approve(people));
            let decided = vec![request(JoinRequestAction::Approved, ASKS), added(ASKS)];
            let answer = report(Source::Command(command("approve-1")), 1_000, decided);
            let event = by_admin(1, added(ASKS));
            let order = if answer_first {
                [&answer, &event]
            } else {
                [&event, &answer]
            };
            let wanted = [
                format!("request approved {ASKS} {ME} approve-1"),
                format!("group.join add - {ME} approve-1"),
                format!("group.v2.participants join - {ME} approve-1"),
            ];
            assert_eq!(
                short(&world.apply(order[0])),
                wanted,
                "{answer_first} {is_known}"
            );
            assert!(
                world.apply(order[1]).is_empty(),
                "{answer_first} {is_known}"
            );
        }
        let mut world = World::with(&[ADMIN]);
        expects(
            &mut world,
            "reject-1",
            ExpectedChange::Reject([id(ASKS)].into()),
        );
        let rejected = request(JoinRequestAction::Rejected, ASKS);
        let answer = report(
            Source::Command(command("reject-1")),
            1_000,
            vec![rejected.clone()],
        );
        let event = by_admin(1, rejected);
        let order = if answer_first {
            [&answer, &event]
        } else {
            [&event, &answer]
        };
        let wanted = [format!("request rejected {ASKS} {ME} reject-1")];
        assert_eq!(short(&world.apply(order[0])), wanted, "{answer_first}");
        assert!(world.apply(order[1]).is_empty(), "{answer_first}");
    }
}

#[test]
fn a_join_by_our_command_is_an_invite_whichever_report_is_first() {
    for answer_first in [true, false] {
        let mut world = World::default();
        expects(&mut world, "join-1", ExpectedChange::OwnJoin);
        let shown = || Observation::OwnJoined(whole(&[ADMIN, ME]));
        let answer = report(Source::Command(command("join-1")), 1_000, vec![shown()]);
        let event = notification(1, shown());
        let order = if answer_first {
            [&answer, &event]
        } else {
            [&event, &answer]
        };
        let events = world.apply(order[0]);
        let wanted = [
            format!("group.v2.join - - {ME} join-1"),
            format!("group.join invite - {ME} join-1"),
        ];
        assert_eq!(short(&events), wanted, "{answer_first}");
        assert_eq!(
            events[1]["payload"]["recipientIds"],
            serde_json::json!([ME])
        );
        assert!(world.apply(order[1]).is_empty(), "{answer_first}");
    }
}

#[test]
fn that_the_account_was_outside_is_known_until_the_command_ends() {
    let mut world = World::default();
    expects(&mut world, "join-1", ExpectedChange::OwnJoin);
    // An hour later.
    world.apply(&notification(
        3_600,
        Observation::OwnJoined(whole(&[ADMIN, ME])),
    ));
    assert!(world.state.is_pending(&command("join-1")));
    world.state.drop_pending(&command("join-1"));
    assert!(!world.state.is_pending(&command("join-1")));
}
