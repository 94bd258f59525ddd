//! Sessions and their life, private ids, and whether a number is on `WhatsApp`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::actions::{Outcome, Said};
use super::errors::{Error, no_route};
use super::people::{self, lid, public};
use super::{Personality, Shared, now_ms};

/// One session.
#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) status: String,
    /// The statuses since the start, and when.
    history: Vec<(String, i64)>,
    config: Value,
}

/// How many statuses a webhook tells.
const TOLD: usize = 3;
/// How long a start takes.
const START: Duration = Duration::from_millis(20);
/// How many private ids a page has, unless asked otherwise.
const PAGE: usize = 100;

impl Session {
    pub(super) fn working() -> Self {
        Self {
            status: "WORKING".to_owned(),
            history: vec![("WORKING".to_owned(), now_ms())],
            config: json!({}),
        }
    }

    fn is_stopped(&self) -> bool {
        self.status == "STOPPED"
    }
}

impl Shared {
    /// Gives a session another status, and tells.
    pub(super) fn set_status(&self, session: &str, status: &str) {
        let mut inner = self.lock();
        let it = inner.sessions.entry(session.to_owned()).or_default();
        if status == "STARTING" && it.status != "WORKING" {
            it.history.clear();
        }
        status.clone_into(&mut it.status);
        it.history.push((status.to_owned(), now_ms()));
        let statuses = it.history.iter().rev().take(TOLD).rev();
        let statuses: Vec<_> = statuses
            .map(|(status, at)| json!({"status": status, "timestamp": at}))
            .collect();
        drop(inner);
        let payload = json!({"name": session, "status": status, "statuses": statuses});
        self.send(session, "session.status", &payload);
    }

    /// Who the account is; None as long as WAHA does not know.
    pub(super) fn me(&self, session: &str) -> Option<Value> {
        let quirks = self.quirks();
        let account = self.accounts.get(session)?;
        let inner = self.lock();
        let status = inner.sessions.get(session).map(|it| it.status.clone());
        let status = status.unwrap_or_default();
        drop(inner);
        if ["STARTING", "SCAN_QR_CODE"].contains(&status.as_str()) {
            return None;
        }
        let mut me = json!({"id": public(account), "pushName": "…"});
        if !quirks.me_without_lid {
            me["lid"] = json!(lid(account));
        }
        if self.personality == Personality::Gows {
            me["jid"] = json!(format!("{account}:5@s.whatsapp.net"));
        }
        Some(me)
    }

    /// Lists sessions, without their engines.
    pub(super) fn sessions(&self) -> Value {
        let names: Vec<_> = self.lock().sessions.keys().cloned().collect();
        let core = self.quirks().core;
        let names = names.iter().filter(|name| !core || *name == "default");
        let listed = names.filter_map(|name| {
            let mut session = self.session(name)?;
            session.as_object_mut()?.remove("engine");
            Some(session)
        });
        listed.collect()
    }

    fn session(&self, name: &str) -> Option<Value> {
        let me = self.me(name);
        let inner = self.lock();
        let session = inner.sessions.get(name)?;
        let stopped = session.is_stopped();
        let mut body = json!({
            "name": name, "status": session.status, "config": session.config, "presence": null,
            "timestamps": if stopped { json!({"activity": null}) } else { json!({}) },
            "engine": if stopped { json!({}) } else { self.engine_told(&session.status) },
        });
        let me = me.filter(|_| !stopped);
        if stopped || me.is_some() || self.personality != Personality::Gows {
            body["me"] = me.unwrap_or_default();
        }
        Some(body)
    }

    /// GOWS does not tell its name here.
    fn engine_told(&self, status: &str) -> Value {
        if self.personality != Personality::Gows {
            return json!({"engine": self.personality.name()});
        }
        let ready = if status == "STARTING" {
            "CONNECTING"
        } else {
            "READY"
        };
        let error = json!({
            "code": 12, "details": "GetSessionState",
            "metadata": {"content-type": ["application/grpc+proto"], "date": ["Fri, 27 Nov 2026 20:36:58 GMT"]},
        });
        json!({"grpc": {"client": ready, "stream": ready}, "gows": {"error": error}})
    }

    fn only_default(&self, session: &str) -> Result<(), Error> {
        if !self.quirks().core || session == "default" {
            return Ok(());
        }
        let encoded = STANDARD.encode(session);
        let message = format!(
            "WAHA Core support only 'default' session. You tried to access '{session}' session (base64: {encoded}). If you want to run more then one WhatsApp account - please get WAHA PLUS version. Check this out: https://waha.devlike.pro/"
        );
        let body = json!({"message": message, "error": "Unprocessable Entity", "statusCode": 422});
        Err(Error::Status(422, body))
    }

