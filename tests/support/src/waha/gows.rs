//! GOWS' bodies and events, as whatsmeow and WAHA make them (captured: `gows-lid`; groups addressed by
//! phone are inferred from it).

use serde_json::{Value, json};

use super::bodies::{Style, moment};
use super::model::{Answer, Change, Group, Role};
use super::people::{lid, public, wire};
use super::views::Seen;

const NEVER: &str = "0001-01-01T00:00:00Z";

/// whatsmeow's `GroupInfo`. `ParticipantCount` stays 0, except in a group that is not loaded.
pub(super) fn info(style: &Style, seen: &Seen) -> Value {
    let group = &seen.group;
    let by_lid = style.by_lid(group);
    let mut info = json!({
        "JID": group.id, "OwnerJID": style.id(&group.owner, by_lid), "OwnerPN": wire(&group.owner),
        "Name": group.subject, "NameSetAt": moment(group.created), "NameSetBy": "", "NameSetByPN": "",
        "Topic": group.description, "TopicID": "", "TopicSetAt": NEVER, "TopicSetBy": "", "TopicSetByPN": "",
        "TopicDeleted": false, "IsLocked": group.locked, "IsAnnounce": group.announce, "AnnounceVersionID": "",
        "IsEphemeral": group.disappearing > 0, "DisappearingTimer": group.disappearing, "IsIncognito": false, "IsParent": false,
        "DefaultMembershipApprovalMode": "", "LinkedParentJID": "", "IsDefaultSubGroup": false,
        "IsJoinApprovalRequired": group.approval, "AddressingMode": if by_lid { "lid" } else { "pn" },
        "GroupCreated": moment(group.created), "CreatorCountryCode": "US", "ParticipantVersionID": "1",
        "Participants": people(style, group),
        "ParticipantCount": if seen.size > group.members.len() { seen.size } else { 0 },
        "MemberAddMode": if group.members_add { "all_member_add" } else { "admin_add" },
        "Suspended": false,
    });
    if style.quirks.recent {
        let mode = if group.members_share {
            "all_member_share"
        } else {
            "admin_share"
        };
        info["MemberShareHistoryMode"] = json!(mode);
    }
    info
}

/// A group that is not loaded (WAHA#1471).
pub(super) fn stub(group: &Group) -> Value {
    json!({
        "JID": group.id, "OwnerJID": "", "OwnerPN": "", "Name": "", "NameSetAt": NEVER, "Topic": "",
        "IsLocked": false, "IsAnnounce": false, "GroupCreated": NEVER, "AddressingMode": "",
        "Participants": null, "ParticipantCount": 952, "MemberAddMode": "",
    })
}

pub(super) fn people(style: &Style, group: &Group) -> Value {
    let person = |(phone, _): &(String, Role)| answer(style, group, &(phone.clone(), 200));
    Value::Array(group.members.iter().map(person).collect())
}

/// The answer to a creation: whoever was refused has an `Error`.
pub(super) fn created(style: &Style, group: &Group, answers: &[Answer]) -> Value {
    let mut body = info(style, &Seen::whole(group));
    if let Some(people) = body["Participants"].as_array_mut() {
        let refused = answers.iter().filter(|(_, code)| *code != 200);
        people.extend(refused.map(|it| answer(style, group, it)));
    }
    body
}

/// One person, and what was answered about it.
pub(super) fn answer(style: &Style, group: &Group, (phone, code): &Answer) -> Value {
    let role = group.role(phone);
    let by_lid = style.by_lid(group);
    let told = !(style.quirks.secret_phones && by_lid);
    let request = (*code == 403 && role.is_none())
        .then(|| json!({"Code": "XyFAKE403", "Expiration": moment(group.created + 3 * 86_400)}));
    json!({
        "JID": style.id(phone, by_lid), "PhoneNumber": if told { wire(phone) } else { String::new() },
        "LID": lid(phone), "IsAdmin": role.is_some_and(Role::is_admin),
        "IsSuperAdmin": role == Some(Role::Creator), "DisplayName": "",
        "Error": if *code == 200 { 0 } else { *code }, "AddRequest": request,
    })
}

/// What GOWS posts of a change that an account sees.
pub(super) fn events(
    style: &Style,
    group: &Group,
    actor: &str,
    change: &Change,
    account: &str,
) -> Vec<(&'static str, Value)> {
    let inside = group.role(account).is_some();
    let mine = |people: &[String]| people.iter().any(|it| it == account);
    let by_lid = style.by_lid(group);
    match change {
        Change::Created if inside => vec![joined(style, group, actor, change, account)],
        Change::Joined(who) if mine(who) => vec![joined(style, group, actor, change, account)],
        Change::JoinedByLink(who) if who == account => {
            vec![joined(style, group, actor, change, account)]
        }
        Change::Left(_) | Change::Removed(_) => {
            let who = match change {
                Change::Removed(who) => who.as_slice(),
                Change::Left(who) => std::slice::from_ref(who),
                _ => &[],
            };
            let told = people_changed(style, group, actor, change, who);
            let mut all = Vec::new();
            if mine(who) && !by_lid {
                let data = told.1["_data"].clone();
                let left =
                    json!({"timestamp": style.now, "group": {"id": group.id}, "_data": data});
                all.push(("group.v2.leave", left));
            }
            if inside || mine(who) {
                all.push(told);
            }
            all
        }
        Change::Joined(who) | Change::Promoted(who) | Change::Demoted(who) if inside => {
            vec![people_changed(style, group, actor, change, who)]
        }
        Change::JoinedByLink(who) if inside => {
            vec![people_changed(
                style,
                group,
                actor,
                change,
                std::slice::from_ref(who),
            )]
        }
        // Of these nothing is told: WAHA's update has no field for them.
        Change::Locked | Change::MembersAdd | Change::MembersShare | Change::Disappearing => {
            Vec::new()
        }
        _ if inside => vec![updated(style, group, actor, change)],
        _ => Vec::new(),
    }
}

