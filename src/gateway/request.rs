//! Converts an HTTP request to a command: its id, its body, and the options of its headers.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::FromRequest;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::BodyFields;
use super::pictures;
use super::problem::{Fault, Problem};
use super::routes::{BodyRule, Route};
use crate::contract::CommandId;
use crate::executor::decode::{Accepted, Decoder, MAX_DETAILS, RawCommand};
use crate::observability::trace;

/// The header with the command's id.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A command to be published.
#[derive(Debug)]
pub(super) struct CommandRequest {
    pub(super) accepted: Accepted,
    /// The body of the command's message.
    pub(super) body: Vec<u8>,
    /// The headers of the command's message.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) preference: Preference,
    /// Unknown fields of the body, as JSON pointers.
    pub(super) ignored: Vec<String>,
}

/// The supported preferences of `Prefer` (RFC 7240).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Preference {
    /// Answer 202 instead of waiting.
    pub(super) respond_async: bool,
    /// The longest wait for the reply.
    pub(super) wait: Option<Duration>,
}

/// Reads the body if the route has one, with a timeout.
pub(super) async fn body(
    route: Route,
    parts: &Parts,
    body: Body,
    within: Duration,
) -> Result<Bytes, Problem> {
    if route.body() == BodyRule::None {
        return Ok(Bytes::new());
    }
    let encoding = parts.headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|it| it.as_bytes() != b"identity") {
        let why = "Send the body without Content-Encoding.";
        return Err(Problem::new(Fault::UnsupportedMediaType, why));
    }
    let mut request = Request::new(body);
    *request.headers_mut() = parts.headers.clone();
    *request.extensions_mut() = parts.extensions.clone();
    let reading = Bytes::from_request(request, &());
    let read = tokio::time::timeout(within, reading).await.map_err(|_| {
        let why = format!("The body was not received within {within:?}.");
        Problem::new(Fault::RequestTimeout, why)
    })?;
    let read = read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            Fault::ContentTooLarge,
            "The body is larger than gateway.body_max allows, or the picture is too large.",
        ),
        _ => Problem::new(Fault::BadRequest, "The body is incomplete."),
    })?;
    if !read.is_empty() && !is_json(&parts.headers) {
        let why = "Send Content-Type: application/json.";
        return Err(Problem::new(Fault::UnsupportedMediaType, why));
    }
    Ok(read)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.is_some_and(|it| {
        let it = it.trim().to_ascii_lowercase();
        it == "application/json" || (it.starts_with("application/") && it.ends_with("+json"))
    })
}

/// Builds the command and validates it as the worker does, so that an invalid request is answered here and
/// causes no dead letter.
pub(super) fn command(
    decoder: &Decoder,
    route: Route,
    session: &str,
    fields: &Map<String, Value>,
    parts: &Parts,
    body: &[u8],
) -> Result<CommandRequest, Problem> {
    let id = command_id(&parts.headers)?;
    let refused = |error| {
        let error = pictures::error_in_waha(route.command, error);
        Problem::from_contract(error).for_command(id.as_str())
    };
    let mut written = BodyFields::read(body).map_err(refused)?;
    pictures::from_waha(route.command, &mut written);
    let (payload, mut ignored) = written.payload(fields);
    let mut body = message(&id, route, session, &payload);
    let incoming = RawCommand {
        body: &body,
        ..RawCommand::default()
    };
    let accepted = match decoder.decode(&incoming) {
        Ok(accepted) => accepted,
        // WAHA ignores unknown fields, so its clients may send some; a request of our own has no such clients.
        Err(rejected) if route.command.endpoint().is_none() => return Err(refused(rejected.error)),
        Err(rejected) => {
            let Some((accepted, unknown)) = decoder.decode_known(&incoming) else {
                return Err(refused(rejected.error));
            };
            ignored.extend(unknown.own);
            // Only unknown fields: the name of a field is probably misspelt, and the request means
            // something else without it.
            if written.count() == ignored.len() {
                return Err(refused(rejected.error));
            }
            ignored.extend(unknown.nested);
            // Without the unknown fields, since the worker refuses them.
            let payload = serde_json::to_string(&accepted.command).unwrap_or(payload);
            body = message(&id, route, session, &payload);
            accepted
        }
    };
    Ok(CommandRequest {
        accepted,
        body,
        headers: carried(&parts.headers),
        preference: preference(&parts.headers),
        ignored,
    })
}

