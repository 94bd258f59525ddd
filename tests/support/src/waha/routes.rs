//! The routes of WAHA's `OpenAPI` document that are about groups, sessions and private ids, checked as
//! `NestJS` checks them, and answered in the way of the server's engine.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

use super::bodies::{lid, phone};
use super::model::{Refusal, Role};
use super::{Asked, Fault, KEY, Shared};

/// What a request comes to.
pub(super) enum Said {
    Json(Value),
    Text(String),
    Nothing,
}

pub(super) type Outcome = Result<Said, Error>;

/// A field of a body, and what it must be.
type Field = (&'static str, fn(&Value) -> bool);

/// Why it comes to nothing.
pub(super) enum Error {
    WhatsApp(u16),
    Status(u16, Value),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::WhatsApp(refusal.code())
    }
}

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
        return json_response(401, &json!({"statusCode": 401, "message": "Unauthorized"}));
    }
    let bytes = to_bytes(body, 16 * 1024 * 1024).await.unwrap_or_default();
    let typed = text("content-type").starts_with("application/json");
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if !bytes.is_empty() && !typed {
        shared.violation(&format!("{path}: a body that is not application/json"));
    }
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

async fn work(shared: &Shared, method: &Method, path: &str, body: &Value) -> Response {
    let (fault, (before, after)) = shared.fault(method, path);
    match &fault {
        Some(Fault::Answer(status, text)) => return text_response(*status, text),
        Some(Fault::Closed) => return closed(),
        Some(Fault::WhatsApp(code)) => return shared.failed(Error::WhatsApp(*code), path),
        Some(Fault::DoneInSilence(delay)) => tokio::time::sleep(*delay).await,
        Some(Fault::DoneButSays(..)) | None => {}
    }
    tokio::time::sleep(before).await;
    let outcome = shared.handle(method, path, body);
    tokio::time::sleep(after).await;
    match fault {
        Some(Fault::DoneButSays(status, text)) => return text_response(status, &text),
        Some(Fault::DoneInSilence(_)) => return closed(),
        _ => {}
    }
    let quirks = shared.quirks();
    let status = if *method == Method::POST && !quirks.post_is_200 {
        201
    } else {
        200
    };
    match outcome {
        Ok(Said::Json(value)) => json_response(status, &value),
        Ok(Said::Text(text)) if quirks.quoted_texts => json_response(status, &json!(text)),
        Ok(Said::Text(text)) => text_response(status, &text),
        Ok(Said::Nothing) => text_response(status, ""),
        Err(error) => shared.failed(error, path),
    }
}

impl Shared {
    pub(super) fn fault(
        &self,
        method: &Method,
        path: &str,
    ) -> (Option<Fault>, (std::time::Duration, std::time::Duration)) {
        let mut inner = self.lock();
        let pace = inner.pace;
        let is_it = |(request, _): &(String, Fault)| {
            request
                .split_once(' ')
                .is_some_and(|(verb, end)| verb == method.as_str() && path.ends_with(end))
        };
        let index = inner.faults.iter().position(is_it);
        let fault = index.and_then(|index| inner.faults.remove(index));
        (fault.map(|(_, fault)| fault), pace)
    }

    pub(super) fn violation(&self, what: &str) {
        self.lock().violations.push(what.to_owned());
    }

    fn failed(&self, error: Error, path: &str) -> Response {
        let quirks = self.quirks();
        match error {
            Error::WhatsApp(code) => {
                let group = path
                    .split('/')
                    .nth(4)
                    .unwrap_or_default()
                    .replace("%40", "@");
                json_response(500, &self.style(&quirks).refusal(code, &group, path))
            }
            Error::Status(status, body) => json_response(status, &body),
        }
    }

