//! NOWEB's bodies and events, as Baileys and WAHA make them (captured: `noweb-*`).

use serde_json::{Map, Value, json};

use super::bodies::Style;
use super::model::{Answer, Change, Group, Role};
use super::people::{lid, wire};
use super::views::Seen;

/// Baileys' metadata of a group.
pub(super) fn metadata(style: &Style, seen: &Seen) -> Value {
    let group = &seen.group;
    let by_lid = style.by_lid(group);
    let mut body = json!({
        "id": group.id, "addressingMode": if by_lid { "lid" } else { "pn" }, "subject": group.subject,
        "subjectOwner": style.id(&group.owner, by_lid), "subjectTime": group.subject_set,
        "size": seen.size, "creation": group.created, "owner": style.id(&group.owner, by_lid),
        "restrict": group.locked, "announce": group.announce, "isCommunity": false,
        "isCommunityAnnounce": false, "joinApprovalMode": group.approval, "memberAddMode": group.members_add,
        "participants": people(style, group),
    });
    if by_lid {
        body["subjectOwnerPn"] = json!(wire(&group.owner));
        body["ownerPn"] = json!(wire(&group.owner));
    }
    if !group.description.is_empty() {
        body["desc"] = json!(group.description);
    }
    // Baileys has no field where messages stay.
    if group.disappearing > 0 {
        body["ephemeralDuration"] = json!(group.disappearing);
    }
    body
}

pub(super) fn people(style: &Style, group: &Group) -> Value {
    let by_lid = style.by_lid(group);
    let person = |(phone, role): &(String, Role)| {
        let mut person = json!({"id": style.id(phone, by_lid), "admin": match role {
            Role::Member => Value::Null,
            Role::Admin => json!("admin"),
            Role::Creator => json!("superadmin"),
        }});
        if !by_lid {
            person["lid"] = json!(lid(phone));
        } else if !style.quirks.secret_phones {
            person["phoneNumber"] = json!(wire(phone));
        }
        person
    };
    Value::Array(group.members.iter().map(person).collect())
}

/// The answer to a creation: Baileys lists the refused people too, without a mark.
pub(super) fn created(style: &Style, group: &Group, answers: &[Answer]) -> Value {
    let mut all = group.clone();
    let refused = answers.iter().filter(|(_, code)| *code != 200);
    all.members
        .extend(refused.map(|(phone, _)| (phone.clone(), Role::Member)));
    let size = group.members.len();
    metadata(style, &Seen { group: all, size })
}

/// The answer about one person.
pub(super) fn answer(style: &Style, group: &Group, (phone, code): &Answer, now: i64) -> Value {
    let by_lid = style.by_lid(group);
    let jid = style.id(phone, by_lid);
    let mut attributes = json!({"jid": jid});
    if !by_lid {
        attributes["lid"] = json!(lid(phone));
    } else if !style.quirks.secret_phones {
        attributes["phone_number"] = json!(wire(phone));
    }
    let mut content = json!({"tag": "participant"});
    if *code != 200 {
        attributes["error"] = json!(code.to_string());
    }
    content["attrs"] = attributes;
    if *code == 403 {
        let expiration = (now / 1_000 + 3 * 86_400).to_string();
        let request = json!({"code": "cV0oFAKE0403", "expiration": expiration});
        content["content"] = json!([{"tag": "add_request", "attrs": request}]);
    }
    json!({"status": code.to_string(), "jid": jid, "content": content})
}

/// `participants/v2`, from what a list or the store has of the group.
pub(super) fn people_v2(metadata: &Value) -> Value {
    let people = metadata["participants"].as_array().into_iter().flatten();
    people.map(person_v2).collect()
}

fn person_v2(person: &Value) -> Value {
    let role = person["admin"].as_str().unwrap_or("participant");
    let id = person["id"].as_str().unwrap_or_default();
    let mut told = json!({"id": id.replace("@s.whatsapp.net", "@c.us"), "role": role});
    if let Some(phone) = person["phoneNumber"].as_str() {
        told["pn"] = json!(phone.replace("@s.whatsapp.net", "@c.us"));
    }
    told
}

