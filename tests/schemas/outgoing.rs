//! Replies and events: the examples are valid, and are written back byte for byte.

use groupmq::contract::{
    CommandType, Count, EnsuredGroup, ErrorCode, Event, EventName, EventPayload, Group,
    GroupPicture, InfoAdminOnly, InviteCode, JoinInfo, JoinRequest, Joined, LidPair, MemberAddMode,
    MemberShareHistory, MembershipApproval, MessagesAdminOnly, NoticeName, Outcome, Participant,
    Reply, ReplyStatus, Webhook, WebhookNotice, WebhookTest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::example;

/// Reads a value as a type of the contract and writes it back; field order counts.
fn assert_round_trip<T: DeserializeOwned + Serialize>(name: &str, value: &Value) -> T {
    let text = value.to_string();
    let read = serde_json::from_str::<T>(&text);
    assert!(read.is_ok(), "{name}: {:?}", read.err());
    let read = read.unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text, "{name}");
    read
}

fn assert_valid(name: &str, schema: &str, value: &Value) {
    let validator = jsonschema::validator_for(&example::json(schema)).unwrap();
    let verdict = validator.validate(value);
    assert!(verdict.is_ok(), "{name} against {schema}: {verdict:?}");
}

#[test]
fn every_command_has_a_reply() {
    let examples = example::all("replies/ok");
    let names: Vec<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let mut wanted: Vec<_> = CommandType::ALL
        .iter()
        .map(|command| command.as_str())
        .collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for (name, example) in &examples {
        let reply: Reply = assert_round_trip(name, example);
        assert_eq!(reply.command_type.as_ref(), Some(name));
        assert_eq!(reply.status, ReplyStatus::Ok);
        assert_valid(name, "schemas/reply.json", example);
        let result = &example["result"];
        assert_valid(name, &format!("schemas/results/{name}.json"), result);
        assert_result_round_trips(name, result);
    }
}

fn assert_result_round_trips(name: &str, result: &Value) {
    use CommandType as Type;
    match name.parse().unwrap() {
        Type::CreateGroup | Type::GetGroup => drop(assert_round_trip::<Group>(name, result)),
        Type::ListGroups => drop(assert_round_trip::<Vec<Group>>(name, result)),
        Type::GetGroupPicture => drop(assert_round_trip::<GroupPicture>(name, result)),
        Type::GetInfoAdminOnly => {
            assert_round_trip::<InfoAdminOnly>(name, result);
        }
        Type::EnsureGroup => drop(assert_round_trip::<EnsuredGroup>(name, result)),
        Type::CountGroups | Type::CountLids => {
            assert_round_trip::<Count>(name, result);
        }
        Type::GetMessagesAdminOnly => {
            assert_round_trip::<MessagesAdminOnly>(name, result);
        }
        Type::GetMemberAddMode => {
            assert_round_trip::<MemberAddMode>(name, result);
        }
        Type::GetMembershipApproval => {
            assert_round_trip::<MembershipApproval>(name, result);
        }
        Type::GetMemberShareHistory => {
            assert_round_trip::<MemberShareHistory>(name, result);
        }
        Type::GetParticipants => drop(assert_round_trip::<Vec<Participant>>(name, result)),
        Type::GetInviteCode | Type::RevokeInviteCode => {
            drop(assert_round_trip::<InviteCode>(name, result));
        }
        Type::GetJoinInfo => drop(assert_round_trip::<JoinInfo>(name, result)),
        Type::JoinGroup => drop(assert_round_trip::<Joined>(name, result)),
        Type::ListJoinRequests => drop(assert_round_trip::<Vec<JoinRequest>>(name, result)),
        Type::ListLids => drop(assert_round_trip::<Vec<LidPair>>(name, result)),
        Type::GetPhoneByLid | Type::GetLidByPhone => {
            drop(assert_round_trip::<LidPair>(name, result));
        }
        Type::SetWebhook => drop(assert_round_trip::<Webhook>(name, result)),
        Type::ListWebhooks => drop(assert_round_trip::<Vec<Webhook>>(name, result)),
        Type::TestWebhook => {
            assert_round_trip::<WebhookTest>(name, result);
        }
        Type::AddParticipants
        | Type::RemoveParticipants
        | Type::PromoteAdmin
        | Type::DemoteAdmin
        | Type::ApproveJoinRequests
        | Type::RejectJoinRequests => drop(assert_round_trip::<Vec<Outcome>>(name, result)),
        Type::DeleteGroup
        | Type::LeaveGroup
        | Type::SetGroupSubject
        | Type::SetGroupDescription
        | Type::SetGroupPicture
        | Type::DeleteGroupPicture
        | Type::SetInfoAdminOnly
        | Type::RefreshGroups
        | Type::SetMessagesAdminOnly
        | Type::SetMemberAddMode
        | Type::SetMembershipApproval
        | Type::SetMemberShareHistory
        | Type::SetDisappearingMessages
        | Type::RemoveWebhook => {
            assert_round_trip::<bool>(name, result);
        }
    }
}

