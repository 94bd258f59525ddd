//! The routes of WAHA's `OpenAPI` document that are about groups, sessions and private ids, checked as
//! `NestJS` checks them, and answered in the way of the server's engine.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

use super::actions::{Outcome, Said};
use super::errors::{Error, exception, no_json, no_route};
use super::model::{Group, Role};
use super::quirks::UNKNOWN_ERROR;
use super::{Asked, Fault, KEY, Shared};

/// How long a request waits for a session that is starting.
const STARTING: Duration = Duration::from_secs(5);

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let routes = Router::new().fallback(answer).with_state(shared);
    axum::serve(listener, routes).await.ok();
}

#[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    if parts.uri.path() == "/ws" {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if !query.contains(&format!("x-api-key={KEY}")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        return match WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
            Ok(upgrade) => upgrade.on_upgrade(move |socket| feed(socket, shared, query)),
            Err(error) => error.into_response(),
        };
    }
    let text = |name: &str| {
        let value = parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    if text("x-api-key") != KEY {
        return json_response(401, &json!({"message": "Unauthorized", "statusCode": 401}));
    }
    let bytes = to_bytes(body, 16 * 1024 * 1024).await.unwrap_or_default();
    let typed = text("content-type").starts_with("application/json");
    if !bytes.is_empty() && !typed {
        shared.violation(&format!("{path}: a body that is not application/json"));
    }
    let body: Value = match serde_json::from_slice(&bytes) {
        Err(_) if !bytes.is_empty() => return json_response(400, &no_json()),
        body => body.unwrap_or_default(),
    };
    let asked = Asked {
        method: parts.method.to_string(),
        path: path.clone(),
        body: body.clone(),
        trace: text("traceparent"),
        trace_state: text("tracestate"),
    };
    shared.lock().asked.push(asked);
    // What was begun is finished, whether or not the caller waits for it.
    let method = parts.method.clone();
    let work = tokio::spawn(async move { work(&shared, &method, &path, &body).await });
    work.await
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

async fn work(shared: &Arc<Shared>, method: &Method, path: &str, body: &Value) -> Response {
    let (fault, (before, after)) = shared.fault(method, path);
    let asked = (method.as_str(), path, body);
    match &fault {
        Some(Fault::Answer(status, text)) => return text_response(*status, text),
        Some(Fault::Closed) => return closed(),
        Some(Fault::WhatsApp(code)) => return shared.failed(Error::WhatsApp(*code), asked),
        Some(Fault::TypeError(message)) => {
            return shared.failed(Error::Thrown(None, message.clone()), asked);
        }
        Some(Fault::UnknownErrorOnCreate { made: false }) => {
            return text_response(201, UNKNOWN_ERROR);
        }
        Some(Fault::DoneInSilence(delay)) => tokio::time::sleep(*delay).await,
        _ => {}
    }
    tokio::time::sleep(before).await;
    shared.until_started(path).await;
    let outcome = shared.handle(method.as_str(), path, body);
    tokio::time::sleep(after).await;
    match fault {
        Some(Fault::DoneButSays(status, text)) => return text_response(status, &text),
        Some(Fault::UnknownErrorOnCreate { .. }) => return text_response(201, UNKNOWN_ERROR),
        Some(Fault::DoneInSilence(_)) => return closed(),
        Some(Fault::DoneAnsweredLate(delay)) => tokio::time::sleep(delay).await,
        _ => {}
    }
    let quirks = shared.quirks();
    let status = if *method == Method::POST && makes(path) && !quirks.post_is_200 {
        201
    } else {
        200
    };
    match outcome {
        Ok(Said::Json(value)) => json_response(status, &value),
        Ok(Said::Text(text)) if quirks.quoted_texts => json_response(status, &json!(text)),
        Ok(Said::Text(text)) => text_response(status, &text),
        Ok(Said::Nothing) => StatusCode::from_u16(status)
            .unwrap_or_default()
            .into_response(),
        Err(error) => shared.failed(error, asked),
    }
}

/// Of all POSTs, those answered with 201: what creates a group, and what starts and stops a session.
fn makes(path: &str) -> bool {
    ["/groups", "/start", "/stop"]
        .iter()
        .any(|it| path.ends_with(it))
}

impl Shared {
    fn fault(&self, method: &Method, path: &str) -> (Option<Fault>, (Duration, Duration)) {
        let mut inner = self.lock();
        let pace = inner.pace;
        let is_it = |(request, _): &&(String, Fault)| {
            request
                .split_once(' ')
                .is_some_and(|(verb, end)| verb == method.as_str() && path.ends_with(end))
        };
        let index = inner.faults.iter().position(|it| is_it(&it));
        let once = index.and_then(|index| inner.faults.remove(index));
        let fault = once.or_else(|| inner.lasting.iter().find(is_it).cloned());
        (fault.map(|(_, fault)| fault), pace)
    }

    /// Waits for a session that is starting, as WAHA does.
    async fn until_started(&self, path: &str) {
        let session = path.split('/').nth(2).unwrap_or_default();
        let starting = || {
            let inner = self.lock();
            let session = inner.sessions.get(session);
            session.is_some_and(|session| session.status == "STARTING")
        };
        let started = async {
            while starting() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(STARTING, started).await.ok();
    }

    pub(super) fn violation(&self, what: &str) {
        self.lock().violations.push(what.to_owned());
    }

    /// WAHA's answer to what went wrong, with the request in it.
    fn failed(&self, error: Error, (method, path, body): (&str, &str, &Value)) -> Response {
        let exception = match exception(self.personality, error) {
            Ok(exception) => exception,
            Err((status, body)) => return json_response(status, &body),
        };
        let tier = if self.quirks().core { "CORE" } else { "PLUS" };
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let query: serde_json::Map<_, _> = query
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let mut request = json!({"path": path, "method": method, "query": query});
        if !body.is_null() {
            request["body"] = body.clone();
        }
        json_response(
            500,
            &json!({
                "statusCode": 500, "timestamp": "2026-11-23T10:00:00.000Z", "exception": exception,
                "request": request,
                "version": {
                    "version": self.version(), "engine": self.personality.name(), "tier": tier, "browser": null,
                    "platform": "linux/x64", "worker": {"id": null},
                },
            }),
        )
    }

    /// Finds the route; the `@` of an id has to be encoded.
    fn handle(self: &Arc<Self>, method: &str, path: &str, body: &Value) -> Outcome {
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        if bare.contains('@') {
            self.violation(&format!("{path}: an @ that is not encoded"));
        }
        let bare = bare.trim_matches('/');
        let parts: Vec<_> = bare.split('/').collect();
        let found = match (method, parts.as_slice()) {
            ("GET", ["api", "sessions"]) => Some(Ok(Said::Json(self.sessions()))),
            (_, ["api", "sessions", name, rest @ ..]) => {
                self.session_route(method, name, rest, body)
            }
            ("GET", ["api", "server", "version"]) => Some(Ok(Said::Json(self.environment()))),
            ("GET", ["api", "contacts", "check-exists"]) => Some(self.check_exists(query)),
            ("GET", ["api", session, "lids", rest @ ..]) if rest.len() < 3 => {
                let working = self.account(session);
                Some(working.and_then(|_| self.lids(rest, query)))
            }
            (_, ["api", session, "groups", rest @ ..]) => {
                self.groups((method, rest), query, body, session)
            }
            _ => None,
        };
        found.unwrap_or_else(|| {
            self.violation(&format!("{method} {path}: no such route"));
            Err(no_route(method, path))
        })
    }

    fn groups(
        &self,
        (method, rest): (&str, &[&str]),
        query: &str,
        body: &Value,
        session: &str,
    ) -> Option<Outcome> {
        // Whether the session works is asked before anything is done.
        let account = match self.account(session) {
            Ok(account) => account,
            Err(error) => return Some(Err(error)),
        };
        let account = account.as_str();
        let found = match (method, rest) {
            ("GET", []) => {
                self.check_query(query);
                Ok(self.list(session, account, query))
            }
            ("GET", ["count"]) => Ok(self.count(session, account)),
            ("GET", ["join-info"]) => self.join_info(account, &query.replace("code=", "")),
            ("POST", []) => self.create(account, body),
            ("POST", ["join"]) => self.join(account, body),
            ("POST", ["refresh"]) => Ok(self.refresh(session, account)),
            (_, [id, rest @ ..]) => {
                let id = id.replace("%40", "@");
                return self.group_route((method, rest), &id, (query, body), session, account);
            }
            _ => return None,
        };
        Some(found)
    }

    /// The routes of one group.
    fn group_route(
        &self,
        (method, rest): (&str, &[&str]),
        id: &str,
        (query, body): (&str, &Value),
        session: &str,
        account: &str,
    ) -> Option<Outcome> {
        Some(match (method, rest) {
            ("GET", []) => self.get(id, session, account),
            ("DELETE", []) => self.delete(id, account),
            ("POST", ["leave"]) => self.leave(id, account),
            ("PUT", ["subject"]) => self.subject(id, account, body),
            ("PUT", ["description"]) => self.description(id, account, body),
            ("GET", ["picture"]) => Ok(self.picture(id, account, query)),
            ("PUT", ["picture"]) => self.set_picture(id, account, body),
            ("DELETE", ["picture"]) => self.delete_picture(id, account),
            ("GET", ["settings", "security", name]) => {
                return self.setting(name, id, session, account);
            }
            ("PUT", ["settings", "security", name]) => {
                return self.set_setting(name, id, session, account, body);
            }
            ("GET", ["participants"]) => self.people_of(id, session, account),
            ("GET", ["participants", "v2"]) => self.people_v2(id, session, account),
            (_, ["participants", "join-requests", ..]) if !self.quirks().recent => {
                let path = format!("/api/{session}/groups/{id}/{}", rest.join("/"));
                Err(no_route(method, &path))
            }
            ("GET", ["participants", "join-requests"]) => self.join_requests(id, account),
            (
                "POST",
                [
                    "participants",
                    "join-requests",
                    decision @ ("approve" | "reject"),
                ],
            ) => self.decide(id, account, body, *decision == "approve"),
            ("POST", ["participants", "add"]) => self.add(id, account, body),
            ("POST", ["participants", "remove"]) => {
                self.change_people(id, account, body, Group::remove)
            }
            ("POST", ["admin", "promote"]) => {
                self.change_people(id, account, body, |group, account, people| {
                    group.rank(account, people, Role::Admin)
                })
            }
            ("POST", ["admin", "demote"]) => {
                self.change_people(id, account, body, |group, account, people| {
                    group.rank(account, people, Role::Member)
                })
            }
            ("GET", ["invite-code"]) => self.link(id, account, false),
            ("POST", ["invite-code", "revoke"]) => self.link(id, account, true),
            _ => return None,
        })
    }

    fn check_query(&self, query: &str) {
        const KNOWN: [&str; 5] = ["limit", "offset", "sortBy", "sortOrder", "exclude"];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let name = pair.split('=').next().unwrap_or_default();
            if !KNOWN.contains(&name) {
                self.violation(&format!("a query that does not exist: {name}"));
            }
        }
    }
}

/// Sends what happens, to who asked for it; pings every ten seconds as WAHA does.
async fn feed(mut socket: WebSocket, shared: Arc<Shared>, query: String) {
    // An older WAHA closes a connection that names an unknown event (`FEATURES.md`, 2: close code 4001).
    if query.contains("join-request") && !shared.quirks().recent {
        let frame = CloseFrame {
            code: 4001,
            reason: "".into(),
        };
        socket.send(Message::Close(Some(frame))).await.ok();
        return;
    }
    let mut hung_up = shared.hang_up.subscribe();
    let mut news = shared.feed.subscribe();
    let mut ping = tokio::time::interval(std::time::Duration::from_secs(10));
    loop {
        tokio::select! {
            told = news.recv() => match told {
                Ok((event, text)) => {
                    let wanted = query.contains(&format!("events={event}"));
                    if wanted && socket.send(Message::Text(text.into())).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = ping.tick() => {
                if socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                    return;
                }
            }
            _ = hung_up.changed() => return,
            heard = socket.recv() => match heard {
                Some(Ok(_)) => {}
                _ => return,
            }
        }
    }
}

fn json_response(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (status, kind, body.to_string()).into_response()
}

fn text_response(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, text.to_owned()).into_response()
}

/// An answer that breaks off: it promises a body and closes.
fn closed() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<axum::body::Bytes, _>(std::io::Error::other("closed on purpose"))
    });
    Response::new(Body::from_stream(broken))
}