/// What NOWEB posts of a change that an account sees.
pub(super) fn events(
    style: &Style,
    group: &Group,
    actor: &str,
    change: &Change,
    account: &str,
) -> Vec<(&'static str, Value)> {
    let by_lid = style.by_lid(group);
    let inside = group.role(account).is_some();
    let author = json!({
        "id": group.id, "author": style.id(actor, by_lid), "authorPn": wire(actor),
    });
    let mine = |people: &[String]| people.iter().any(|it| it == account);
    let people = |kind: &str, action: &str, people: &[String], role: &str| {
        let mut data = author.clone();
        data["participants"] = people.iter().map(|it| changed(style, it, by_lid)).collect();
        data["action"] = json!(action);
        let told = people
            .iter()
            .map(|it| json!({"id": style.public_id(it, by_lid), "role": role}));
        json!({
            "group": {"id": group.id}, "type": kind, "timestamp": style.now,
            "participants": told.collect::<Vec<_>>(), "_data": data,
        })
    };
    match change {
        Change::Created if inside => vec![joined(style, group, &author)],
        Change::Joined(who) if mine(who) => vec![joined(style, group, &author)],
        Change::JoinedByLink(who) if who == account => vec![joined(style, group, &author)],
        Change::Joined(who) if inside => {
            vec![(PARTICIPANTS, people("join", "add", who, "participant"))]
        }
        Change::JoinedByLink(who) if inside => {
            let who = std::slice::from_ref(who);
            vec![(PARTICIPANTS, people("join", "add", who, "participant"))]
        }
        Change::Left(_) | Change::Removed(_) => {
            let who = match change {
                Change::Removed(who) => who.as_slice(),
                Change::Left(who) => std::slice::from_ref(who),
                _ => &[],
            };
            let told = people("leave", "remove", who, "left");
            let mut all = Vec::new();
            // WAHA compares with the phone of the account alone.
            if mine(who) && !by_lid {
                let data = told["_data"].clone();
                let left =
                    json!({"timestamp": style.now, "group": {"id": group.id}, "_data": data});
                all.push(("group.v2.leave", left));
            }
            if inside || mine(who) {
                all.push((PARTICIPANTS, told));
            }
            all
        }
        Change::Promoted(who) if inside => {
            vec![(PARTICIPANTS, people("promote", "promote", who, "admin"))]
        }
        // Whoever is no admin any more is called one.
        Change::Demoted(who) if inside => {
            vec![(PARTICIPANTS, people("demote", "demote", who, "admin"))]
        }
        // Baileys makes no group update of these.
        Change::MembersShare | Change::Disappearing => Vec::new(),
        _ if inside => vec![updated(style, group, change, author)],
        _ => Vec::new(),
    }
}

const PARTICIPANTS: &str = "group.v2.participants";

/// Baileys 7 names people by one id; later versions add what they know.
fn changed(style: &Style, phone: &str, by_lid: bool) -> Value {
    let id = style.id(phone, by_lid);
    if style.quirks.newer {
        json!({"id": id, "phoneNumber": wire(phone), "lid": lid(phone)})
    } else {
        json!(id)
    }
}

/// The fields of an update: WAHA's own, and Baileys'. The lock is told in `_data` alone, an emptied
/// description in neither, and who may write is inverted.
fn updated(
    style: &Style,
    group: &Group,
    change: &Change,
    mut data: Value,
) -> (&'static str, Value) {
    let mut told = json!({"id": group.id});
    match change {
        Change::Subject => {
            told["subject"] = json!(group.subject);
            data["subject"] = json!(group.subject);
        }
        Change::Description if !group.description.is_empty() => {
            told["description"] = json!(group.description);
            data["desc"] = json!(group.description);
        }
        Change::Locked => data["restrict"] = json!(group.locked),
        Change::Announce => {
            told["membersCanSendMessages"] = json!(group.announce);
            data["announce"] = json!(group.announce);
        }
        Change::Approval => {
            told["newMembersApprovalRequired"] = json!(group.approval);
            data["joinApprovalMode"] = json!(group.approval);
        }
        Change::MembersAdd => {
            told["membersCanAddNewMember"] = json!(group.members_add);
            data["memberAddMode"] = json!(group.members_add);
        }
        Change::Invite => {
            told["invite"] = json!(format!("https://chat.whatsapp.com/{}", group.invite));
            data["inviteCode"] = json!(group.invite);
        }
        _ => {}
    }
    let payload = json!({"timestamp": style.now, "group": told, "_data": data});
    ("group.v2.update", payload)
}

fn joined(style: &Style, group: &Group, author: &Value) -> (&'static str, Value) {
    let mut data = metadata(style, &Seen::whole(group));
    if let (Some(data), Some(author)) = (data.as_object_mut(), author.as_object()) {
        data.extend(author.clone());
    }
    let (_, payload) = listed(style, &data);
    ("group.v2.join", payload)
}

/// What every list posts of each group in it.
pub(super) fn listed(style: &Style, metadata: &Value) -> (&'static str, Value) {
    let mut told = json!({
        "id": metadata["id"], "subject": metadata["subject"], "participants": people_v2(metadata),
        "membersCanAddNewMember": metadata["memberAddMode"],
        // Inverted: it is `announce`.
        "membersCanSendMessages": metadata["announce"],
        "newMembersApprovalRequired": metadata["joinApprovalMode"],
    });
    if let Some(description) = metadata["desc"].as_str() {
        told["description"] = json!(description);
    }
    let payload = json!({"timestamp": style.now, "group": told, "_data": metadata});
    ("group.v2.update", payload)
}

/// What the store makes of an event's `_data`, beside what happens to the people.
pub(super) fn merged(metadata: &mut Value, data: &Value) {
    let (Some(metadata), Some(data)) = (metadata.as_object_mut(), data.as_object()) else {
        return;
    };
    let fields: Map<_, _> = data
        .iter()
        .filter(|(name, _)| !["participants", "action"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // An update that tells no more than its author is that of an emptied description.
    if fields
        .keys()
        .all(|name| ["id", "author", "authorPn"].contains(&name.as_str()))
    {
        metadata.remove("desc");
    }
    metadata.extend(fields);
}
