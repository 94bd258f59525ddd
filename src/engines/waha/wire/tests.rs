//! Bodies as WAHA's engines send them, read into one shape.

use serde_json::{Value, json};

use super::*;
use crate::contract::{Group, OutcomeKind, ParticipantId, Role};
use crate::engines::sync::Completeness;

fn body(text: &str) -> Body {
    Body::read(text.as_bytes()).unwrap()
}

/// Baileys, whatsmeow and whatsapp-web.js on the same group.
fn the_same_group() -> [Value; 3] {
    let noweb = json!({
        "id": "120363000000000001@g.us", "subject": "Climbing", "creation": 1_732_355_881, "size": 2,
        "owner": "7715550000001@lid", "ownerPn": "15550000001@s.whatsapp.net", "desc": "Rock",
        "restrict": true, "announce": false, "joinApprovalMode": false, "memberAddMode": true,
        "participants": [
            {"id": "7715550000001@lid", "phoneNumber": "15550000001@s.whatsapp.net", "admin": "superadmin"},
            {"id": "7715550000002@lid", "phoneNumber": "15550000002@s.whatsapp.net", "admin": null},
        ],
    });
    let gows = json!({
        "JID": "120363000000000001@g.us", "OwnerJID": "7715550000001@lid",
        "OwnerPN": "15550000001@s.whatsapp.net", "Name": "Climbing", "Topic": "Rock", "IsLocked": true,
        "IsAnnounce": false, "IsJoinApprovalRequired": false, "GroupCreated": "2024-11-23T10:58:01+01:00",
        "MemberAddMode": "all_member_add",
        "Participants": [
            {"JID": "7715550000001@lid", "PhoneNumber": "15550000001@s.whatsapp.net", "LID": "7715550000001@lid",
             "IsAdmin": true, "IsSuperAdmin": true, "DisplayName": "", "Error": 0, "AddRequest": null},
            {"JID": "7715550000002@lid", "PhoneNumber": "15550000002:3@s.whatsapp.net", "LID": "7715550000002@lid",
             "IsAdmin": false, "IsSuperAdmin": false, "DisplayName": "", "Error": 0, "AddRequest": null},
        ],
    });
    let id =
        |user: &str| json!({"server": "c.us", "user": user, "_serialized": format!("{user}@c.us")});
    let webjs = json!({
        "id": {"server": "g.us", "user": "120363000000000001", "_serialized": "120363000000000001@g.us"},
        "name": "Climbing", "isGroup": true,
        "groupMetadata": {
            "id": {"server": "g.us", "user": "120363000000000001", "_serialized": "120363000000000001@g.us"},
            "creation": 1_732_355_881, "owner": id("15550000001"), "desc": "Rock", "restrict": true,
            "announce": false, "memberAddMode": "all_member_add", "membershipApprovalMode": false,
            "participants": [
                {"id": id("15550000001"), "isAdmin": true, "isSuperAdmin": true},
                {"id": id("15550000002"), "isAdmin": false, "isSuperAdmin": false},
            ],
        },
    });
    [noweb, gows, webjs]
}

#[test]
fn three_engines_describe_one_group() {
    let groups = the_same_group().map(|value| group(&value).unwrap().into_group().unwrap());
    assert_eq!(groups[0], groups[1]);
    let [group, _, by_phone] = groups;
    // whatsapp-web.js lists one id of each person.
    let mut without_lids = group.clone();
    for person in without_lids.participants.iter_mut().flatten() {
        assert!(person.lid.take().is_some(), "{person:?}");
    }
    assert_eq!(without_lids, by_phone);
    assert_eq!(group.subject.as_str(), "Climbing");
    assert_eq!(group.owner.unwrap().as_str(), "15550000001@c.us");
    assert_eq!(
        group.created_at.unwrap().to_string(),
        "2024-11-23T09:58:01.000Z"
    );
    assert!(group.settings.info_admin_only && group.settings.members_can_add_new_member);
    assert_eq!(group.participants.unwrap()[0].role, Role::Superadmin);
}

