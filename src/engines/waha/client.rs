//! Requests to WAHA: the server of a session, the paths, the key, and the answers.
//!
//! Paths and bodies are those of WAHA's OpenAPI document 2026.7.1. `wire` and `error` interpret the
//! answers, `commands` decides what to request.

use std::time::Instant;

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::error::{FailureCause, Intent};
use super::wire::Body;
use crate::config::{self, WahaServer};
use crate::contract::{CommandId, ErrorCode, GroupId, SessionName};
use crate::engines::{Call, EngineError};
use crate::observability::events;
use crate::observability::trace::{Span, SpanKind, Trace};
use crate::outbound::{HeaderName, HeaderValue, Method, Outbound, Request};

/// The HTTP client for all servers; cheap to clone apart from the list of servers.
#[derive(Debug)]
pub(super) struct Client {
    outbound: Outbound,
    servers: Vec<WahaServer>,
}

/// A request to a server.
#[derive(Debug)]
pub(super) struct ApiRequest<'a> {
    pub(super) method: Method,
    /// Below the session's groups: `""`, `/{id}`, `/{id}/leave`. See [`within`].
    pub(super) path: String,
    pub(super) query: &'a [(&'static str, String)],
    pub(super) body: Option<Value>,
    pub(super) intent: Intent,
}

impl ApiRequest<'_> {
    pub(super) const fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            body: None,
            intent: Intent::Read,
        }
    }

    pub(super) const fn change(method: Method, path: String, body: Option<Value>) -> Self {
        Self {
            method,
            path,
            query: &[],
            body,
            intent: Intent::Change,
        }
    }
}

/// A request that failed, with what is needed to classify the failure.
#[derive(Debug)]
pub(super) struct ApiFailure {
    pub(super) cause: FailureCause,
    intent: Intent,
    server: String,
}

impl ApiFailure {
    /// The engine's error.
    pub(super) fn into_engine_error(self) -> EngineError {
        self.cause.into_engine_error(self.intent, &self.server)
    }
}

impl From<ApiFailure> for EngineError {
    fn from(failure: ApiFailure) -> Self {
        failure.into_engine_error()
    }
}

/// The path of a group, or of a resource below it. WAHA wants the `@` encoded.
pub(super) fn within(group: &GroupId, rest: &str) -> String {
    format!("/{}{rest}", group.as_str().replace('@', "%40"))
}

/// The session that a request is for, and the trace that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) session: &'a SessionName,
    pub(super) server: &'a WahaServer,
    trace: RequestTrace<'a>,
}

/// The trace of requests: the command's, or one by which they are found in WAHA's log.
#[derive(Debug, Clone, Copy)]
struct RequestTrace<'a> {
    of_command: Option<&'a Trace>,
    own: Uuid,
}

impl RequestTrace<'_> {
    /// A trace that belongs to no command.
    fn new() -> Self {
        Self {
            of_command: None,
            own: Uuid::new_v4(),
        }
    }

    /// Starts a request's span and returns the context of the request.
    fn begin(&self) -> (Option<Span>, Trace) {
        let span = self
            .of_command
            .map(|trace| trace.span(SpanKind::Client, "HTTP"));
        let trace = span.as_ref().map(Span::trace);
        let trace = trace.filter(|trace| trace.is_valid()).cloned();
        let own = || Trace::with_id(self.own.as_u128());
        (span, trace.unwrap_or_else(own))
    }
}

impl Client {
    pub(super) fn new(outbound: Outbound, settings: &config::Waha) -> Self {
        Self {
            outbound,
            servers: settings.servers.clone(),
        }
    }

    pub(super) fn servers(&self) -> &[WahaServer] {
        &self.servers
    }

    /// The server of a session.
    pub(super) fn server(&self, session: &SessionName) -> Option<&WahaServer> {
        let fitting = self
            .servers
            .iter()
            .filter_map(|it| Some((it.fit(session)?, it)));
        // The first of equally specific servers; `max_by_key` would take the last.
        fitting.rev().max_by_key(|(fit, _)| *fit).map(|(_, it)| it)
    }

