//! The bodies of WAHA's three engines, as Baileys, whatsmeow and whatsapp-web.js have them.

use serde_json::{Map, Value, json};

use super::model::{Answer, Group, Role};
use super::{Personality, Quirks};

/// How the people of one server are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style<'a> {
    pub(super) personality: Personality,
    pub(super) quirks: &'a Quirks,
}

/// The private id of a phone.
pub(super) fn lid(phone: &str) -> String {
    format!("77{phone}@lid")
}

/// The phone of an id in any of its forms; None for what no WAHA takes.
pub(super) fn phone(id: &str) -> Option<String> {
    let (local, server) = id.split_once('@')?;
    let digits = !local.is_empty() && local.bytes().all(|b| b.is_ascii_digit());
    match server {
        "c.us" | "s.whatsapp.net" if digits => Some(local.to_owned()),
        "lid" if digits => Some(local.strip_prefix("77")?.to_owned()),
        _ => None,
    }
}

impl Style<'_> {
    pub(super) fn group(self, group: &Group) -> Value {
        match self.personality {
            Personality::Noweb => self.baileys(group),
            Personality::Gows => self.whatsmeow(group),
            Personality::Webjs => self.chat(group),
        }
    }

    pub(super) fn groups(self, groups: &[&Group]) -> Value {
        let listed = groups.iter().enumerate().map(|(n, group)| {
            // WAHA#1471: the first one has not been loaded.
            if self.quirks.stubs && self.personality == Personality::Gows && n == 0 {
                json!({"JID": group.id, "Name": "", "Participants": null, "GroupCreated": "0001-01-01T00:00:00Z"})
            } else {
                self.group(group)
            }
        });
        match self.personality {
            Personality::Noweb => {
                let by_id = groups
                    .iter()
                    .map(|group| (group.id.clone(), self.group(group)));
                Value::Object(by_id.collect())
            }
            _ => Value::Array(listed.collect()),
        }
    }

    pub(super) fn people(self, group: &Group) -> Value {
        let person = |(phone, role): &(String, Role)| self.person(phone, *role);
        Value::Array(group.members.iter().map(person).collect())
    }

    fn person(self, phone: &str, role: Role) -> Value {
        let id = if self.quirks.lids {
            lid(phone)
        } else {
            format!("{phone}@s.whatsapp.net")
        };
        let told = (!self.quirks.secret_phones).then(|| format!("{phone}@s.whatsapp.net"));
        match self.personality {
            Personality::Noweb => {
                let admin = match role {
                    Role::Member => Value::Null,
                    Role::Admin => json!("admin"),
                    Role::Creator => json!("superadmin"),
                };
                let mut person = json!({"id": id, "lid": lid(phone), "admin": admin});
                if let Some(told) = told.filter(|_| self.quirks.lids) {
                    person["phoneNumber"] = json!(told);
                }
                person
            }
            Personality::Gows => json!({
                "JID": id, "PhoneNumber": told.unwrap_or_default(), "LID": lid(phone),
                "IsAdmin": role.is_admin(), "IsSuperAdmin": role == Role::Creator,
                "DisplayName": "", "Error": 0, "AddRequest": null,
            }),
            Personality::Webjs => {
                let id = if self.quirks.lids {
                    lid(phone)
                } else {
                    format!("{phone}@c.us")
                };
                let (user, server) = id.split_once('@').unwrap_or_default();
                json!({
                    "id": {"server": server, "user": user, "_serialized": id},
                    "isAdmin": role.is_admin(), "isSuperAdmin": role == Role::Creator,
                })
            }
        }
    }

    fn baileys(self, group: &Group) -> Value {
        json!({
            "id": group.id, "subject": group.subject, "subjectOwner": null, "subjectTime": group.created,
            "size": group.members.len(), "creation": group.created,
            "owner": if self.quirks.lids { lid(&group.owner) } else { format!("{}@s.whatsapp.net", group.owner) },
            "ownerPn": format!("{}@s.whatsapp.net", group.owner),
            "desc": if group.description.is_empty() { Value::Null } else { json!(group.description) },
            "restrict": group.locked, "announce": false, "joinApprovalMode": false, "memberAddMode": true,
            "addressingMode": if self.quirks.lids { "lid" } else { "pn" },
            "participants": self.people(group), "ephemeralDuration": null,
        })
    }

    fn whatsmeow(self, group: &Group) -> Value {
        let created = jiff::Timestamp::from_second(group.created).unwrap_or_default();
        json!({
            "JID": group.id, "OwnerJID": lid(&group.owner),
            "OwnerPN": format!("{}@s.whatsapp.net", group.owner),
            "Name": group.subject, "NameSetAt": created.to_string(), "Topic": group.description, "TopicID": "",
            "IsLocked": group.locked, "IsAnnounce": false, "IsEphemeral": false, "IsParent": false,
            "LinkedParentJID": "", "IsJoinApprovalRequired": false,
            "AddressingMode": if self.quirks.lids { "lid" } else { "pn" },
            "GroupCreated": created.to_string(), "MemberAddMode": "all_member_add",
            "Participants": self.people(group),
        })
    }

    fn chat(self, group: &Group) -> Value {
        let (user, server) = group.id.split_once('@').unwrap_or_default();
        let id = json!({"server": server, "user": user, "_serialized": group.id});
        let owner = format!("{}@c.us", group.owner);
        json!({
            "id": id, "name": group.subject, "isGroup": true, "timestamp": group.created,
            "groupMetadata": {
                "id": id, "creation": group.created,
                "owner": {"server": "c.us", "user": group.owner, "_serialized": owner},
                "desc": group.description, "restrict": group.locked, "announce": false,
                "memberAddMode": "all_member_add", "membershipApprovalMode": false,
                "participants": self.people(group),
            },
        })
    }

    /// The answer to a creation.
    pub(super) fn created(self, group: &Group, answers: &[Answer]) -> Value {
        match self.personality {
            Personality::Noweb => self.baileys(group),
            Personality::Gows => {
                let mut body = self.whatsmeow(group);
                if let Some(people) = body["Participants"].as_array_mut() {
                    people.extend(
                        answers
                            .iter()
                            .filter(|(_, code)| *code != 200)
                            .map(|it| self.answer(it)),
                    );
                }
                body
            }
            Personality::Webjs => {
                let owner = (
                    format!("{}@c.us", group.owner),
                    json!({
                        "statusCode": 200, "message": "The participant was added successfully",
                        "isGroupCreator": true, "isInviteV4Sent": false,
                    }),
                );
                let people = answers.iter().map(|(phone, code)| {
                    let said = json!({"statusCode": code, "message": "…", "isGroupCreator": false, "isInviteV4Sent": false});
                    (format!("{phone}@c.us"), said)
                });
                let (user, server) = group.id.split_once('@').unwrap_or_default();
                json!({
                    "title": group.subject,
                    "gid": {"server": server, "user": user, "_serialized": group.id},
                    "participants": Value::Object(std::iter::once(owner).chain(people).collect::<Map<_, _>>()),
                })
            }
        }
    }

    /// The answer about each person.
    pub(super) fn answers(self, answers: &[Answer], adding: bool) -> Value {
        match self.personality {
            Personality::Webjs if adding => {
                let said = |(phone, code): &Answer| {
                    let said = json!({"code": code, "message": "…", "isInviteV4Sent": false});
                    (format!("{phone}@c.us"), said)
                };
                Value::Object(answers.iter().map(said).collect())
            }
            Personality::Webjs => json!({"status": 200}),
            _ => Value::Array(answers.iter().map(|it| self.answer(it)).collect()),
        }
    }

    fn answer(self, (phone, code): &Answer) -> Value {
        let jid = if self.quirks.lids {
            lid(phone)
        } else {
            format!("{phone}@s.whatsapp.net")
        };
        if self.personality == Personality::Noweb {
            let mut attributes = json!({"jid": jid});
            let mut content = Vec::new();
            if *code != 200 {
                attributes["error"] = json!(code.to_string());
            }
            if *code == 403 {
                content.push(json!({"tag": "add_request", "attrs": {"code": "cV0oPrivateInvite", "expiration": "1759028118"}}));
            }
            let content = json!({"tag": "participant", "attrs": attributes, "content": content});
            return json!({"status": code.to_string(), "jid": jid, "content": content});
        }
        let request = (*code == 403)
            .then(|| json!({"Code": "XyPrivateInvite", "Expiration": "2026-04-09T11:44:32+03:00"}));
        let told = (!self.quirks.secret_phones).then(|| format!("{phone}@s.whatsapp.net"));
        json!({
            "JID": jid, "PhoneNumber": told.unwrap_or_default(), "LID": lid(phone),
            "IsAdmin": false, "IsSuperAdmin": false, "DisplayName": "",
            "Error": if *code == 200 { 0 } else { *code }, "AddRequest": request,
        })
    }

    /// WhatsApp's refusal, in the 500 of this engine.
    pub(super) fn refusal(self, code: u16, group: &str, path: &str) -> Value {
        let name = match code {
            400 => "bad-request",
            401 => "not-authorized",
            403 => "forbidden",
            404 => "item-not-found",
            429 => "rate-overlimit",
            463 => "account_reachout_restricted",
            _ => "internal-server-error",
        };
        let exception = match self.personality {
            Personality::Noweb if code == 404 => json!({
                "message": format!("Group with id '{group}' not found"), "name": "Error", "stack": "Error: …",
            }),
            Personality::Noweb => {
                json!({"message": name, "name": "Error", "stack": "Error: …", "data": code})
            }
            Personality::Gows => json!({
                "message": "13 INTERNAL", "name": "Error", "stack": "Error: …", "code": 13,
                "details": format!("info query returned status {code}: {name}"),
            }),
            Personality::Webjs => {
                json!({"message": format!("Evaluation failed: ServerStatusCodeError: {name}, error code {code}"), "name": "Error", "stack": "…"})
            }
        };
        json!({
            "statusCode": 500, "timestamp": "2026-11-23T10:00:00.000Z", "exception": exception,
            "request": {"path": path, "method": "…", "body": {}, "query": {}},
            "version": {"version": "2026.10.1", "engine": self.personality.name(), "tier": "PLUS"},
        })
    }
}