#[test]
fn a_list_of_groups_is_an_array_or_a_map() {
    let [noweb, gows, webjs] = the_same_group();
    let map = json!({ "120363000000000001@g.us": noweb });
    for listed in [map, json!([gows]), json!([webjs])] {
        assert_eq!(groups(&listed).unwrap().len(), 1);
    }
    assert_eq!(
        groups(&json!([{"JID": "120363000000000001@g.us", "Participants": null}]))
            .unwrap()
            .len(),
        1
    );
    assert!(groups(&json!("no")).is_none());
}

#[test]
fn a_group_with_its_id_alone_is_a_stub() {
    let stub = json!({"JID": "120363000000000001@g.us", "Name": "", "Participants": null, "GroupCreated": "0001-01-01T00:00:00Z"});
    let snapshot = group(&stub).unwrap();
    assert!(snapshot.is_stub());
    assert_eq!(snapshot.created_at, None);
    // It can be shown all the same, by its number.
    assert_eq!(
        snapshot.into_group().unwrap().subject.as_str(),
        "120363000000000001"
    );
}

#[test]
fn a_list_of_members_shows_whether_it_is_complete() {
    let extent = |size: Value, people: Value| {
        let told = json!({"id": "12345@g.us", "subject": "", "size": size, "participants": people});
        group(&told).unwrap().extent()
    };
    let two = || json!([{"id": "15550000001@c.us"}, {"id": "7715550000002@lid"}]);
    assert_eq!(extent(json!(2), two()), Completeness::Complete);
    assert_eq!(extent(json!(null), two()), Completeness::Complete);
    // GOWS counts nobody in all its groups.
    assert_eq!(extent(json!(0), two()), Completeness::Complete);
    assert_eq!(extent(json!(6), two()), Completeness::Partial);
    // After a creation NOWEB lists who was refused as well.
    assert_eq!(extent(json!(1), two()), Completeness::Unusable);
    for none in [json!([]), json!(null)] {
        assert_eq!(extent(json!(null), none), Completeness::Unusable);
    }
    let unreadable = json!([{"id": "15550000001@c.us"}, {"id": "status@broadcast"}, {}]);
    assert_eq!(extent(json!(null), unreadable), Completeness::Partial);
    let hosted = json!([{"id": "15550000001:99@hosted"}, {"id": "7715550000002@hosted.lid"}]);
    assert_eq!(extent(json!(2), hosted), Completeness::Complete);
    // WhatsApp Web goes on listing who has left, as such.
    let left = json!([{"id": "15550000001@c.us"}, {"id": "15550000002@c.us", "role": "left"}]);
    assert_eq!(extent(json!(1), left), Completeness::Complete);
}

#[test]
fn a_group_with_an_empty_subject_is_a_group() {
    let told =
        json!({"id": "12345@g.us", "subject": "", "participants": [{"id": "15550000001@c.us"}]});
    assert!(!group(&told).unwrap().is_stub());
}

#[test]
fn ids_are_found_at_every_level_of_an_answer() {
    let told = json!([{
        "status": "200", "jid": "7715550000002@lid",
        "content": {"tag": "participant", "attrs": {"jid": "7715550000002@lid", "phone_number": "15550000002@s.whatsapp.net"}},
    }]);
    let ids: Vec<_> = outcomes(&told).unwrap().remove(0).ids;
    let ids: Vec<_> = ids.iter().map(ParticipantId::as_str).collect();
    assert_eq!(ids, ["15550000002@c.us", "7715550000002@lid"]);
}

#[test]
fn subjects_and_descriptions_that_a_command_could_not_set_are_shown_whole() {
    let snapshot = |name: &str, about: &str| {
        group(&json!({"id": "12345@g.us", "subject": name, "desc": about})).unwrap()
    };
    let named = |name: &str| snapshot(name, "").subject;
    let long = snapshot(&"é".repeat(150), &"é".repeat(3_000));
    let long = long.into_group().unwrap();
    assert_eq!(long.subject.as_str(), "é".repeat(150));
    assert_eq!(long.description.as_str(), "é".repeat(3_000));
    // A reply that holds it can be read again.
    let text = serde_json::to_string(&long).unwrap();
    assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), long);
    assert_eq!(named("two\nlines").unwrap().as_str(), "two lines");
    assert_eq!(named(" "), None);
}

