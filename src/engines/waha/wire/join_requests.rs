//! Requests to join a group, and the answers to decisions about them (WAHA 2026.8.2 and newer).

use serde_json::Value;

use super::ids::{id_text, participant, timestamp};
use super::outcomes::ParticipantAnswer;
use crate::contract::{GroupId, ParticipantId, RequestMethod};
use crate::engines::sync::{Person, is_phone};

/// A request to join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engines::waha) struct RequestEntry {
    pub(in crate::engines::waha) requester: Person,
    pub(in crate::engines::waha) added_by: Option<ParticipantId>,
    pub(in crate::engines::waha) parent_group: Option<GroupId>,
    pub(in crate::engines::waha) method: Option<RequestMethod>,
    /// In seconds.
    pub(in crate::engines::waha) at: Option<i64>,
}

/// Parses a list of requests; none if it is no list.
pub(in crate::engines::waha) fn join_requests(body: &Value) -> Option<Vec<RequestEntry>> {
    let entries = body.as_array()?;
    let read = |entry: &Value| {
        Some(RequestEntry {
            requester: requester(entry)?,
            added_by: entry.get("addedById").and_then(participant),
            parent_group: entry
                .get("parentGroupId")
                .and_then(id_text)
                .and_then(|id| id.parse().ok()),
            method: entry.get("requestMethod").and_then(request_method),
            at: entry
                .get("timestamp")
                .and_then(timestamp)
                .map(|at| at.0.as_second()),
        })
    };
    Some(entries.iter().filter_map(read).collect())
}

/// Who asks to join, in a list or in an event.
pub(in crate::engines::waha) fn requester(entry: &Value) -> Option<Person> {
    let named = participant(entry.get("requesterId")?)?;
    let phone = entry.get("requesterPn").and_then(participant);
    Some(match phone.filter(|_| !is_phone(&named)) {
        Some(phone) => Person {
            lid: Some(named),
            ..Person::bare(&phone)
        },
        None => Person::bare(&named),
    })
}

/// How somebody came to ask. WAHA writes `invite_link`, whatsapp-web.js `InviteLink`.
pub(in crate::engines::waha) fn request_method(value: &Value) -> Option<RequestMethod> {
    let text = value.as_str()?.to_ascii_lowercase().replace('_', "");
    Some(match text.as_str() {
        "invitelink" => RequestMethod::InviteLink,
        "linkedgroupjoin" => RequestMethod::LinkedGroupJoin,
        "nonadminadd" => RequestMethod::NonAdminAdd,
        _ => return None,
    })
}

/// The answers to a decision. One of WEBJS's results may be about several people, or, without a name, about
/// all: that one has no ids.
pub(in crate::engines::waha) fn decisions(body: &Value) -> Vec<ParticipantAnswer> {
    let entries = body.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut answers = Vec::new();
    for entry in entries {
        let code = code(entry);
        let answer = |ids| ParticipantAnswer {
            ids,
            code,
            invite: None,
        };
        if let Some(several) = entry.get("requesterId").and_then(Value::as_array) {
            let ids = several.iter().filter_map(participant);
            answers.extend(ids.map(|id| answer(vec![id])));
        } else {
            let person = requester(entry);
            let ids = person.map(|it| std::iter::once(it.id).chain(it.lid).collect());
            answers.push(answer(ids.unwrap_or_default()));
        }
    }
    answers
}

/// WhatsApp's code for one person; a failure without a code has 400.
fn code(entry: &Value) -> u16 {
    let error = entry.get("error").filter(|error| !error.is_null());
    let number = match error {
        Some(Value::String(text)) => text.parse().ok(),
        Some(value) => value.as_u64().and_then(|code| u16::try_from(code).ok()),
        None => None,
    };
    let success = entry.get("success").and_then(Value::as_bool);
    match (success, error) {
        (Some(true), _) | (None, None) => 200,
        _ => number.filter(|code| *code >= 300).unwrap_or(400),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn short(body: &Value) -> Vec<(Vec<String>, u16)> {
        let ids = |it: &ParticipantAnswer| it.ids.iter().map(ToString::to_string).collect();
        decisions(body)
            .iter()
            .map(|it| (ids(it), it.code))
            .collect()
    }

    #[test]
    fn an_answer_names_one_person_several_or_nobody() {
        let one = json!([{"requesterId": "1555001@c.us", "success": true},
            {"requesterId": "915@lid", "success": false, "error": 404}]);
        assert_eq!(
            short(&one),
            [(vec!["1555001@c.us".to_owned()], 200), (vec![], 404)]
        );
        let several = json!([{"requesterId": ["1555001@c.us", "1555002@c.us"], "success": false, "error": "419"}]);
        let named = |id: &str| (vec![id.to_owned()], 419);
        assert_eq!(
            short(&several),
            [named("1555001@c.us"), named("1555002@c.us")]
        );
        assert_eq!(short(&json!([{"success": false}])), [(vec![], 400)]);
        assert_eq!(
            short(&json!([{"requesterId": null, "success": true}])),
            [(vec![], 200)]
        );
        assert_eq!(short(&json!({"success": true})), []);
    }

    #[test]
    fn a_request_is_read_with_and_without_what_engines_leave_out() {
        let body = json!([
            {"requesterId": "91555001@lid", "requesterPn": "1555001@c.us", "addedById": null,
             "parentGroupId": null, "requestMethod": "invite_link", "timestamp": 1_795_427_881},
            {"requesterId": "1555002@s.whatsapp.net", "addedById": {"_serialized": "1555003@c.us"},
             "requestMethod": null, "timestamp": "1795427881"},
            {"requesterId": null},
        ]);
        let read = join_requests(&body).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].requester.id.as_str(), "1555001@c.us");
        assert_eq!(
            read[0].requester.lid.as_ref().unwrap().as_str(),
            "91555001@lid"
        );
        assert_eq!(read[0].method, Some(RequestMethod::InviteLink));
        assert_eq!(read[1].added_by.as_ref().unwrap().as_str(), "1555003@c.us");
        assert_eq!(read[1].method, None);
        assert!(read.iter().all(|it| it.at == Some(1_795_427_881)));
        assert!(join_requests(&json!({})).is_none());
        assert_eq!(
            request_method(&json!("NonAdminAdd")),
            Some(RequestMethod::NonAdminAdd)
        );
        assert_eq!(
            request_method(&json!("linked_group_join")),
            Some(RequestMethod::LinkedGroupJoin)
        );
    }
}
