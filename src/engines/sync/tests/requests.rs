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

#[test]
fn a_join_long_after_the_request_of_a_command_is_not_its_effect() {
    let mut world = World::default();
    expects(&mut world, "join-1", ExpectedChange::OwnJoin);
    // The command was given up, and an admin adds the account an hour later.
    let events = world.apply(&by_admin(
        3_600,
        Observation::OwnJoined(whole(&[ADMIN, ME])),
    ));
    assert_eq!(events[0]["event"], "group.v2.join");
    assert!(events[0]["payload"]["commandId"].is_null(), "{events:?}");
    assert_eq!(events[1]["payload"]["type"], "add", "{events:?}");
}

#[test]
fn a_join_is_attributed_to_the_latest_attempt_of_its_command() {
    let mut world = World::default();
    for at in [1_000, 3_600_000] {
        world.state.expect(PendingCommand {
            command: command("join-1"),
            at,
            reported: false,
            change: ExpectedChange::OwnJoin,
        });
    }
    assert_eq!(world.state.pending_commands.len(), 1);
    let events = world.apply(&notification(
        3_601,
        Observation::OwnJoined(whole(&[ADMIN, ME])),
    ));
    assert_eq!(events[0]["payload"]["commandId"], "join-1");
    assert_eq!(events[1]["payload"]["type"], "invite");
}

#[test]
fn what_was_asked_before_the_account_left_is_forgotten() {
    let mut world = World::with(&[ADMIN]);
    world.apply(&notification(1, created(ASKS)));
    world.apply(&notification(
        2,
        Observation::OwnLeft(NotificationType::Leave),
    ));
    assert!(world.state.requests.is_empty());
    // Decided while nobody reported it to us, then asked again.
    world.apply(&notification(
        3,
        Observation::OwnJoined(whole(&[ADMIN, ME])),
    ));
    let events = world.apply(&notification(4, created(ASKS)));
    assert_eq!(short(&events), [format!("request created {ASKS} {ASKS} -")]);
}

#[test]
fn a_request_that_is_newer_than_the_recorded_leave_makes_the_group_be_read() {
    for (at, is_read) in [(1_000, false), (9_000, true)] {
        let mut world = World::with(&[ADMIN]);
        world.apply(&notification(
            2,
            Observation::OwnLeft(NotificationType::Leave),
        ));
        let decided = request(JoinRequestAction::Rejected, ASKS);
        let answer = report(Source::Command(command("reject-1")), at, vec![decided]);
        let (events, due) = world.apply_and_refresh(&answer);
        assert!(events.is_empty());
        assert_eq!(due.is_some(), is_read, "{at}");
    }
}

#[test]
fn of_very_many_requests_the_oldest_are_forgotten() {
    let mut world = World::with(&[ADMIN]);
    let who = |n: i64| format!("1555{n:07}@c.us");
    for n in 0..11 {
        let people = (100 * n..100 * (n + 1)).map(|it| person(&who(it)));
        let asked = Observation::JoinRequests {
            action: JoinRequestAction::Created,
            people: people.collect(),
            method: None,
        };
        assert_eq!(world.apply(&notification(n, asked)).len(), 100);
    }
    assert_eq!(world.state.requests.len(), 1_024);
    // The newest one is known, and the oldest one is not.
    let newest = notification(20, created(&who(1_099)));
    assert!(world.apply(&newest).is_empty());
    let oldest = notification(21, created(&who(0)));
    assert_eq!(world.apply(&oldest).len(), 1);
    assert_eq!(world.state.requests.len(), 1_024);
}

#[test]
fn a_request_is_found_by_either_id_of_its_requester() {
    for (asks, decides) in [(ASKS, ASKS_LID), (ASKS_LID, ASKS)] {
        let mut world = World::with(&[ADMIN]);
        world.apply(&notification(1, created(asks)));
        let both = Person {
            lid: Some(id(ASKS_LID)),
            ..person(ASKS)
        };
        world.state.phones.insert(id(ASKS_LID), id(ASKS));
        let rejected = request(JoinRequestAction::Rejected, decides);
        assert_eq!(world.apply(&by_admin(2, rejected)).len(), 1);
        // The same request under the other id is no second one.
        let again = Observation::JoinRequests {
            action: JoinRequestAction::Rejected,
            people: vec![both],
            method: None,
        };
        assert!(world.apply(&by_admin(3, again)).is_empty(), "{asks}");
        assert_eq!(world.state.requests.len(), 1, "{asks}");
    }
}
