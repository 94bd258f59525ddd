//! What this WAHA tells of by itself: envelopes, webhooks with their signature and retries, and the
//! WebSocket. Each event is sent by itself, so a later one may arrive first, as with the real one. What
//! stands in them is each engine's own business.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha512;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bodies::Style;
use super::model::{Change, Group};
use super::store::Store;
use super::{Personality, RECENT, Shared, VERSION, gows, join_requests, now_ms, noweb, webjs};

/// Where webhooks go.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// `127.0.0.1:9464`
    pub host: String,
    /// `/engines/waha/events`
    pub path: String,
    /// The key of the HMAC.
    pub key: String,
}

/// How often a webhook is tried, and how long after: WAHA's default is 15 and two seconds.
const ATTEMPTS: u32 = 150;
const AGAIN: Duration = Duration::from_millis(200);
/// How long NOWEB's store takes to learn of a new group.
const STORED: Duration = Duration::from_millis(30);

impl Shared {
    /// How this server writes, now.
    pub(super) fn style(&self) -> Style {
        let inner = self.lock();
        Style {
            personality: self.personality,
            quirks: inner.quirks,
            people: inner.people.clone(),
            now: now_ms(),
        }
    }

    pub(super) fn tell_all(&self, group: &Group, actor: &str, changes: &[Change]) {
        for change in changes {
            self.tell(group, actor, change);
        }
    }

    /// Tells every session that sees a change.
    pub(super) fn tell(&self, group: &Group, actor: &str, change: &Change) {
        let style = self.style();
        let events = match self.personality {
            Personality::Webjs => webjs::events,
            Personality::Noweb => noweb::events,
            Personality::Gows => gows::events,
        };
        let core = style.quirks.core;
        let sessions = self.accounts.iter();
        for (session, account) in sessions.filter(|(it, _)| !core || *it == "default") {
            let events = match change {
                Change::Request(action, request) => {
                    join_requests::event(&style, group, actor, (action, request), account)
                }
                _ => events(&style, group, actor, change, account),
            };
            if style.quirks.store && self.personality == Personality::Noweb {
                self.store_learns(account, &events);
            }
            let times = if style.quirks.doubled_events { 2 } else { 1 };
            for _ in 0..times {
                for (event, payload) in &events {
                    self.send(session, event, payload);
                }
            }
        }
    }

    /// NOWEB's store learns of what happens, of new groups a moment later.
    #[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
    fn store_learns(&self, account: &str, events: &[(&'static str, Value)]) {
        let mut inner = self.lock();
        let store = inner.stores.entry(account.to_owned()).or_default();
        // Each event is to be learnt, whichever takes a moment.
        let waits = events
            .iter()
            .filter(|(event, payload)| store.learn(event, payload))
            .count();
        if waits > 0 && !inner.quirks.store_waits {
            let shared = self.this.clone();
            tokio::spawn(async move {
                tokio::time::sleep(STORED).await;
                if let Some(shared) = shared.upgrade() {
                    let mut inner = shared.lock();
                    inner.stores.values_mut().for_each(Store::catch_up);
                }
            });
        }
    }

    /// Sends an event to whoever listens.
    pub(super) fn send(&self, session: &str, event: &str, payload: &Value) {
        let quirks = self.quirks();
        if quirks.deaf {
            return;
        }
        let envelope = self.envelope(session, event, payload);
        // Nobody may be listening.
        self.feed
            .send((event.to_owned(), envelope.to_string()))
            .ok();
        let times = if quirks.repeated_posts { 2 } else { 1 };
        for _ in 0..times {
            self.post(envelope.clone());
        }
    }

    /// Posts an event, or keeps it as long as posts are held.
    #[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
    pub(super) fn post(&self, envelope: Value) {
        let mut inner = self.lock();
        if let Some(held) = &mut inner.held {
            held.push(envelope);
        } else if let Some(webhook) = inner.webhook.clone() {
            tokio::spawn(post_until_taken(webhook, envelope.to_string()));
        }
    }

    /// `GET /api/server/version` (WAHA's `environment.dto.ts`).
    pub(super) fn environment(&self) -> Value {
        json!({
            "version": self.version(), "engine": self.personality.name(),
            "tier": if self.quirks().core { "CORE" } else { "PLUS" }, "browser": null,
        })
    }

    /// The server's version.
    pub(super) fn version(&self) -> &'static str {
        if self.quirks().recent {
            RECENT
        } else {
            VERSION
        }
    }

    /// As captured: GOWS tells its engine in `environment` alone, and has no `me` before it knows who it is.
    pub(super) fn envelope(&self, session: &str, event: &str, payload: &Value) -> Value {
        let number = self.next_event();
        let quirks = self.quirks();
        let tier = if quirks.core { "CORE" } else { "PLUS" };
        let engine = self.personality.name();
        let mut envelope = json!({
            "id": format!("evt_{:013x}{number:013x}", now_ms()), "timestamp": now_ms(),
            "event": event, "session": session, "payload": payload,
            "environment": {
                "version": self.version(), "engine": engine, "tier": tier, "browser": null,
                "platform": "linux/x64", "worker": {"id": null},
            },
        });
        let me = self.me(session);
        let gows = self.personality == Personality::Gows;
        if me.is_some() || !gows {
            envelope["me"] = me.unwrap_or_default();
        }
        if !gows || quirks.newer {
            envelope["engine"] = json!(engine);
        }
        envelope
    }
}

/// The signature of a body, as WAHA makes it.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "HMAC takes a key of any length")]
pub fn signature(key: &str, body: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha512>::new_from_slice(key.as_bytes()).expect("any key");
    mac.update(body.as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

async fn post_until_taken(webhook: Webhook, body: String) {
    for _ in 0..ATTEMPTS {
        let signature = signature(&webhook.key, &body);
        let posted = post(&webhook.host, &webhook.path, &signature, body.as_bytes()).await;
        if posted.is_ok_and(|status| (200..300).contains(&status)) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Posts a body with a signature; the status of the answer.
///
/// # Errors
/// When there is none within ten seconds.
pub async fn post(host: &str, path: &str, signature: &str, body: &[u8]) -> anyhow::Result<u16> {
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             user-agent: WAHA/2026.2.1\r\nx-webhook-request-id: {}\r\nx-webhook-hmac: {signature}\r\nx-webhook-hmac-algorithm: sha512\r\n\
             x-webhook-timestamp: {}\r\ncontent-length: {}\r\n\r\n",
            uuid::Uuid::new_v4().simple(),
            now_ms(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // A server that refuses early may not read all of it.
        stream.write_all(body).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        let text = String::from_utf8_lossy(&answer);
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        anyhow::Context::context(status, "a status line")
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await?
}
