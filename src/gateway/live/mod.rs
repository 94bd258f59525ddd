//! Live events for clients without AMQP: Server-Sent Events or WebSocket.
//!
//! A bounded number of events is kept. Each listener reads them at its own position, so a slow one does not
//! affect the others. One that falls too far behind gets a `groupmq.gap`.

mod filter;
pub(super) mod hub;
mod sse;
mod ws;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::problem::{Fault, Problem};
use super::query;
use super::shared::{Shared, path};
use crate::config::Access;
use crate::contract::SessionName;

use filter::{ALL, Filter};

/// `GET /api/{session}/events`, as Server-Sent Events or WebSocket.
pub(super) async fn session_events(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let prepared = async {
        let grant = shared.keys.authenticate(&parts)?;
        let path = path(&mut parts).await?;
        let session = path.get("session").cloned().unwrap_or_default();
        if session != ALL {
            let named: Result<SessionName, _> = session.parse();
            named.map_err(|error| bad(&format!("The session {error}, or be * for all.")))?;
            grant.authorize(&session, Access::Read)?;
        }
        let filter = Filter::new(session, query::list(&parts.uri, "events"), grant);
        filter.check_names().map_err(|name| {
            bad(&format!(
                "The event {name} does not exist; GET /docs lists the events."
            ))
        })?;
        Ok(filter)
    };
    let filter = match prepared.await {
        Ok(filter) => filter,
        Err(problem) => return Problem::into_response(problem),
    };
    let last = last_seen(&parts.headers).or_else(|| query::first(&parts.uri, "lastEventId"));
    let listener = shared.hub.listen(filter, last.as_deref());
    if !wants_socket(&parts.headers) {
        return sse::answer(listener, shared.lifecycle.clone());
    }
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => ws::answer(upgrade, listener, shared.lifecycle.clone()),
        Err(_) => bad("The WebSocket handshake is invalid.").into_response(),
    }
}

/// `GET /ws`, WAHA's path: `session` (default `*`), `events` and the key as query parameters.
pub(super) async fn waha_socket(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let grant = match shared.keys.authenticate(&parts) {
        Ok(grant) => grant,
        Err(problem) => return problem.into_response(),
    };
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &()).await else {
        return bad("This path only supports WebSocket.").into_response();
    };
    let session = query::first(&parts.uri, "session").unwrap_or_else(|| ALL.to_owned());
    let named = session == ALL || session.parse::<SessionName>().is_ok();
    if !named || (session != ALL && !grant.covers(&session)) {
        return ws::refuse(upgrade, "The parameter session is not covered by this key.");
    }
    // WAHA has events that do not concern groups; they never occur here, and requesting them is no error.
    let filter = Filter::new(session, query::list(&parts.uri, "events"), grant);
    let last = query::first(&parts.uri, "lastEventId");
    let listener = shared.hub.listen(filter, last.as_deref());
    ws::answer(upgrade, listener, shared.lifecycle.clone())
}

fn bad(why: &str) -> Problem {
    Problem::new(Fault::BadRequest, why)
}

fn last_seen(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("last-event-id")?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

fn wants_socket(headers: &HeaderMap) -> bool {
    let value = headers.get(header::UPGRADE);
    value.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