    /// The caller of a session's requests; all requests of one command are in one trace: the
    /// command's, or one whose id is derived from the command's.
    ///
    /// # Errors
    /// When no server is configured for the session.
    pub(super) fn caller<'a>(
        &'a self,
        session: &'a SessionName,
        call: Option<&'a Call>,
    ) -> Result<Caller<'a>, EngineError> {
        let server = self.server(session).ok_or_else(|| EngineError::Refused {
            code: ErrorCode::SessionNotFound,
            message: format!(
                "no WAHA server is configured for the session {session}; add it to [engine.waha.servers]"
            ),
        })?;
        let trace = call.map_or_else(RequestTrace::new, |call| RequestTrace {
            of_command: Some(&call.context.trace),
            own: trace_id(session, &call.id),
        });
        Ok(Caller {
            session,
            server,
            trace,
        })
    }

    /// Sends a request below a session's groups.
    pub(super) async fn groups(
        &self,
        caller: Caller<'_>,
        request: ApiRequest<'_>,
    ) -> Result<Body, ApiFailure> {
        let path = format!("api/{}/groups{}", caller.session, request.path);
        self.send(caller.server, &path, request, caller.trace).await
    }

    /// Sends a request below a session, for example to its lids.
    pub(super) async fn session_request(
        &self,
        caller: Caller<'_>,
        path: &str,
        query: &[(&'static str, String)],
    ) -> Result<Body, ApiFailure> {
        let path = format!("api/{}/{path}", caller.session);
        let request = ApiRequest {
            query,
            ..ApiRequest::get(String::new())
        };
        self.send(caller.server, &path, request, caller.trace).await
    }

    /// Requests a server's sessions.
    pub(super) async fn sessions(&self, server: &WahaServer) -> Result<Body, ApiFailure> {
        let query = [("all", "true".to_owned())];
        let request = ApiRequest {
            query: &query,
            ..ApiRequest::get(String::new())
        };
        self.send(server, "api/sessions", request, RequestTrace::new())
            .await
    }

    /// Requests a server's version and engine.
    pub(super) async fn environment(&self, server: &WahaServer) -> Result<Body, ApiFailure> {
        let request = ApiRequest::get(String::new());
        self.send(server, "api/server/version", request, RequestTrace::new())
            .await
    }

    async fn send(
        &self,
        server: &WahaServer,
        path: &str,
        request: ApiRequest<'_>,
        trace: RequestTrace<'_>,
    ) -> Result<Body, ApiFailure> {
        let intent = request.intent;
        let begun = Instant::now();
        let (mut span, trace) = trace.begin();
        if let Some(span) = &mut span {
            describe(span, server, &request.method);
        }
        let answered = self.exchange(server, path, request, &trace).await;
        let outcome = answered.as_ref().map_or_else(name_of, |_| "ok");
        if let (Some(span), Err(cause)) = (&mut span, &answered) {
            span.fail(name_of(cause));
        }
        drop(span);
        events::waha_answered(&trace.id().to_string(), outcome, begun.elapsed());
        answered.map_err(|cause| ApiFailure {
            cause,
            intent,
            server: server.name.clone(),
        })
    }

    async fn exchange(
        &self,
        server: &WahaServer,
        path: &str,
        request: ApiRequest<'_>,
        trace: &Trace,
    ) -> Result<Body, FailureCause> {
        let mut headers = vec![(
            HeaderName::from_static("accept"),
            HeaderValue::from_static("application/json"),
        )];
        let body = match &request.body {
            None => Bytes::new(),
            Some(value) => {
                let json = HeaderValue::from_static("application/json");
                headers.push((HeaderName::from_static("content-type"), json));
                Bytes::from(value.to_string())
            }
        };
        headers.extend(key_header(&server.api_key)?);
        for (name, value) in trace.headers() {
            if let (Ok(name), Ok(value)) = (name.parse(), value.parse()) {
                headers.push((name, value));
            }
        }
        let request = Request {
            method: request.method,
            url: url(&server.url, path, request.query),
            headers,
            body,
            deadline: server.timeout,
            body_limit: server.body_limit,
        };
        let answer = self
            .outbound
            .send(request)
            .await
            .map_err(FailureCause::from_failure)?;
        if !answer.is_success() {
            return Err(FailureCause::from_answer(&answer));
        }
        if answer.truncated {
            return Err(FailureCause::Unreadable(
                "it exceeds engine.waha.body_limit",
            ));
        }
        Body::read(&answer.body).map_err(|_| FailureCause::Unreadable("it is not JSON"))
    }
}

/// By OpenTelemetry's conventions; never the path, which contains phone numbers.
fn describe(span: &mut Span, server: &WahaServer, method: &Method) {
    if span.is_recorded() {
        span.rename(method.to_string());
        span.set("http.request.method", method.to_string());
        span.set(
            "server.address",
            server.url.host_str().unwrap_or_default().to_owned(),
        );
        let port = server.url.port_or_known_default().unwrap_or_default();
        span.set("server.port", i64::from(port));
    }
}

fn name_of(cause: &FailureCause) -> &'static str {
    match cause {
        FailureCause::NotSent(_) => "not-sent",
        FailureCause::NoAnswer(_) => "no-answer",
        FailureCause::Unreadable(_) => "unreadable",
        FailureCause::Status(_) | FailureCause::Exception { .. } => "failed",
        _ => "refused",
    }
}

/// The key, if the server wants one. The configuration rejects keys that a header cannot hold; should
/// such a key get here nevertheless, the request is not sent without it.
fn key_header(key: &SecretString) -> Result<Option<(HeaderName, HeaderValue)>, FailureCause> {
    let key = key.expose_secret();
    if key.is_empty() {
        return Ok(None);
    }
    let value = HeaderValue::from_str(key).map_err(|_| FailureCause::InvalidKey)?;
    Ok(Some((HeaderName::from_static("x-api-key"), value)))
}

/// The path is encoded already; `Url::join` would drop the base's own path.
fn url(base: &Url, path: &str, query: &[(&'static str, String)]) -> Url {
    let mut url = base.clone();
    let below = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&below);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The trace of a command: 16 bytes derived from its session and id.
fn trace_id(session: &SessionName, command: &CommandId) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("{session}/{command}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sent_or_the_request_is_not() {
        let header = |key: &str| key_header(&key.to_owned().into());
        assert!(matches!(header(""), Ok(None)));
        let (name, value) = header("secret key").unwrap().unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("x-api-key", &b"secret key"[..])
        );
        assert!(matches!(header("a\nb"), Err(FailureCause::InvalidKey)));
    }

    #[test]
    fn the_at_of_a_group_is_encoded_and_the_base_keeps_its_path() {
        let base: Url = "https://proxy.example/waha/".parse().unwrap();
        let id: GroupId = "123123123123@g.us".parse().unwrap();
        let path = format!("api/default/groups{}", within(&id, "/leave"));
        let url = url(&base, &path, &[("limit", "10".to_owned())]);
        assert_eq!(
            url.as_str(),
            "https://proxy.example/waha/api/default/groups/123123123123%40g.us/leave?limit=10"
        );
    }
}
