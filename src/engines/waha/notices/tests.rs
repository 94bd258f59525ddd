//! What WAHA gets wrong in its events is put right.

use serde_json::json;

use super::*;
use crate::contract::NotificationType;

fn notice(engine: &str, event: &str, payload: &Value) -> Notice {
    let body = json!({
        "id": "evt_1", "timestamp": 1_732_355_881_123_i64, "event": event, "session": "default",
        "engine": engine, "me": {"id": "15550000001@c.us", "lid": "7715550000001@lid"}, "payload": payload,
    });
    read(body.to_string().as_bytes()).unwrap()
}

fn claims(engine: &str, event: &str, payload: &Value) -> (Vec<Claim>, i64) {
    match notice(engine, event, payload).what {
        What::Group(_, claims, moment) => (claims, moment.at),
        other => panic!("{other:?}"),
    }
}

fn settings(engine: &str, event: &str, can_send: bool) -> Option<bool> {
    let people = json!([{"id": "15550000001@c.us", "pn": "15550000001@c.us", "role": "admin"}]);
    let payload = json!({"timestamp": 1, "group": {
        "id": "12345@g.us", "subject": "x", "participants": people, "membersCanSendMessages": can_send,
    }});
    match claims(engine, event, &payload).0.remove(0) {
        Claim::Joined(seen) | Claim::Updated(seen) => seen.messages_admin_only,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_may_send_messages_is_inverted_everywhere_but_in_updates_of_gows() {
    for engine in ["WEBJS", "NOWEB", "GOWS"] {
        assert_eq!(
            settings(engine, "group.v2.join", true),
            Some(true),
            "{engine}"
        );
    }
    assert_eq!(settings("NOWEB", "group.v2.update", true), Some(true));
    assert_eq!(settings("WEBJS", "group.v2.update", false), Some(false));
    assert_eq!(settings("GOWS", "group.v2.update", true), Some(false));
}

#[test]
fn seconds_and_milliseconds_are_the_same_moment() {
    for at in [json!(1_732_355_881), json!(1_732_355_881_000_i64)] {
        let payload = json!({"timestamp": at, "group": {"id": "12345@g.us"}});
        let (claims, at) = claims("WEBJS", "group.v2.leave", &payload);
        assert_eq!(at, 1_732_355_881_000);
        assert_eq!(claims, [Claim::Left(NotificationType::Leave)]);
    }
}

#[test]
fn the_older_events_mean_anybody_with_webjs_and_oneself_with_noweb() {
    let anybody = json!({"chatId": "12345@g.us", "type": "invite", "author": "15550000009@c.us",
        "recipientIds": ["15550000002@c.us"], "timestamp": 5});
    let (told, _) = claims("WEBJS", "group.join", &anybody);
    assert!(
        matches!(&told[..], [Claim::Came(people, NotificationType::Invite)] if people.len() == 1)
    );
    let own = json!({"id": "12345@g.us", "subject": "x", "participants": [{"id": "15550000001@s.whatsapp.net", "admin": null}]});
    let (told, _) = claims("NOWEB", "group.join", &own);
    assert!(matches!(&told[..], [Claim::Joined(_)]));
    let gone =
        json!({"chatId": "12345@g.us", "type": "remove", "recipientIds": ["15550000002@c.us"]});
    for name in ["group.leave", "group.left"] {
        let (told, _) = claims("WEBJS", name, &gone);
        assert!(matches!(
            &told[..],
            [Claim::Went(_, NotificationType::Remove)]
        ));
    }
}

#[test]
fn an_update_that_does_not_say_what_changed_asks_for_a_look() {
    let payload = json!({"timestamp": 1, "group": {"id": "12345@g.us"}});
    assert!(matches!(
        notice("NOWEB", "group.v2.update", &payload).what,
        What::Look(_)
    ));
    let payload =
        json!({"timestamp": 1, "group": {"id": "12345@g.us", "subject": "x", "participants": []}});
    assert!(matches!(
        notice("GOWS", "group.v2.join", &payload).what,
        What::Look(_)
    ));
}

#[test]
fn who_left_is_named_and_known_by_phone() {
    let payload = json!({"type": "leave", "timestamp": 1, "group": {"id": "12345@g.us"},
        "participants": [{"id": "7715550000002@lid", "pn": "15550000002@c.us", "role": "left"}]});
    let (told, _) = claims("GOWS", "group.v2.participants", &payload);
    let [Claim::Went(people, _)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(people[0].id.as_str(), "15550000002@c.us");
    let read = notice("GOWS", "group.v2.participants", &payload);
    assert_eq!(read.me.len(), 2);
}

#[test]
fn what_there_is_no_event_for_is_passed_over() {
    let payload = json!({"body": "hello"});
    assert!(matches!(
        notice("GOWS", "message", &payload).what,
        What::Other
    ));
    let request = json!({"group": {"id": "12345@g.us"}, "action": "created"});
    let name = "group.v2.participants.join-request";
    assert!(matches!(notice("GOWS", name, &request).what, What::Other));
    let status = json!({"name": "default", "status": "STOPPED"});
    assert!(matches!(
        notice("GOWS", "session.status", &status).what,
        What::Status(..)
    ));
}