fn people_changed(
    style: &Style,
    group: &Group,
    actor: &str,
    change: &Change,
    people: &[String],
) -> (&'static str, Value) {
    let by_lid = style.by_lid(group);
    let (kind, field, role) = match change {
        Change::Promoted(_) => ("promote", "Promote", "admin"),
        Change::Demoted(_) => ("demote", "Demote", "participant"),
        Change::Left(_) | Change::Removed(_) => ("leave", "Leave", "left"),
        _ => ("join", "Join", "participant"),
    };
    let mut data = notification(style, group, actor);
    data[field] = people
        .iter()
        .map(|it| json!(style.id(it, by_lid)))
        .collect();
    if matches!(change, Change::JoinedByLink(_)) {
        data["JoinReason"] = json!("invite");
    }
    let told = people.iter().map(|it| {
        let mut person = json!({"id": style.public_id(it, by_lid), "role": role});
        if style.quirks.newer {
            person["pn"] = if by_lid {
                Value::Null
            } else {
                json!(public(it))
            };
        }
        person
    });
    let payload = json!({
        "group": {"id": group.id}, "type": kind, "timestamp": style.now,
        "participants": told.collect::<Vec<_>>(), "_data": data,
    });
    ("group.v2.participants", payload)
}

/// whatsmeow's `events.GroupInfo`, with nothing changed.
fn notification(style: &Style, group: &Group, actor: &str) -> Value {
    json!({
        "JID": group.id, "Notify": "", "Sender": style.id(actor, style.by_lid(group)),
        "SenderPN": wire(actor), "Timestamp": moment(style.now / 1_000), "Name": null, "Topic": null,
        "Locked": null, "Announce": null, "Ephemeral": null, "MembershipApprovalMode": null, "Delete": null,
        "Link": null, "Unlink": null, "NewInviteLink": null, "PrevParticipantVersionID": "",
        "ParticipantVersionID": "", "JoinReason": "", "Join": null, "Leave": null, "Promote": null,
        "Demote": null, "UnknownChanges": null,
    })
}

/// Right here: `membersCanSendMessages`.
fn updated(style: &Style, group: &Group, actor: &str, change: &Change) -> (&'static str, Value) {
    let mut data = notification(style, group, actor);
    let mut told = json!({"id": group.id});
    let now = moment(style.now / 1_000);
    match change {
        Change::Subject => {
            told["subject"] = json!(group.subject);
            let setter = style.id(actor, style.by_lid(group));
            data["Name"] = json!({"Name": group.subject, "NameSetAt": now, "NameSetBy": setter});
        }
        Change::Description => {
            told["description"] = json!(group.description);
            data["Topic"] = json!({
                "Topic": group.description, "TopicID": "x", "TopicSetAt": now,
                "TopicDeleted": group.description.is_empty(),
            });
        }
        Change::Announce => {
            told["membersCanSendMessages"] = json!(!group.announce);
            data["Announce"] = json!({"IsAnnounce": group.announce, "AnnounceVersionID": ""});
        }
        Change::Approval => {
            told["newMembersApprovalRequired"] = json!(group.approval);
            data["MembershipApprovalMode"] = json!({"IsJoinApprovalRequired": group.approval});
        }
        Change::Invite => {
            let link = format!("https://chat.whatsapp.com/{}", group.invite);
            told["invite"] = json!(link);
            data["NewInviteLink"] = json!(link);
        }
        _ => {}
    }
    let payload = json!({"timestamp": style.now, "group": told, "_data": data});
    ("group.v2.update", payload)
}

/// Inverted here: `membersCanSendMessages`.
fn joined(
    style: &Style,
    group: &Group,
    actor: &str,
    change: &Change,
    account: &str,
) -> (&'static str, Value) {
    let by_lid = style.by_lid(group);
    let mut data = info(style, &Seen::whole(group));
    let own = actor == account;
    data["Type"] = json!(if own && *change == Change::Created {
        "new"
    } else {
        ""
    });
    let by_link = matches!(change, Change::JoinedByLink(_));
    data["Reason"] = json!(if by_link { "invite" } else { "" });
    if own {
        data["CreateKey"] = json!("");
        data["Notify"] = json!("");
    }
    data["Sender"] = if own {
        Value::Null
    } else {
        json!(style.id(actor, by_lid))
    };
    data["SenderPN"] = if own { Value::Null } else { json!(wire(actor)) };
    let payload = json!({
        "timestamp": style.now,
        "group": {
            "id": group.id, "subject": group.subject, "description": group.description,
            "participants": people_v2(style, group), "membersCanAddNewMember": true,
            "membersCanSendMessages": group.announce, "newMembersApprovalRequired": group.approval,
        },
        "_data": data,
    });
    ("group.v2.join", payload)
}

/// `participants/v2`, and the people of a `group.v2.join`.
pub(super) fn people_v2(style: &Style, group: &Group) -> Value {
    let by_lid = style.by_lid(group);
    let person = |(phone, role): &(String, Role)| {
        let mut person = json!({"id": style.public_id(phone, by_lid), "role": role.name()});
        if by_lid {
            person["pn"] = json!(public(phone));
        }
        person
    };
    group.members.iter().map(person).collect()
}