#[test]
fn outcomes_are_read_from_all_three_engines() {
    let noweb = json!([
        {"status": "200", "jid": "15550000002@s.whatsapp.net", "content": {"tag": "participant", "attrs": {}}},
        {"status": "403", "jid": "15550000003@s.whatsapp.net", "content": {"tag": "participant", "attrs": {"error": "403"},
         "content": [{"tag": "add_request", "attrs": {"code": "cV0o", "expiration": "1759028118"}}]}},
    ]);
    let gows = json!([
        {"JID": "7715550000002@lid", "PhoneNumber": "15550000002@s.whatsapp.net", "LID": "7715550000002@lid", "Error": 0, "AddRequest": null},
        {"JID": "7715550000003@lid", "PhoneNumber": "15550000003@s.whatsapp.net", "LID": "7715550000003@lid", "Error": 403,
         "AddRequest": {"Code": "cV0o", "Expiration": "2025-09-28T02:55:18Z"}},
    ]);
    let webjs = json!({
        "15550000002@c.us": {"code": 200, "message": "", "isInviteV4Sent": false},
        "15550000003@c.us": {"code": 403, "message": "", "isInviteV4Sent": true},
    });
    for (body, invites) in [(noweb, true), (gows, true), (webjs, false)] {
        let answered = outcomes(&body).unwrap();
        let codes: Vec<_> = answered.iter().map(|it| it.code).collect();
        assert_eq!(codes, [200, 403], "{body}");
        assert_eq!(answered[0].ids[0].as_str(), "15550000002@c.us", "{body}");
        assert_eq!(answered[1].invite.is_some(), invites, "{body}");
        if let Some(invite) = &answered[1].invite {
            assert_eq!(invite.code, "cV0o");
            assert_eq!(invite.expires_at.to_string(), "2025-09-28T02:55:18.000Z");
        }
    }
    assert_eq!(outcomes(&json!({"status": 200})), None);
    assert_eq!(adding(409), OutcomeKind::AlreadyMember);
    assert_eq!(adding(299), OutcomeKind::Unknown);
    assert_eq!(changing(404), OutcomeKind::NotMember);
}

#[test]
fn texts_come_bare_in_quotes_or_not_at_all() {
    let code = Some("Abcdefgh12345678".to_owned());
    for text in [
        "Abcdefgh12345678",
        "\"Abcdefgh12345678\"",
        "https://chat.whatsapp.com/Abcdefgh12345678",
        "\"https://chat.whatsapp.com/Abcdefgh12345678\"",
        "{\"inviteCode\":\"Abcdefgh12345678\"}",
    ] {
        let read = invite_code(&body(text));
        assert_eq!(read.map(|it| it.invite_code), code, "{text}");
    }
    for none in ["", "undefined", "null", "{}", "AddParticipantsError: no"] {
        assert_eq!(invite_code(&body(none)), None, "{none}");
    }
}

#[test]
fn yes_and_no_and_nothing_are_understood() {
    for (text, yes) in [
        ("", true),
        ("true", true),
        ("false", false),
        ("\"false\"", false),
        ("{\"success\":false}", false),
        ("{\"status\":200}", true),
    ] {
        assert_eq!(done(&body(text)), yes, "{text}");
    }
}

