//! What WAHA gets wrong in its events is put right.

use serde_json::json;

use super::*;
use crate::contract::{JoinRequestAction, NotificationType, RequestMethod};

fn notice(engine: &str, event: &str, payload: &Value) -> Notice {
    let body = json!({
        "id": "evt_1", "timestamp": 1_732_355_881_123_i64, "event": event, "session": "default",
        "engine": engine, "me": {"id": "15550000001@c.us", "lid": "7715550000001@lid"}, "payload": payload,
    });
    read(body.to_string().as_bytes()).unwrap()
}

fn observations(engine: &str, event: &str, payload: &Value) -> (Vec<Observation>, i64) {
    match notice(engine, event, payload).content {
        NoticeContent::Group(_, observations, moment) => (observations, moment.at),
        other => panic!("{other:?}"),
    }
}

fn settings(engine: &str, event: &str, can_send: bool) -> Option<bool> {
    let people = json!([{"id": "15550000001@c.us", "pn": "15550000001@c.us", "role": "admin"}]);
    let payload = json!({"timestamp": 1, "group": {
        "id": "12345@g.us", "subject": "x", "participants": people, "membersCanSendMessages": can_send,
    }});
    match observations(engine, event, &payload).0.remove(0) {
        Observation::OwnJoined(snapshot) | Observation::Updated(snapshot) => {
            snapshot.messages_admin_only
        }
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
        let (observations, at) = observations("WEBJS", "group.v2.leave", &payload);
        assert_eq!(at, 1_732_355_881_000);
        assert_eq!(
            observations,
            [Observation::OwnLeft(NotificationType::Leave)]
        );
    }
}

#[test]
fn the_older_events_mean_any_member_with_webjs_and_the_account_with_noweb() {
    let anybody = json!({"chatId": "12345@g.us", "type": "invite", "author": "15550000009@c.us",
        "recipientIds": ["15550000002@c.us"], "timestamp": 5});
    let (told, _) = observations("WEBJS", "group.join", &anybody);
    assert!(
        matches!(&told[..], [Observation::MembersJoined(people, NotificationType::Invite)] if people.len() == 1)
    );
    let own = json!({"id": "12345@g.us", "subject": "x", "participants": [{"id": "15550000001@s.whatsapp.net", "admin": null}]});
    let (told, _) = observations("NOWEB", "group.join", &own);
    assert!(matches!(&told[..], [Observation::OwnJoined(_)]));
    let gone =
        json!({"chatId": "12345@g.us", "type": "remove", "recipientIds": ["15550000002@c.us"]});
    for name in ["group.leave", "group.left"] {
        let (told, _) = observations("WEBJS", name, &gone);
        assert!(matches!(
            &told[..],
            [Observation::MembersLeft(_, NotificationType::Remove)]
        ));
    }
}

#[test]
fn an_update_that_does_not_say_what_changed_requests_a_refresh() {
    let payload = json!({"timestamp": 1, "group": {"id": "12345@g.us"}});
    assert!(matches!(
        notice("NOWEB", "group.v2.update", &payload).content,
        NoticeContent::Refresh(_)
    ));
    let payload =
        json!({"timestamp": 1, "group": {"id": "12345@g.us", "subject": "x", "participants": []}});
    assert!(matches!(
        notice("GOWS", "group.v2.join", &payload).content,
        NoticeContent::Refresh(_)
    ));
}

#[test]
fn who_left_is_named_and_known_by_phone() {
    let payload = json!({"type": "leave", "timestamp": 1, "group": {"id": "12345@g.us"},
        "participants": [{"id": "7715550000002@lid", "pn": "15550000002@c.us", "role": "left"}]});
    let (told, _) = observations("GOWS", "group.v2.participants", &payload);
    let [Observation::MembersLeft(people, _)] = &told[..] else {
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
        notice("GOWS", "message", &payload).content,
        NoticeContent::Ignored
    ));
    let request = json!({"group": {"id": "12345@g.us"}, "action": "expired"});
    let name = "group.v2.participants.join-request";
    assert!(matches!(
        notice("GOWS", name, &request).content,
        NoticeContent::Ignored
    ));
    let status = json!({"name": "default", "status": "STOPPED"});
    assert!(matches!(
        notice("GOWS", "session.status", &status).content,
        NoticeContent::Status(..)
    ));
}