    /// Finds the route; the `@` of an id has to be encoded.
    fn handle(&self, method: &Method, path: &str, body: &Value) -> Outcome {
        let (bare, query) = path.split_once('?').unwrap_or((path, ""));
        if bare.contains('@') {
            self.violation(&format!("{path}: an @ that is not encoded"));
        }
        let parts: Vec<_> = bare.trim_start_matches('/').split('/').collect();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["api", "sessions"]) => Ok(Said::Json(self.sessions())),
            (_, ["api", session, rest @ ..]) => {
                let account = self.account(session)?;
                match rest {
                    ["groups", rest @ ..] => {
                        self.groups(method.as_str(), rest, query, body, &account)
                    }
                    ["lids", rest @ ..] if *method == Method::GET => self.lids(rest),
                    _ => Err(self.unknown(method, path)),
                }
            }
            _ => Err(self.unknown(method, path)),
        }
    }

    fn unknown(&self, method: &Method, path: &str) -> Error {
        self.violation(&format!("{method} {path}: no such route"));
        let message = format!("Cannot {method} {path}");
        Error::Status(
            404,
            json!({"statusCode": 404, "message": message, "error": "Not Found"}),
        )
    }

    fn sessions(&self) -> Value {
        let inner = self.lock();
        let all = self.accounts.iter().map(|(name, phone)| {
            let status = inner.statuses.get(name).cloned().unwrap_or_default();
            let me = (status == "WORKING").then(|| {
                json!({"id": format!("{phone}@c.us"), "lid": lid(phone), "pushName": "…"})
            });
            json!({"name": name, "status": status, "config": {}, "me": me, "engine": {"engine": self.personality.name()}})
        });
        Value::Array(all.collect())
    }

    pub(super) fn account(&self, session: &str) -> Result<String, Error> {
        let inner = self.lock();
        let Some(account) = self.accounts.get(session) else {
            let message =
                format!("We didn't find a session with name '{session}'. Please start it first");
            return Err(Error::Status(
                404,
                json!({"statusCode": 404, "message": message, "error": "Not Found"}),
            ));
        };
        let status = inner.statuses.get(session).cloned().unwrap_or_default();
        if status == "WORKING" {
            return Ok(account.clone());
        }
        Err(Error::Status(
            422,
            json!({
                "error": "Session status is not as expected. Try again later or restart the session",
                "session": session, "status": status, "expected": ["WORKING"],
            }),
        ))
    }

    fn lids(&self, rest: &[&str]) -> Outcome {
        let pair = |phone: &str| json!({"lid": lid(phone), "pn": format!("{phone}@c.us")});
        match rest {
            [] => {
                let inner = self.lock();
                let all = inner
                    .world
                    .groups
                    .values()
                    .flat_map(super::model::Group::phones);
                let all: std::collections::BTreeSet<_> = all.collect();
                Ok(Said::Json(all.iter().map(|phone| pair(phone)).collect()))
            }
            [one] => {
                let known = phone(&one.replace("%40", "@"));
                let body = known.map_or(json!({"lid": one, "pn": null}), |phone| pair(&phone));
                Ok(Said::Json(body))
            }
            _ => Err(self.unknown(&Method::GET, &rest.join("/"))),
        }
    }

    fn groups(
        &self,
        method: &str,
        rest: &[&str],
        query: &str,
        body: &Value,
        account: &str,
    ) -> Outcome {
        let group = rest
            .first()
            .map(|id| id.replace("%40", "@"))
            .unwrap_or_default();
        match (method, rest) {
            ("GET", []) => {
                self.check_query(query);
                Ok(self.list(account))
            }
            ("POST", []) => self.create(account, body),
            ("POST", ["refresh"]) => Ok(Said::Json(json!(true))),
            ("GET", [_]) => self.get(&group, account),
            ("DELETE", [_]) => self.delete(&group, account),
            ("POST", [_, "leave"]) => self.leave(&group, account),
            ("PUT", [_, "subject"]) => self.subject(&group, account, body),
            ("PUT", [_, "description"]) => self.description(&group, account, body),
            ("GET", [_, "settings", "security", "info-admin-only"]) => {
                let locked = self.lock().world.group(&group, account)?.locked;
                Ok(Said::Json(json!({ "adminsOnly": locked })))
            }
            ("PUT", [_, "settings", "security", "info-admin-only"]) => {
                self.lock_info(&group, account, body)
            }
            ("GET", [_, "participants"]) => {
                let quirks = self.quirks();
                let mut inner = self.lock();
                let group = inner.world.group(&group, account)?;
                Ok(Said::Json(self.style(&quirks).people(group)))
            }
            ("GET", [_, "participants", "v2"]) => self.people_v2(&group, account),
            ("POST", [_, "participants", "add"]) => self.add(&group, account, body),
            ("POST", [_, "participants", "remove"]) => {
                self.people(&group, account, body, super::model::Group::remove)
            }
            ("POST", [_, "admin", "promote"]) => {
                self.people(&group, account, body, |group, account, people| {
                    group.rank(account, people, Role::Admin)
                })
            }
            ("POST", [_, "admin", "demote"]) => {
                self.people(&group, account, body, |group, account, people| {
                    group.rank(account, people, Role::Member)
                })
            }
            ("GET", [_, "invite-code"]) => self.link(&group, account, false),
            ("POST", [_, "invite-code", "revoke"]) => self.link(&group, account, true),
            _ => {
                let method = method.parse().unwrap_or_default();
                Err(self.unknown(&method, &format!("groups/{}", rest.join("/"))))
            }
        }
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

    /// As class-validator: these fields and no others.
    pub(super) fn fields(&self, body: &Value, wanted: &[Field]) -> Result<(), Error> {
        let object = body.as_object();
        let count = object.map_or(0, serde_json::Map::len);
        let wrong: Vec<_> = wanted
            .iter()
            .filter(|(name, is_valid)| !body.get(*name).is_some_and(is_valid))
            .map(|(name, _)| format!("{name} must be valid"))
            .collect();
        if wrong.is_empty() && count == wanted.len() {
            return Ok(());
        }
        self.violation(&format!(
            "a body that is not as documented: {wrong:?}, {count} fields"
        ));
        Err(Error::Status(
            400,
            json!({"statusCode": 400, "message": wrong, "error": "Bad Request"}),
        ))
    }

    pub(super) fn named(&self, body: &Value) -> Result<Vec<String>, Error> {
        let entries = body["participants"].as_array().cloned().unwrap_or_default();
        let ids = entries.iter().map(|entry| {
            let id = entry.get("id").and_then(Value::as_str);
            let alone = entry.as_object().is_some_and(|entry| entry.len() == 1);
            id.filter(|_| alone).and_then(phone)
        });
        let Some(ids) = ids.collect::<Option<Vec<_>>>() else {
            self.violation("participants that are not [{\"id\": …}]");
            return Err(Error::WhatsApp(400));
        };
        // WAHA#266 and its kin: one number that is none fails them all.
        if ids.iter().any(|id| id.starts_with("000")) {
            return Err(Error::WhatsApp(400));
        }
        Ok(ids)
    }
}

/// Sends what happens, to who asked for it; pings every ten seconds as WAHA does.
async fn feed(mut socket: WebSocket, shared: Arc<Shared>, query: String) {
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
