//! The form in which the state of groups and sessions is stored: a release reads what earlier ones wrote.

use serde_json::json;

use super::*;

/// Reads a stored value and writes it again: whatever the types no longer know would be missing.
fn rewritten<T: serde::de::DeserializeOwned + Serialize>(stored: &Value) -> Value {
    let read: T = serde_json::from_value(stored.clone()).unwrap();
    serde_json::to_value(read).unwrap()
}

fn snapshot() -> Value {
    json!({
        "id": "12345@g.us", "subject": "Climbing", "description": "Ropes", "owner": ME,
        "created_at": "2026-07-01T10:00:00.000Z", "info_admin_only": true, "messages_admin_only": false,
        "members_can_add": true, "approval_required": false,
        "people": [{"id": ME, "lid": MY_LID, "role": "superadmin"}], "unread": 1, "size": 2
    })
}

fn report(source: &Value, observations: &Value) -> Value {
    json!({
        "source": source, "at": 5, "heard": 6, "now": 7, "me": [ME, MY_LID],
        "author": {"id": ME, "lid": null, "role": "admin"}, "claims": observations,
        "trace": {"traceparent": "00-1-2-01"}
    })
}

#[test]
fn the_state_of_a_group_is_stored_in_the_form_of_earlier_releases() {
    let people = json!([{"id": ME, "lid": null, "role": "participant"}]);
    let doubt = json!({"since": 3, "role": "admin"});
    let value = |value: Value| json!({"value": value, "at": 1, "heard": 2});
    let causes = [
        json!({"Come": [ME]}),
        json!({"Go": [ME]}),
        json!({"Promote": [ME]}),
        json!({"Demote": [ME]}),
        json!("Leave"),
        json!({"Subject": "Climbing"}),
        json!({"Description": "Ropes"}),
        json!({"InfoAdminOnly": true}),
        json!("Invite"),
    ];
    let causes = causes.map(|what| json!({"command": "c-1", "at": 4, "told": true, "what": what}));
    let observations = json!([
        {"Joined": snapshot()}, {"Left": "leave"}, {"Came": [people, "add"]},
        {"Went": [people, "remove"]}, {"Promoted": people}, {"Demoted": people},
        {"Updated": snapshot()}, {"Invite": "https://chat.whatsapp.com/abcdefgh"},
        {"InviteShown": "https://chat.whatsapp.com/abcdefgh"}, {"Compared": snapshot()}, "Missing"
    ]);
    let stored = json!({
        "sequence": 9,
        "inside": value(json!(true)),
        "out_shown": true,
        "inside_doubt": {"since": 3, "role": null},
        "joined": {"command": "c-2", "author": ME, "how": "invite", "heard": 8, "shown": true},
        "whole": true,
        "subject": value(json!("Climbing")),
        "description": value(json!("Ropes")),
        "info_admin_only": value(json!(true)),
        "messages_admin_only": value(json!(false)),
        "members_can_add": value(json!(true)),
        "approval_required": value(json!(false)),
        "invite": value(json!("https://chat.whatsapp.com/abcdefgh")),
        "people": {ME: {"value": "admin", "at": 1, "heard": 2, "shown": true, "quiet": true, "doubt": doubt}},
        "phones": {MY_LID: ME},
        "causes": causes,
        "unclear": 10,
        "last_look": 11,
        "unclear_looks": 1,
        "shown": 12,
        "shown_heard": 13,
        "newcomers": {MY_LID: {"at": 14, "heard": 15}},
        "held": [
            report(&json!({"Notification": "evt_1"}), &observations),
            report(&json!({"Command": "c-3"}), &json!([])),
            report(&json!("Comparison"), &json!([])),
        ],
    });
    assert_eq!(rewritten::<GroupState>(&stored), stored);
}

#[test]
fn later_settings_are_stored_beside_those_of_earlier_releases() {
    let mut shown = snapshot();
    shown["members_can_share_history"] = json!(false);
    shown["disappearing_seconds"] = json!(86_400);
    assert_eq!(rewritten::<GroupSnapshot>(&shown), shown);
    for what in [
        json!({"MessagesAdminOnly": true}),
        json!({"MembersCanAdd": false}),
        json!({"ApprovalRequired": true}),
        json!({"MembersCanShareHistory": false}),
        json!({"DisappearingSeconds": 604_800}),
    ] {
        let cause = json!({"command": "c-1", "at": 4, "told": false, "what": what});
        assert_eq!(rewritten::<PendingCommand>(&cause), cause);
    }
    let value = |value: Value| json!({"value": value, "at": 1, "heard": 2});
    let stored = json!({
        "members_can_share_history": value(json!(true)), "disappearing_seconds": value(json!(0)),
    });
    let written = rewritten::<GroupState>(&stored);
    for (name, kept) in stored.as_object().unwrap() {
        assert_eq!(written[name], *kept, "{name}");
    }
}

#[test]
fn the_state_of_a_session_is_stored_in_the_form_of_earlier_releases() {
    let stored = json!({
        "looked": true,
        "creations": [{"command": "c-1", "subject": "Climbing", "at": 1}],
        "makings": [{
            "command": "c-1", "subject": "Climbing", "people": [ME], "first": 1, "last": 2, "open": 3,
            "group": "12345@g.us"
        }],
        "all_missing": {"since": 1, "looks": 2, "known": true},
    });
    assert_eq!(rewritten::<SessionState>(&stored), stored);
}