/// An update as GOWS 2026.2 posts it: without a top-level `engine`.
fn gows(payload: &Value) -> Notice {
    let body = json!({
        "id": "evt_1", "timestamp": 1_732_355_881_123_i64, "event": "group.v2.update",
        "session": "default", "environment": {"version": "2026.2.1", "engine": "GOWS"},
        "payload": payload,
    });
    read(body.to_string().as_bytes()).unwrap()
}

fn admins_write(notice: Notice) -> Option<bool> {
    match notice.content {
        NoticeContent::Group(_, mut observations, _) => match observations.remove(0) {
            Observation::Updated(snapshot) => snapshot.messages_admin_only,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn gows_is_recognised_by_its_environment_and_its_own_event_is_believed() {
    let group = json!({"id": "12345@g.us", "membersCanSendMessages": false});
    let payload = json!({"timestamp": 1, "group": group});
    assert_eq!(admins_write(gows(&payload)), Some(true));
    let data = json!({"JID": "12345@g.us", "Announce": {"IsAnnounce": true}});
    for engine in ["GOWS", "NOWEB", "WPP", ""] {
        for can_send in [true, false] {
            let group = json!({"id": "12345@g.us", "membersCanSendMessages": can_send});
            let payload = json!({"timestamp": 1, "group": group, "_data": data});
            let read = notice(engine, "group.v2.update", &payload);
            assert_eq!(admins_write(read), Some(true), "{engine} {can_send}");
        }
    }
}

#[test]
fn the_right_to_send_of_an_unknown_engine_is_read_from_the_group() {
    let group = json!({"id": "12345@g.us", "membersCanSendMessages": true});
    let payload = json!({"timestamp": 1, "group": group});
    let read = notice("WPP", "group.v2.update", &payload);
    assert!(
        matches!(read.content, NoticeContent::Refresh(_)),
        "{read:?}"
    );
}

#[test]
fn the_lock_that_webjs_sent_under_another_name_is_not_taken_for_it() {
    let add = |version: &str| {
        let body = json!({
            "id": "evt_1", "timestamp": 1_732_355_881_123_i64, "event": "group.v2.update",
            "session": "default", "engine": "WEBJS", "environment": {"version": version},
            "payload": {"timestamp": 1, "group":
                {"id": "12345@g.us", "subject": "x", "membersCanAddNewMember": true}},
        });
        match read(body.to_string().as_bytes()).unwrap().content {
            NoticeContent::Group(_, observations, _) => match &observations[..] {
                [Observation::Updated(snapshot)] => snapshot.members_can_add,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(add("2026.2.1"), None);
    assert_eq!(add("2026.7.1"), Some(true));
}

/// How somebody came or went, and who did it.
fn how(engine: &str, kind: &str, who: &str, data: &Value) -> (NotificationType, Option<String>) {
    let payload = json!({"type": kind, "timestamp": 1, "group": {"id": "12345@g.us"},
        "participants": [{"id": who, "role": "participant"}], "_data": data});
    match notice(engine, "group.v2.participants", &payload).content {
        NoticeContent::Group(_, observations, moment) => match &observations[..] {
            [Observation::MembersJoined(_, how) | Observation::MembersLeft(_, how)] => {
                (*how, moment.author.map(|it| it.id.to_string()))
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn author_and_kind_are_found_for_each_engine() {
    use NotificationType::{Add, Invite, Leave, Remove};
    let (two, nine) = ("15550000002@c.us", "15550000009@c.us");
    let baileys = |author: &str| json!({"author": format!("{author}@lid"), "authorPn": format!("{author}@s.whatsapp.net")});
    let whatsmeow = |sender: &str, reason: &str| {
        json!({"Sender": format!("77{sender}@lid"), "SenderPN": format!("{sender}@s.whatsapp.net"),
            "JoinReason": reason})
    };
    let webjs = |author: &str, kind: &str| json!({"type": kind, "author": {"_serialized": format!("{author}@c.us")}});
    let cases = [
        ("NOWEB", "join", baileys("15550000002"), Add, two),
        ("NOWEB", "join", baileys("15550000009"), Invite, nine),
        ("NOWEB", "leave", baileys("15550000002"), Remove, two),
        ("NOWEB", "leave", baileys("15550000009"), Leave, nine),
        ("GOWS", "join", whatsmeow("15550000002", ""), Add, two),
        (
            "GOWS",
            "join",
            whatsmeow("15550000009", "invite"),
            Invite,
            nine,
        ),
        ("GOWS", "leave", whatsmeow("15550000002", ""), Remove, two),
        ("GOWS", "leave", whatsmeow("15550000009", ""), Leave, nine),
        ("WEBJS", "join", webjs("15550000002", "add"), Add, two),
        (
            "WEBJS",
            "join",
            webjs("15550000009", "invite"),
            Invite,
            nine,
        ),
        (
            "WEBJS",
            "leave",
            webjs("15550000002", "remove"),
            Remove,
            two,
        ),
        ("WEBJS", "leave", webjs("15550000009", "leave"), Leave, nine),
    ];
    for (engine, kind, data, wanted, author) in cases {
        let told = how(engine, kind, nine, &data);
        assert_eq!(
            told,
            (wanted, Some(author.to_owned())),
            "{engine} {kind} {data}"
        );
    }
    assert_eq!(how("NOWEB", "leave", nine, &json!({})), (Leave, None));
}

#[test]
fn a_person_gets_the_phone_from_elsewhere_in_the_same_event() {
    let person = |who: &str, data: &Value| {
        let payload = json!({"type": "promote", "timestamp": 1, "group": {"id": "12345@g.us"},
            "participants": [{"id": who, "role": "admin"}], "_data": data});
        match observations("NOWEB", "group.v2.participants", &payload)
            .0
            .remove(0)
        {
            Observation::Promoted(people) => people[0].id.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let listed =
        json!({"participants": [{"id": "77122@lid", "phoneNumber": "15550000002@s.whatsapp.net"}]});
    assert_eq!(person("77122@lid", &listed), "15550000002@c.us");
    let actor = json!({"author": "77122@lid", "authorPn": "15550000002@s.whatsapp.net"});
    assert_eq!(person("77122@lid", &actor), "15550000002@c.us");
    let own = "7715550000001@lid";
    assert_eq!(person(own, &json!({})), "15550000001@c.us");
    assert_eq!(person("77133@lid", &actor), "77133@lid");
}

#[test]
fn a_changed_link_is_reported_and_one_that_is_always_present_is_only_shown() {
    let link = "https://chat.whatsapp.com/FakeFakeFakeFakeFake12";
    let told = |engine: &str, data: Value| {
        let payload =
            json!({"timestamp": 1, "group": {"id": "12345@g.us", "invite": link}, "_data": data});
        observations(engine, "group.v2.update", &payload).0
    };
    let changed = [Observation::InviteChanged(link.to_owned())];
    assert_eq!(
        told(
            "NOWEB",
            json!({"id": "12345@g.us", "inviteCode": "FakeFakeFakeFakeFake12"})
        ),
        changed
    );
    assert_eq!(
        told("GOWS", json!({"JID": "12345@g.us", "NewInviteLink": link})),
        changed
    );
    assert_eq!(
        told("WEBJS", json!({})),
        [Observation::InviteShown(link.to_owned())]
    );
}

#[test]
fn a_list_that_noweb_posts_as_updates_is_no_change_of_any_group() {
    let people = json!([{"id": "15550000001@s.whatsapp.net", "admin": null}]);
    let group = json!({"id": "12345@g.us", "subject": "x"});
    let listed = json!({"id": "12345@g.us", "subject": "x", "participants": people});
    let payload = json!({"timestamp": 1, "group": group, "_data": listed});
    let read = notice("NOWEB", "group.v2.update", &payload);
    assert!(matches!(read.content, NoticeContent::Ignored), "{read:?}");
    let renamed =
        json!({"id": "12345@g.us", "subject": "x", "author": "15550000002@s.whatsapp.net"});
    let payload = json!({"timestamp": 1, "group": group, "_data": renamed});
    let read = notice("NOWEB", "group.v2.update", &payload);
    assert!(matches!(read.content, NoticeContent::Group(..)), "{read:?}");
}

#[test]
fn a_group_whose_subject_is_empty_is_called_by_its_number() {
    let people = json!([{"id": "15550000001@c.us", "role": "admin"}]);
    let payload = json!({"timestamp": 1, "group": {"id": "12345@g.us", "subject": "", "participants": people}});
    let (told, _) = observations("GOWS", "group.v2.join", &payload);
    assert!(matches!(&told[..], [Observation::OwnJoined(_)]), "{told:?}");
    let payload = json!({"timestamp": 1, "group": {"id": "12345@g.us", "subject": ""}});
    match observations("GOWS", "group.v2.update", &payload)
        .0
        .remove(0)
    {
        Observation::Updated(snapshot) => assert_eq!(snapshot.subject.unwrap().as_str(), "12345"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_status_has_its_own_time() {
    let statuses = json!([{"status": "STARTING", "timestamp": 1_732_355_000_000_i64},
        {"status": "WORKING", "timestamp": 1_732_355_001_000_i64}]);
    let at = |payload: &Value| match notice("NOWEB", "session.status", payload).content {
        NoticeContent::Status(_, at) => at,
        other => panic!("{other:?}"),
    };
    let payload = json!({"status": "WORKING", "statuses": statuses});
    assert_eq!(at(&payload), 1_732_355_001_000);
    // Without it, the time at which WAHA sent it.
    assert_eq!(at(&json!({"status": "FAILED"})), 1_732_355_881_123);
}

#[test]
fn a_group_that_webjs_reports_by_an_update_was_joined_by_the_account() {
    let data = json!({"type": "create", "author": "15550000001@c.us", "recipientIds": []});
    let payload = json!({"timestamp": 1_732_355_881, "_data": data, "group": {
        "id": "12345@g.us", "subject": "New", "membersCanSendMessages": false,
    }});
    let (told, _) = observations("WEBJS", "group.v2.update", &payload);
    let [Observation::OwnJoined(snapshot)] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(snapshot.subject, Some("New".parse().unwrap()));
    assert_eq!(snapshot.owner, Some("15550000001@c.us".parse().unwrap()));
    assert_eq!(snapshot.people, None, "it does not say who is in it");
}

#[test]
fn a_request_to_join_is_read_from_every_engine() {
    // Field names and values: WAHA 2026.8.2 (docs; NOWEB tells phone and method, GOWS no method).
    for (engine, more, id, method, author) in [
        (
            "NOWEB",
            json!({"requesterId": "915550000009@lid", "requesterPn": "15550000009@c.us",
                   "requestMethod": "invite_link", "timestamp": 1_732_355_881_000_i64,
                   "_data": {"author": "915550000009@lid"}}),
            "15550000009@c.us",
            Some(RequestMethod::InviteLink),
            Some("15550000009@c.us"),
        ),
        (
            "GOWS",
            json!({"requesterId": "915550000009@lid", "requestMethod": null,
                   "timestamp": 1_732_355_881_000_i64, "_data": {}}),
            "915550000009@lid",
            None,
            None,
        ),
        (
            "WEBJS",
            json!({"requesterId": "15550000009@c.us", "requesterPn": null,
                   "requestMethod": "NonAdminAdd", "timestamp": 1_732_355_881,
                   "_data": {"author": "15550000002@c.us"}}),
            "15550000009@c.us",
            Some(RequestMethod::NonAdminAdd),
            Some("15550000002@c.us"),
        ),
    ] {
        let mut payload = more;
        payload["group"] = json!({"id": "12345@g.us"});
        payload["action"] = json!("created");
        let name = "group.v2.participants.join-request";
        let NoticeContent::Group(_, observations, moment) = notice(engine, name, &payload).content
        else {
            panic!("{engine}");
        };
        assert_eq!(moment.at, 1_732_355_881_000, "{engine}");
        let found = moment.author.map(|it| it.id.to_string());
        assert_eq!(found.as_deref(), author, "{engine}");
        let [
            Observation::JoinRequests {
                action,
                people,
                method: found,
            },
        ] = observations.as_slice()
        else {
            panic!("{engine}: {observations:?}");
        };
        assert_eq!(*action, JoinRequestAction::Created);
        assert_eq!(people[0].id.as_str(), id, "{engine}");
        assert_eq!(*found, method, "{engine}");
    }
}