#[test]
fn a_setting_is_a_field_or_a_bare_value() {
    let field = "membersCanAddNewMember";
    for (text, value) in [
        (r#"{"membersCanAddNewMember":false}"#, Some(false)),
        (r#"{"membersCanAddNewMember":true,"more":1}"#, Some(true)),
        ("true", Some(true)),
        (r#"{"membersCanAddNewMember":null}"#, None),
        (r#"{"membersCanAddNewMember":"true"}"#, None),
        (r#"{"adminsOnly":true}"#, None),
        ("{}", None),
        ("", None),
    ] {
        assert_eq!(switch(&body(text), field), value, "{text}");
    }
}

#[test]
fn a_setting_that_an_engine_does_not_show_is_absent() {
    for shown in the_same_group() {
        let settings = group(&shown).unwrap().into_group().unwrap().settings;
        assert_eq!(settings.members_can_share_history, None, "{shown}");
        assert_eq!(settings.disappearing_seconds, None, "{shown}");
    }
    let read = |at: &str, more: Value| {
        let [mut noweb, mut gows, mut webjs] = the_same_group();
        let group = match at {
            "NOWEB" => &mut noweb,
            "GOWS" => &mut gows,
            _ => &mut webjs["groupMetadata"],
        };
        let fields = more.as_object().unwrap().clone();
        group.as_object_mut().unwrap().extend(fields);
        let whole = match at {
            "NOWEB" => noweb,
            "GOWS" => gows,
            _ => webjs,
        };
        let settings = super::group(&whole).unwrap().into_group().unwrap().settings;
        (
            settings.members_can_share_history,
            settings.disappearing_seconds,
        )
    };
    let timer = json!({"ephemeralDuration": 86_400});
    assert_eq!(read("NOWEB", timer), (None, Some(86_400)));
    let timer = json!({"ephemeralDuration": 0});
    assert_eq!(read("WEBJS", timer), (None, Some(0)));
    // whatsmeow leaves the time where the switch is off.
    let off = json!({
        "IsEphemeral": false, "DisappearingTimer": 604_800, "MemberShareHistoryMode": "admin_share",
    });
    assert_eq!(read("GOWS", off), (Some(false), Some(0)));
    let on = json!({
        "IsEphemeral": true, "DisappearingTimer": 604_800, "MemberShareHistoryMode": "all_member_share",
    });
    assert_eq!(read("GOWS", on), (Some(true), Some(604_800)));
    // An older WAHA's whatsmeow has an empty text.
    let empty = json!({"MemberShareHistoryMode": ""});
    assert_eq!(read("GOWS", empty), (None, None));
}

#[test]
fn a_body_that_was_cut_short_is_broken() {
    for broken in [&b"{\"id\":"[..], b"[1,", b"<html>", b"\"abc", b"\xff\xfe"] {
        assert_eq!(Body::read(broken), Err(UnreadableBody));
    }
    assert_eq!(body(" \n"), Body::Empty);
}

#[test]
fn times_are_seconds_milliseconds_texts_or_nothing() {
    let wanted = "2024-11-23T09:58:01.000Z";
    for value in [
        json!(1_732_355_881),
        json!(1_732_355_881_000_i64),
        json!("1732355881"),
        json!("2024-11-23T10:58:01+01:00"),
    ] {
        assert_eq!(timestamp(&value).unwrap().to_string(), wanted, "{value}");
    }
    for none in [
        json!(0),
        json!(-1),
        json!("soon"),
        json!(null),
        json!(1e300),
    ] {
        assert_eq!(timestamp(&none), None, "{none}");
    }
}

#[test]
fn ids_lose_their_device_and_their_wire_form() {
    for text in [
        "123456:7@s.whatsapp.net",
        "123456@c.us",
        "123456.0:1@s.whatsapp.net",
    ] {
        assert_eq!(participant(&json!(text)).unwrap().as_str(), "123456@c.us");
    }
    assert_eq!(
        participant(&json!("123456@lid")).unwrap().as_str(),
        "123456@lid"
    );
    for (hosted, person) in [
        ("123456@hosted", "123456@c.us"),
        ("123456:99@hosted", "123456@c.us"),
        ("123456:99@hosted.lid", "123456@lid"),
    ] {
        assert_eq!(participant(&json!(hosted)).unwrap().as_str(), person);
    }
    assert_eq!(participant(&json!("+123456@c.us")), None);
    assert_eq!(participant(&json!(7)), None);
}
