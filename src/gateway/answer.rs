//! Converts a reply to WAHA's response, or to the full reply for clients that accept its media type.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use serde_json::value::RawValue;

use super::pictures;
use super::problem::{self, Fault, Problem};
use super::routes::Route;
use crate::contract::{CommandId, CommandType, Group, InviteCode, Participant, Reply, SessionName};

/// The media type of the contract's full reply.
pub(super) const FULL_REPLY: &str = "application/vnd.groupmq.v1+json";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The response header with the command's id.
pub(super) const COMMAND_ID: &str = "x-command-id";
/// The response header of a replayed reply.
pub(super) const REPLAYED: &str = "idempotency-replayed";

/// Builds the response from the body of the command's reply.
pub(super) fn from_reply(
    route: Route,
    session: &SessionName,
    id: &CommandId,
    accept: Accept,
    reply: &[u8],
) -> Response {
    let Ok(read) = serde_json::from_slice::<Reply>(reply) else {
        let why =
            "The reply cannot be parsed. Does the worker have the same version as the gateway?";
        return Problem::new(Fault::Panicked, why)
            .for_command(id.as_str())
            .into_response();
    };
    let replayed = read.replayed;
    let mut response = if accept.full_reply {
        full_reply(route, &read, reply)
    } else {
        match (read.result, read.error) {
            (Some(result), None) => done(route, accept, &result),
            (_, Some(error)) => {
                Problem::from_contract(pictures::error_in_waha(route.command, error))
                    .for_command(id.as_str())
                    .into_response()
            }
            (None, None) => Problem::new(Fault::Panicked, "The reply is empty.").into_response(),
        }
    };
    if response.status() == StatusCode::CREATED
        && let Some(location) = created(session, reply)
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if replayed {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(REPLAYED, yes);
    }
    response
}

fn full_reply(route: Route, read: &Reply, reply: &[u8]) -> Response {
    let error = read.error.as_ref();
    let status = error.map_or(route.success(), |error| problem::status(error.code));
    let mut response =
        (status, [(header::CONTENT_TYPE, FULL_REPLY)], reply.to_vec()).into_response();
    let retry = error.and_then(|error| problem::retry_after(error.code));
    response.headers_mut().extend(retry);
    response
}

fn done(route: Route, accept: Accept, result: &RawValue) -> Response {
    let json = |body: String| (route.success(), [(header::CONTENT_TYPE, JSON)], body);
    if pictures::answers_with_success(route.command) {
        return json(format!(r#"{{"success":{}}}"#, result.get())).into_response();
    }
    if route.is_v2() {
        return match without_lids(result) {
            Ok(people) => json(people).into_response(),
            Err(_) => {
                Problem::new(Fault::Panicked, "The reply has no participants.").into_response()
            }
        };
    }
    let is_code = matches!(
        route.command,
        CommandType::GetInviteCode | CommandType::RevokeInviteCode
    );
    if route.command == CommandType::RefreshGroups {
        // WAHA's form of a yes or no; elsewhere it responds with the bare value.
        return json(format!("{{\"success\":{}}}", result.get())).into_response();
    }
    if !is_code {
        return json(with_wahas_fields(route.command, result)).into_response();
    }
    // WAHA responds with the bare code.
    match serde_json::from_str::<InviteCode>(result.get()) {
        Ok(code) if accept.prefers_json => {
            let text = serde_json::Value::from(code.invite_code).to_string();
            json(text).into_response()
        }
        Ok(code) => {
            let headers = [(header::CONTENT_TYPE, TEXT)];
            (route.success(), headers, code.invite_code).into_response()
        }
        Err(_) => Problem::new(Fault::Panicked, "The reply has no invite code.").into_response(),
    }
}

/// The result, with the fields by which WAHA says the same.
fn with_wahas_fields(command: CommandType, result: &RawValue) -> String {
    let mut value: Value = match command {
        CommandType::JoinGroup
        | CommandType::ApproveJoinRequests
        | CommandType::RejectJoinRequests => serde_json::from_str(result.get()).unwrap_or_default(),
        _ => Value::Null,
    };
    match &mut value {
        Value::Object(joined) => {
            let id = joined.get("groupId").cloned().unwrap_or_default();
            joined.insert("id".to_owned(), id);
        }
        Value::Array(outcomes) => {
            for outcome in outcomes.iter_mut().filter_map(Value::as_object_mut) {
                let field = |name: &str| outcome.get(name).cloned().unwrap_or_default();
                let (id, code) = (field("id"), field("code"));
                let success = field("outcome") == "ok";
                outcome.insert("requesterId".to_owned(), id);
                outcome.insert("success".to_owned(), success.into());
                if !success {
                    outcome.insert("error".to_owned(), code);
                }
            }
        }
        _ => return result.get().to_owned(),
    }
    value.to_string()
}

/// The participants in the shape of WAHA's `participants/v2`, which has no field for the private id.
fn without_lids(result: &RawValue) -> serde_json::Result<String> {
    let people: Vec<Participant> = serde_json::from_str(result.get())?;
    let people = people.into_iter().map(|person| Participant {
        lid: None,
        ..person
    });
    serde_json::to_string(&people.collect::<Vec<_>>())
}

/// The `Location` of a new group.
fn created(session: &SessionName, reply: &[u8]) -> Option<HeaderValue> {
    let reply: Reply = serde_json::from_slice(reply).ok()?;
    let group: Group = serde_json::from_str(reply.result?.get()).ok()?;
    let location = format!("/api/{session}/groups/{}", group.id);
    HeaderValue::try_from(location).ok()
}

/// The client's choice of the media type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Accept {
    /// The full reply.
    pub(super) full_reply: bool,
    /// JSON is preferred to text.
    pub(super) prefers_json: bool,
}

impl Accept {
    pub(super) fn from_headers(headers: &HeaderMap) -> Self {
        let (mut full_reply, mut json, mut text) = (0.0, 0.0, 0.0);
        let values = headers.get_all(header::ACCEPT).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f32 = weight.and_then(|it| it.parse().ok()).unwrap_or(1.0);
            match name.as_str() {
                FULL_REPLY => full_reply = weight,
                JSON => json = weight,
                "text/plain" | "text/*" => text = weight,
                // `*/*` expresses no preference.
                _ => {}
            }
        }
        Self {
            full_reply: full_reply > 0.0,
            prefers_json: json > text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_unless_json_is_liked_better() {
        let rather = |accept: &'static str| {
            let value = HeaderValue::from_static(accept);
            Accept::from_headers(&HeaderMap::from_iter([(header::ACCEPT, value)]))
        };
        assert!(!rather("*/*").prefers_json);
        // What axios sends, which reads either.
        assert!(!rather("application/json, text/plain, */*").prefers_json);
        assert!(rather("application/json").prefers_json);
        assert!(rather("text/plain;q=0.5, application/json;q=0.9").prefers_json);
        assert!(rather("application/vnd.groupmq.v1+json").full_reply);
        assert!(!rather("application/vnd.groupmq.v1+json;q=0").full_reply);
    }
}
