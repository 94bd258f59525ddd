//! WEBJS' bodies and events, as whatsapp-web.js and WAHA make them. Nothing of it was captured: it is
//! as their sources have it (`FEATURES.md`, 1.2; `WAHA-API.md`, 6).

use serde_json::{Map, Value, json};

use super::bodies::Style;
use super::model::{Answer, Change, Group, Role};
use super::people::public;
use super::views::Seen;

fn serialized(id: &str) -> Value {
    let (user, server) = id.split_once('@').unwrap_or_default();
    json!({"server": server, "user": user, "_serialized": id})
}

/// The chat of a group.
pub(super) fn chat(style: &Style, seen: &Seen) -> Value {
    let group = &seen.group;
    let id = serialized(&group.id);
    let owner = style.public_id(&group.owner, style.by_lid(group));
    json!({
        "id": id, "name": group.subject, "isGroup": true, "timestamp": group.created,
        "groupMetadata": {
            "id": id, "creation": group.created, "owner": serialized(&owner), "subject": group.subject,
            "size": seen.size, "desc": group.description, "restrict": group.locked, "announce": group.announce,
            "memberAddMode": if group.members_add { "all_member_add" } else { "admin_add" },
            "membershipApprovalMode": group.approval, "ephemeralDuration": group.disappearing,
            "participants": people(style, group),
        },
    })
}

/// The people, by lid alone in groups that are addressed so.
pub(super) fn people(style: &Style, group: &Group) -> Value {
    let by_lid = style.by_lid(group);
    let person = |(phone, role): &(String, Role)| {
        let id = serialized(&style.public_id(phone, by_lid));
        json!({"id": id, "isAdmin": role.is_admin(), "isSuperAdmin": *role == Role::Creator})
    };
    Value::Array(group.members.iter().map(person).collect())
}

pub(super) fn people_v2(style: &Style, group: &Group) -> Value {
    let person = |(phone, role): &(String, Role)| told(style, group, phone, role.name());
    group.members.iter().map(person).collect()
}

/// `pn` is the id where that is a phone.
fn told(style: &Style, group: &Group, phone: &str, role: &str) -> Value {
    let by_lid = style.by_lid(group);
    let pn = if by_lid {
        Value::Null
    } else {
        json!(public(phone))
    };
    json!({"id": style.public_id(phone, by_lid), "pn": pn, "role": role})
}

/// The answer to a creation, by the ids that were asked for.
pub(super) fn created(group: &Group, answers: &[Answer]) -> Value {
    let owner = json!({
        "statusCode": 200, "message": "The participant was added successfully",
        "isGroupCreator": true, "isInviteV4Sent": false,
    });
    let people = answers.iter().map(|(phone, code)| {
        let said = json!({"statusCode": code, "message": "…", "isGroupCreator": false, "isInviteV4Sent": false});
        (public(phone), said)
    });
    let people: Map<_, _> = std::iter::once((public(&group.owner), owner))
        .chain(people)
        .collect();
    json!({"title": group.subject, "gid": serialized(&group.id), "participants": people})
}

/// The answer to an addition.
pub(super) fn added(answers: &[Answer]) -> Value {
    let said = |(phone, code): &Answer| {
        let said = json!({"code": code, "message": "…", "isInviteV4Sent": *code == 403});
        (public(phone), said)
    };
    Value::Object(answers.iter().map(said).collect())
}

/// What WEBJS posts of a change that an account sees.
pub(super) fn events(
    style: &Style,
    group: &Group,
    actor: &str,
    change: &Change,
    account: &str,
) -> Vec<(&'static str, Value)> {
    let inside = group.role(account).is_some();
    let (kind, role, who) = match change {
        Change::Joined(who) => ("add", "participant", who.as_slice()),
        Change::JoinedByLink(who) => ("invite", "participant", std::slice::from_ref(who)),
        Change::Removed(who) => ("remove", "left", who.as_slice()),
        Change::Left(who) => ("leave", "left", std::slice::from_ref(who)),
        Change::Promoted(who) => ("promote", "admin", who.as_slice()),
        Change::Demoted(who) => ("demote", "participant", who.as_slice()),
        _ if inside => return vec![updated(style, group, actor, change)],
        _ => return Vec::new(),
    };
    let mine = who.iter().any(|it| it == account);
    if !inside && !mine {
        return Vec::new();
    }
    let data = notification(style, group, actor, kind, who);
    let name = match role {
        "left" => "leave",
        "participant" if kind != "demote" => "join",
        _ => kind,
    };
    let people: Vec<_> = who.iter().map(|it| told(style, group, it, role)).collect();
    let payload = json!({
        "group": {"id": group.id}, "type": name, "timestamp": style.now / 1_000,
        "participants": people, "_data": data,
    });
    let mut all = vec![("group.v2.participants", payload)];
    if mine && name == "join" {
        all.push(joined(style, group, &data));
    } else if mine && name == "leave" {
        let left =
            json!({"timestamp": style.now / 1_000, "group": {"id": group.id}, "_data": data});
        all.push(("group.v2.leave", left));
    }
    if style.quirks.older_events {
        match name {
            "join" => all.push(("group.join", data)),
            "leave" => all.push(("group.leave", data)),
            _ => {}
        }
    }
    all
}

fn facts(style: &Style, group: &Group) -> Value {
    let adds = if style.quirks.webjs_lock_as_add_mode {
        group.locked
    } else {
        group.members_add
    };
    json!({
        "id": group.id, "subject": group.subject, "description": group.description,
        "invite": format!("https://chat.whatsapp.com/{}", group.invite),
        "membersCanAddNewMember": adds,
        // Inverted: it is `announce`.
        "membersCanSendMessages": group.announce, "newMembersApprovalRequired": group.approval,
    })
}

fn joined(style: &Style, group: &Group, data: &Value) -> (&'static str, Value) {
    let mut facts = facts(style, group);
    facts["participants"] = people_v2(style, group);
    let payload = json!({"timestamp": style.now / 1_000, "group": facts, "_data": data});
    ("group.v2.join", payload)
}

/// Every update tells everything. A creation is one too.
fn updated(style: &Style, group: &Group, actor: &str, change: &Change) -> (&'static str, Value) {
    let kind = match change {
        Change::Created => "create",
        Change::Subject => "subject",
        Change::Description => "description",
        Change::Locked => "restrict",
        Change::Announce => "announce",
        Change::Approval => "membership_approval_mode",
        Change::MembersAdd => "member_add_mode",
        Change::Disappearing => "ephemeral",
        Change::MembersShare => "member_share_group_history_mode",
        _ => "revoke_invite",
    };
    let data = notification(style, group, actor, kind, &[]);
    let facts = facts(style, group);
    let payload = json!({"timestamp": style.now / 1_000, "group": facts, "_data": data});
    ("group.v2.update", payload)
}

/// whatsapp-web.js's `GroupNotification`.
fn notification(style: &Style, group: &Group, actor: &str, kind: &str, who: &[String]) -> Value {
    let by_lid = style.by_lid(group);
    let ids: Vec<_> = who.iter().map(|it| style.public_id(it, by_lid)).collect();
    let author = style.public_id(actor, by_lid);
    let id = format!("false_{}_{}", group.id, style.now);
    json!({
        "id": {"fromMe": false, "remote": group.id, "_serialized": id}, "body": "", "type": kind,
        "timestamp": style.now / 1_000, "chatId": group.id, "author": author, "recipientIds": ids,
    })
}
