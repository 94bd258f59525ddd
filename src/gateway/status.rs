//! `GET /api/commands/{id}`: the state of a command.

use axum::Json;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::access::Grant;
use super::problem::{Fault, Problem, SHORT_RETRY};
use super::published::Published;
use super::query;
use crate::config::Access;
use crate::contract::{CommandId, ErrorBody, ReplyStatus, SessionName, Timestamp};
use crate::store::ledger::{CommandState, Key, Ledger, Record};

/// The state of a command.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    /// The command's id.
    command_id: CommandId,
    /// The command's session.
    session: SessionName,
    /// Whether the command has a reply.
    state: State,
    /// The status of the reply; only with `done`.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    reply: Option<ReplyStatus>,
    /// The result; only with `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    result: Option<Box<RawValue>>,
    /// The error; only with `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorBody>,
    /// The time of the reply; only with `done`.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Timestamp>,
}

/// Whether a command has its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Queued or being executed.
    Pending,
    /// It has a reply.
    Done,
}

impl Status {
    pub(super) fn pending(key: &Key) -> Self {
        Self {
            command_id: key.command_id.clone(),
            session: key.session.clone(),
            state: State::Pending,
            reply: None,
            result: None,
            error: None,
            timestamp: None,
        }
    }

    fn done(key: &Key, outcome: Result<Box<RawValue>, ErrorBody>, at: Timestamp) -> Self {
        let (status, result, error) = match outcome {
            Ok(result) => (ReplyStatus::Ok, Some(result), None),
            Err(error) => (ReplyStatus::Error, None, Some(error)),
        };
        Self {
            state: State::Done,
            reply: Some(status),
            result,
            error,
            timestamp: Some(at),
            ..Self::pending(key)
        }
    }
}

/// The URL of a command's state.
pub(super) fn location(key: &Key) -> HeaderValue {
    let id = url::form_urlencoded::byte_serialize(key.command_id.as_str().as_bytes());
    let location = format!(
        "/api/commands/{}?session={}",
        id.collect::<String>(),
        key.session
    );
    HeaderValue::try_from(location).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

/// Responds with the state of a command: pending while this gateway has no reply to it, else what the ledger knows.
pub(super) async fn respond(
    published: &Published,
    ledger: &Ledger,
    grant: &Grant,
    id: &str,
    uri: &Uri,
) -> Result<Response, Problem> {
    let bad = |why: &str| Problem::new(Fault::BadRequest, why);
    let session = query::first(uri, "session").unwrap_or_default();
    let session: SessionName = session
        .parse()
        .map_err(|error| bad(&format!("The parameter session {error}.")))?;
    grant.authorize(session.as_str(), Access::Read)?;
    let command_id: CommandId = id
        .parse()
        .map_err(|error| bad(&format!("The command's id {error}.")))?;
    let key = Key {
        session,
        command_id,
    };
    let known = if published.is_pending(&key) {
        Some(Status::pending(&key))
    } else {
        let error = published.error(&key);
        let failed = error.map(|(error, at)| Status::done(&key, Err(error), at));
        match from_ledger(ledger, &key).await? {
            // Such as a command in doubt: the ledger has its start only.
            Some(started) if started.state == State::Pending => failed.or(Some(started)),
            done => done.or(failed),
        }
    };
    let known = known.ok_or_else(|| {
        let why = "The ledger does not have it. Answers of commands that only read are not kept. Errors such as \
         EXPIRED are known to the gateway that received the command, while it runs. Or the command was never received, \
         waits in the queue for another gateway, or is too old. \
         Sending the request again with this id as Idempotency-Key is safe.";
        Problem::new(Fault::CommandUnknown, why).for_command(key.command_id.as_str())
    })?;
    let pending = known.state == State::Pending;
    let mut response = Json(known).into_response();
    if pending {
        let soon = HeaderValue::from(SHORT_RETRY.as_secs());
        response.headers_mut().insert(header::RETRY_AFTER, soon);
    }
    Ok(response)
}

async fn from_ledger(ledger: &Ledger, key: &Key) -> Result<Option<Status>, Problem> {
    let found = ledger.find(key).await.map_err(|_| {
        let why = "The store is not available now.";
        Problem::new(Fault::Unavailable, why).for_command(key.command_id.as_str())
    })?;
    Ok(found.map(|found| match found {
        CommandState::Started => Status::pending(key),
        CommandState::Done(Record { outcome, at, .. }) => Status::done(key, outcome, at),
    }))
}