    /// The account of a session that is working.
    pub(super) fn account(&self, session: &str) -> Result<String, Error> {
        self.only_default(session)?;
        let inner = self.lock();
        let found = inner.sessions.get(session).zip(self.accounts.get(session));
        let Some((found, account)) = found else {
            let error = format!("Session \"{session}\" does not exist");
            return Err(Error::Status(
                422,
                json!({"error": error, "session": session}),
            ));
        };
        if found.status == "WORKING" {
            return Ok(account.clone());
        }
        let error = "Session status is not as expected. Try again later or restart the session";
        let body = json!({
            "error": error, "session": session, "status": found.status, "expected": ["WORKING"],
        });
        Err(Error::Status(422, body))
    }

    /// The routes of one session.
    pub(super) fn session_route(
        self: &std::sync::Arc<Self>,
        method: &str,
        name: &str,
        rest: &[&str],
        body: &Value,
    ) -> Option<Outcome> {
        if let Err(error) = self.only_default(name) {
            return Some(Err(error));
        }
        match (method, rest) {
            ("GET", []) => {}
            ("PUT", []) => {
                let mut config = body["config"].clone();
                if let Some(noweb) = config.get_mut("noweb").and_then(Value::as_object_mut) {
                    noweb.entry("markOnline").or_insert(json!(true));
                }
                let mut inner = self.lock();
                let session = inner.sessions.entry(name.to_owned()).or_default();
                session.config = config;
                if session.status.is_empty() {
                    "STOPPED".clone_into(&mut session.status);
                }
            }
            ("POST", ["start"]) => {
                self.set_status(name, "STARTING");
                self.lock().stores.clear();
                self.works_soon(name);
            }
            ("POST", ["stop"]) => self.set_status(name, "STOPPED"),
            ("DELETE", []) => {
                self.set_status(name, "STOPPED");
                self.lock().sessions.remove(name);
                return Some(Ok(Said::Nothing));
            }
            _ => return None,
        }
        let session = self.session(name);
        Some(session.map(Said::Json).ok_or_else(|| {
            let body =
                json!({"message": "Session not found", "error": "Not Found", "statusCode": 404});
            Error::Status(404, body)
        }))
    }

    #[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
    fn works_soon(self: &std::sync::Arc<Self>, name: &str) {
        let (shared, name) = (std::sync::Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(START).await;
            shared.set_status(&name, "WORKING");
        });
    }

    /// Private ids; NOWEB needs its store for them (`WAHA-API.md`, section 2).
    pub(super) fn lids(&self, rest: &[&str], query: &str) -> Outcome {
        if self.personality == Personality::Noweb && !self.quirks().store {
            let message = "Enable NOWEB store \"config.noweb.store.enabled=True\" and \"config.noweb.store.full_sync=True\" when starting a new session. Read more: https://waha.devlike.pro/docs/engines/noweb#store";
            let body = json!({"message": message, "error": "Bad Request", "statusCode": 400});
            return Err(Error::Status(400, body));
        }
        let pair = |phone: &str| json!({"lid": lid(phone), "pn": public(phone)});
        let inner = self.lock();
        let groups = inner.world.groups.values();
        let all = groups.flat_map(super::model::Group::phones);
        let all: std::collections::BTreeSet<_> = all.collect();
        match rest {
            [] => {
                let number = |name: &str| {
                    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                    let mut found = pairs.filter(|(it, _)| *it == name);
                    found.next().and_then(|(_, value)| value.parse().ok())
                };
                let page = all.iter().skip(number("offset").unwrap_or_default());
                let page = page.take(number("limit").unwrap_or(PAGE));
                Ok(Said::Json(page.map(|phone| pair(phone)).collect()))
            }
            ["count"] => Ok(Said::Json(json!({ "count": all.len() }))),
            ["pn", phone] => {
                let asked = phone.replace("%40", "@");
                let known = people::phone(&asked).map(|phone| inner.people.own_form(phone));
                let known = known.filter(|phone| all.contains(phone));
                let nobody = json!({"lid": null, "pn": asked});
                Ok(Said::Json(known.map_or(nobody, |phone| pair(&phone))))
            }
            [one] => {
                let asked = one.replace("%40", "@");
                let known = people::phone(&asked).filter(|phone| all.contains(phone));
                let nobody = json!({"lid": asked, "pn": null});
                Ok(Said::Json(known.map_or(nobody, |phone| pair(&phone))))
            }
            _ => Err(no_route("GET", &rest.join("/"))),
        }
    }

    /// `contacts/check-exists`: with the number in `WhatsApp`'s own form.
    pub(super) fn check_exists(&self, query: &str) -> Outcome {
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(it, _)| *it == name);
            found.next().map(|(_, value)| value.replace("%40", "@"))
        };
        self.account(&value("session").unwrap_or_default())?;
        let phone = value("phone").and_then(|phone| people::phone(&phone));
        let phone = phone.map(|phone| self.lock().people.own_form(phone));
        Ok(Said::Json(match phone {
            Some(phone) if !(phone.starts_with("99900") && phone.ends_with("404")) => {
                json!({"numberExists": true, "chatId": public(&phone)})
            }
            _ => json!({"numberExists": false}),
        }))
    }
}
