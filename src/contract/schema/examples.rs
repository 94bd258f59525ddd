//! The examples that stand in the documents: those files of `schemas/examples` that bear the name
//! of a command, an error code or an event.

use serde_json::Value;

use super::Error;
use crate::contract::{CommandType, ErrorCode, EventName, NoticeName};

/// Declares a function from one of the contract's names to the text of its example.
macro_rules! files {
    ($function:ident, $names:ident, $folder:literal: $($name:ident = $file:literal),* $(,)?) => {
        const fn $function(name: $names) -> &'static str {
            match name {
                $($names::$name => include_str!(concat!(
                    "../../../schemas/examples/", $folder, "/", $file, ".json"
                ))),*
            }
        }
    };
}

/// Declares both functions that go from a command to a file of its name.
macro_rules! command_files {
    ($($name:ident),* $(,)?) => {
        const fn command_file(name: CommandType) -> &'static str {
            match name {
                $(CommandType::$name => include_str!(concat!(
                    "../../../schemas/examples/accepted/", stringify!($name), ".json"
                ))),*
            }
        }

        const fn reply_file(name: CommandType) -> &'static str {
            match name {
                $(CommandType::$name => include_str!(concat!(
                    "../../../schemas/examples/replies/ok/", stringify!($name), ".json"
                ))),*
            }
        }
    };
}

command_files! {
    CreateGroup, ListGroups, CountGroups, RefreshGroups, GetGroup, DeleteGroup, LeaveGroup, SetGroupSubject, SetGroupDescription, GetGroupPicture, SetGroupPicture, DeleteGroupPicture, GetInfoAdminOnly, SetInfoAdminOnly, GetMessagesAdminOnly, SetMessagesAdminOnly, GetMemberAddMode, SetMemberAddMode, GetMembershipApproval, SetMembershipApproval, GetMemberShareHistory, SetMemberShareHistory, SetDisappearingMessages, GetParticipants, AddParticipants, RemoveParticipants, PromoteAdmin, DemoteAdmin, GetInviteCode, RevokeInviteCode, EnsureGroup, GetJoinInfo, JoinGroup, ListJoinRequests, ApproveJoinRequests, RejectJoinRequests, ListLids, CountLids, GetPhoneByLid, GetLidByPhone, SetWebhook, RemoveWebhook, ListWebhooks, TestWebhook,
}

files! { refusal_file, ErrorCode, "replies/error":
    InvalidJson = "INVALID_JSON",
    UnknownCommand = "UNKNOWN_COMMAND",
    InvalidPayload = "INVALID_PAYLOAD",
    EnvelopeMismatch = "ENVELOPE_MISMATCH",
    SessionMismatch = "SESSION_MISMATCH",
    MissingId = "MISSING_ID",
    IdReused = "ID_REUSED",
    Expired = "EXPIRED",
    SessionNotFound = "SESSION_NOT_FOUND",
    SessionNotReady = "SESSION_NOT_READY",
    GroupNotFound = "GROUP_NOT_FOUND",
    WebhookNotFound = "WEBHOOK_NOT_FOUND",
    NotAMember = "NOT_A_MEMBER",
    NotAllowed = "NOT_ALLOWED",
    NotSupported = "NOT_SUPPORTED",
    RateLimited = "RATE_LIMITED",
    EngineRejected = "ENGINE_REJECTED",
    EngineUnavailable = "ENGINE_UNAVAILABLE",
    InDoubt = "IN_DOUBT",
    Internal = "INTERNAL",
}

files! { event_file, EventName, "events":
    GroupJoin = "group.join",
    GroupLeft = "group.left",
    GroupUpdate = "group.v2.update",
    GroupParticipants = "group.v2.participants",
    JoinRequest = "group.v2.participants.join-request",
    OwnJoin = "group.v2.join",
    OwnLeave = "group.v2.leave",
}

files! { notice_file, NoticeName, "notices":
    Failing = "webhook.failing",
    Disabled = "webhook.disabled",
    Recovered = "webhook.recovered",
    Test = "webhook.test",
}

fn parse(name: &'static str, text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Example(name, error))
}

/// A field of an example; null where there is none.
fn take(mut value: Value, field: &str) -> Value {
    value.get_mut(field).map_or(Value::Null, Value::take)
}

/// What the example of a command shows, in a sentence.
pub(super) fn description(command: CommandType) -> Result<Value, Error> {
    parse(command.as_str(), command_file(command)).map(|file| take(file, "description"))
}

/// The body of a command.
pub(super) fn command(command: CommandType) -> Result<Value, Error> {
    parse(command.as_str(), command_file(command)).map(|file| take(file, "body"))
}

/// The payload of a command.
pub(super) fn payload(name: CommandType) -> Result<Value, Error> {
    command(name).map(|body| take(body, "payload"))
}

/// The reply to a command that was done.
pub(super) fn reply(command: CommandType) -> Result<Value, Error> {
    parse(command.as_str(), reply_file(command))
}

/// What a command that was done came to.
pub(super) fn result(command: CommandType) -> Result<Value, Error> {
    reply(command).map(|reply| take(reply, "result"))
}

/// A reply to a command that was not done.
pub(super) fn refusal(code: ErrorCode) -> Result<Value, Error> {
    parse(code.as_str(), refusal_file(code))
}

/// An event.
pub(super) fn event(name: EventName) -> Result<Value, Error> {
    parse(name.as_str(), event_file(name))
}

/// What happened to a webhook endpoint.
pub(super) fn notice(name: NoticeName) -> Result<Value, Error> {
    parse(name.as_str(), notice_file(name))
}