/// The command as JSON.
fn message(id: &CommandId, route: Route, session: &str, payload: &str) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    format!(
        r#"{{"id":{},"type":"{}","session":{},"payload":{payload}}}"#,
        text(id.as_str()),
        route.command.as_str(),
        text(session),
    )
    .into_bytes()
}

/// `Warning` (RFC 7234, code 299) that lists the ignored fields.
pub(super) fn warning(ignored: &[String]) -> Option<HeaderValue> {
    if ignored.is_empty() {
        return None;
    }
    let shown: Vec<_> = ignored
        .iter()
        .take(MAX_DETAILS)
        .map(String::as_str)
        .collect();
    let more = match ignored.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!(
        "299 groupmq \"Unknown fields were ignored: {}{more}\"",
        shown.join(", ")
    );
    HeaderValue::try_from(text).ok()
}

/// The client's `Idempotency-Key`, plain or as a quoted string, or a new id.
fn command_id(headers: &HeaderMap) -> Result<CommandId, Problem> {
    let Some(given) = headers.get(IDEMPOTENCY_KEY) else {
        let id = Uuid::now_v7().to_string();
        return id.parse().map_err(|_| unusable_key());
    };
    let text = given.to_str().map_err(|_| unusable_key())?;
    let quoted = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let id = quoted.unwrap_or(text);
    id.parse().map_err(|_| unusable_key())
}

fn unusable_key() -> Problem {
    let why = "Idempotency-Key must be 1 to 128 visible ASCII characters without spaces.";
    Problem::new(Fault::BadRequest, why)
}

/// The trace context of the request, passed on in the command's headers.
fn carried(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut carried = BTreeMap::new();
    if let Some(parent) = traceparent(headers) {
        carried.insert("traceparent".to_owned(), parent.to_owned());
        let state = headers.get("tracestate").and_then(|it| it.to_str().ok());
        if let Some(state) = state.filter(|it| it.len() <= 512) {
            carried.insert("tracestate".to_owned(), state.to_owned());
        }
    }
    carried
}

/// The W3C `traceparent`, if it is well-formed.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(trace::PARENT)?.to_str().ok()?;
    trace::is_valid(text).then_some(text)
}

fn preference(headers: &HeaderMap) -> Preference {
    let mut preference = Preference::default();
    let values = headers.get_all("prefer").iter();
    let values = values.filter_map(|value| value.to_str().ok());
    for token in values.flat_map(|value| value.split([',', ';'])) {
        let token = token.trim().to_ascii_lowercase();
        if token == "respond-async" {
            preference.respond_async = true;
        } else if let Some(seconds) = token.strip_prefix("wait=") {
            preference.wait = seconds.trim().parse().ok().map(Duration::from_secs);
        }
    }
    preference
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            header::HeaderName::from_static(name),
            header::HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn a_warning_names_so_many_fields_and_no_more() {
        assert_eq!(warning(&[]), None);
        let named = warning(&["/a".to_owned(), "/participants/0/b".to_owned()]).unwrap();
        assert_eq!(
            named,
            "299 groupmq \"Unknown fields were ignored: /a, /participants/0/b\""
        );
        let many = warning(&vec!["/a".to_owned(); MAX_DETAILS + 7]).unwrap();
        assert!(many.to_str().unwrap().ends_with("/a and 7 more\""));
    }

    #[test]
    fn the_idempotency_key_may_be_quoted() {
        let id = |value| command_id(&headers(IDEMPOTENCY_KEY, value)).map(|id| id.to_string());
        assert_eq!(id("abc").unwrap(), "abc");
        assert_eq!(id("\"abc\"").unwrap(), "abc");
        assert!(id("a b").is_err());
        assert!(id("").is_err());
    }

    #[test]
    fn preferences_are_read_from_their_header() {
        let read = |value| preference(&headers("prefer", value));
        assert_eq!(read("handling=lenient"), Preference::default());
        assert!(read("Respond-Async").respond_async);
        let both = read("respond-async, wait=10");
        assert_eq!(both.wait, Some(Duration::from_secs(10)));
        assert!(both.respond_async);
    }

    #[test]
    fn only_a_well_formed_trace_is_carried_on() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers("traceparent", good)), Some(good));
        for bad in [
            "",
            "00-4bf9-00f0-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(traceparent(&headers("traceparent", bad)), None, "{bad}");
        }
    }
}