#[test]
fn a_group_is_told_with_the_texts_it_has() {
    let mut reply = example::json("schemas/examples/replies/ok/GetGroup.json");
    reply["result"]["subject"] = "x".repeat(150).into();
    reply["result"]["description"] = "two\nlines\u{b}".repeat(500).into();
    assert_round_trip::<Reply>("GetGroup", &reply);
    assert_valid("GetGroup", "schemas/reply.json", &reply);
    assert_valid(
        "GetGroup",
        "schemas/results/GetGroup.json",
        &reply["result"],
    );
    assert_round_trip::<Group>("GetGroup", &reply["result"]);
    let mut event = example::json("schemas/examples/events/group.v2.update.json");
    event["payload"]["group"]["subject"] = "x".repeat(150).into();
    event["payload"]["group"]["description"] = "x".repeat(3_000).into();
    assert_round_trip::<Event>("group.v2.update", &event);
    assert_valid("group.v2.update", "schemas/event.json", &event);
    let schema = "schemas/events/group.v2.update.json";
    assert_valid("group.v2.update", schema, &event);
}

#[test]
fn every_error_code_has_a_reply() {
    let examples = example::all("replies/error");
    let names: Vec<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let mut wanted: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for (name, example) in &examples {
        let reply: Reply = assert_round_trip(name, example);
        assert_valid(name, "schemas/reply.json", example);
        assert_eq!(reply.status, ReplyStatus::Error);
        let error = reply.error.unwrap();
        assert_eq!(error.code.as_str(), name);
        assert_eq!(error.retryable, error.code.retryable(), "{name}");
    }
}

#[test]
fn a_reply_is_either_ok_with_a_result_or_an_error() {
    let schema = jsonschema::validator_for(&example::json("schemas/reply.json")).unwrap();
    for (name, mut example) in example::all("replies/error") {
        example["status"] = "ok".into();
        assert!(!schema.is_valid(&example), "{name}");
    }
}

#[test]
fn every_event_has_an_example() {
    let examples = example::all("events");
    for name in EventName::ALL {
        let name = name.as_str();
        assert!(
            examples.iter().any(|(known, _)| known == name),
            "events/{name}.json is missing"
        );
    }
    for (name, example) in &examples {
        let event: Event = assert_round_trip(name, example);
        assert!(name.starts_with(event.event.as_str()), "{name}");
        assert_valid(name, "schemas/event.json", example);
        assert_valid(
            name,
            &format!("schemas/events/{}.json", event.event.as_str()),
            example,
        );
        let fits = match event.event {
            EventName::GroupJoin | EventName::GroupLeft => {
                matches!(event.payload, EventPayload::Notification(_))
            }
            EventName::GroupParticipants => matches!(event.payload, EventPayload::Membership(_)),
            EventName::JoinRequest => matches!(event.payload, EventPayload::JoinRequest(_)),
            EventName::OwnJoin => matches!(event.payload, EventPayload::OwnJoin(_)),
            EventName::GroupUpdate | EventName::OwnLeave => {
                matches!(event.payload, EventPayload::Change(_))
            }
        };
        assert!(
            fits,
            "{name} is read as another payload: {:?}",
            event.payload
        );
    }
}

#[test]
fn everything_that_is_told_of_webhooks_has_an_example_that_fits_its_own_schema_alone() {
    let examples = example::all("notices");
    let names: Vec<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let mut wanted: Vec<_> = NoticeName::ALL.iter().map(|name| name.as_str()).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    for (name, example) in &examples {
        let notice: WebhookNotice = assert_round_trip(name, example);
        assert_eq!(notice.event.as_str(), name);
        for other in NoticeName::ALL {
            let schema = example::json(format!("schemas/events/{}.json", other.as_str()));
            let valid = jsonschema::validator_for(&schema)
                .unwrap()
                .is_valid(example);
            assert_eq!(valid, *other == notice.event, "{name} as {other:?}");
        }
    }
}

#[test]
fn an_event_has_the_payload_of_its_name() {
    for (name, example) in example::all("events") {
        for other in EventName::ALL {
            let schema = example::json(format!("schemas/events/{}.json", other.as_str()));
            let valid = jsonschema::validator_for(&schema)
                .unwrap()
                .is_valid(&example);
            assert_eq!(
                valid,
                example["event"] == other.as_str(),
                "{name} as {other:?}"
            );
        }
    }
}
