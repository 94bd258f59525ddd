//! What this WAHA tells of by itself: envelopes, webhooks with their signature and retries, and the
//! WebSocket. Each event is sent by itself, so a later one may arrive first, as with the real one.

use std::time::Duration;

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha512;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bodies::{Style, lid};
use super::model::{Change, Group, Role};
use super::{Personality, Shared, now_ms};

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

impl Shared {
    /// Tells every session that sees a change.
    pub(super) fn tell(&self, group: &Group, change: &Change) {
        for (session, account) in &self.accounts {
            let inside = group.role(account).is_some();
            for (event, payload) in self.events_for(group, change, account, inside) {
                self.send(session, event, &payload);
            }
        }
    }

    /// What one session sees of a change.
    fn events_for(
        &self,
        group: &Group,
        change: &Change,
        account: &str,
        inside: bool,
    ) -> Vec<(&'static str, Value)> {
        let quirks = self.quirks();
        let named = |people: &[String]| people.iter().any(|it| it == account);
        let mut all = Vec::new();
        match change {
            Change::Created if inside => all.push(self.own_join(group)),
            Change::Joined(people) if named(people) => all.push(self.own_join(group)),
            Change::Joined(people) if inside => {
                all.push(self.participants(group, "join", people, Role::Member));
                if quirks.older_events && self.personality == Personality::Webjs {
                    all.push(("group.join", notification(group, "add", people)));
                }
            }
            Change::Left(who) if who == account => all.push(own_leave(group, &self.stamp())),
            Change::Removed(people) if named(people) => all.push(own_leave(group, &self.stamp())),
            Change::Left(who) if inside => {
                all.push(self.participants(
                    group,
                    "leave",
                    std::slice::from_ref(who),
                    Role::Member,
                ));
            }
            Change::Removed(people) if inside => {
                all.push(self.participants(group, "leave", people, Role::Member));
                if quirks.older_events && self.personality == Personality::Webjs {
                    all.push(("group.leave", notification(group, "remove", people)));
                }
            }
            Change::Promoted(people) if inside => {
                all.push(self.participants(group, "promote", people, Role::Admin));
            }
            Change::Demoted(people) if inside => {
                // NOWEB says that who was demoted is an admin.
                let role = if self.personality == Personality::Noweb {
                    Role::Admin
                } else {
                    Role::Member
                };
                all.push(self.participants(group, "demote", people, role));
            }
            Change::Subject if inside => {
                all.push(self.update(group, &json!({"subject": group.subject})));
            }
            Change::Description if inside => {
                all.push(self.update(group, &json!({"description": group.description})));
            }
            Change::Locked if inside => all.push(self.update(group, &json!({}))),
            _ => {}
        }
        if quirks.doubled_events {
            let again = all.clone();
            all.extend(again);
        }
        all
    }

    fn own_join(&self, group: &Group) -> (&'static str, Value) {
        let people: Vec<_> = group
            .members
            .iter()
            .map(|(phone, role)| self.person(phone, *role))
            .collect();
        let told = json!({
            "id": group.id, "subject": group.subject, "description": group.description,
            "invite": format!("https://chat.whatsapp.com/{}", group.invite),
            "membersCanAddNewMember": true,
            // Inverted by all three engines: it is `announce`.
            "membersCanSendMessages": false,
            "newMembersApprovalRequired": false, "participants": people,
        });
        let data = self.style(&self.quirks()).group(group);
        let payload = json!({"timestamp": self.stamp(), "group": told, "_data": data});
        ("group.v2.join", payload)
    }

    fn participants(
        &self,
        group: &Group,
        kind: &str,
        people: &[String],
        role: Role,
    ) -> (&'static str, Value) {
        let mut people: Vec<_> = people
            .iter()
            .map(|phone| self.person(phone, role))
            .collect();
        if kind == "leave" {
            for person in &mut people {
                person["role"] = json!("left");
            }
        }
        let payload = json!({
            "type": kind, "timestamp": self.stamp(), "group": {"id": group.id},
            "participants": people, "_data": {},
        });
        ("group.v2.participants", payload)
    }

    /// WEBJS sends everything, the others what has changed; who may edit stands in `_data` alone.
    fn update(&self, group: &Group, changed: &Value) -> (&'static str, Value) {
        let mut told = json!({"id": group.id});
        if self.personality == Personality::Webjs {
            told["subject"] = json!(group.subject);
            told["description"] = json!(group.description);
        } else if let (Some(told), Some(changed)) = (told.as_object_mut(), changed.as_object()) {
            told.extend(changed.clone());
        }
        let data = self.style(&self.quirks()).group(group);
        let payload = json!({"timestamp": self.stamp(), "group": told, "_data": data});
        ("group.v2.update", payload)
    }

    fn person(&self, phone: &str, role: Role) -> Value {
        let quirks = self.quirks();
        let id = if quirks.lids {
            lid(phone)
        } else {
            format!("{phone}@c.us")
        };
        let role = match role {
            Role::Member => "participant",
            Role::Admin => "admin",
            Role::Creator => "superadmin",
        };
        json!({"id": id, "pn": format!("{phone}@c.us"), "role": role})
    }

    /// Seconds with WEBJS, milliseconds elsewhere.
    fn stamp(&self) -> Value {
        let now = now_ms();
        if self.personality == Personality::Webjs {
            json!(now / 1_000)
        } else {
            json!(now)
        }
    }

    pub(super) fn status_changed(&self, session: &str, status: &str) {
        self.send(
            session,
            "session.status",
            &json!({"name": session, "status": status}),
        );
    }

    /// Sends an event to whoever listens.
    #[expect(clippy::disallowed_methods, reason = "the tests have no lifecycle")]
    pub(super) fn send(&self, session: &str, event: &str, payload: &Value) {
        if self.quirks().deaf {
            return;
        }
        let envelope = self.envelope(session, event, payload);
        // Nobody may be listening.
        self.feed
            .send((event.to_owned(), envelope.to_string()))
            .ok();
        let webhook = self.lock().webhook.clone();
        if let Some(webhook) = webhook {
            tokio::spawn(post_until_taken(webhook, envelope.to_string()));
        }
    }

    pub(super) fn envelope(&self, session: &str, event: &str, payload: &Value) -> Value {
        let account = self.accounts.get(session).cloned().unwrap_or_default();
        let number = self.next_event();
        json!({
            "id": format!("evt_{:013x}{number:013x}", now_ms()), "timestamp": now_ms(),
            "event": event, "session": session, "metadata": {},
            "me": {"id": format!("{account}@c.us"), "pushName": "…", "lid": lid(&account), "jid": format!("{account}:7@s.whatsapp.net")},
            "payload": payload,
            "environment": {"version": "2026.10.1", "engine": self.personality.name(), "tier": "PLUS", "browser": null},
            "engine": self.personality.name(),
        })
    }

    pub(super) fn style<'a>(&self, quirks: &'a super::Quirks) -> Style<'a> {
        Style {
            personality: self.personality,
            quirks,
        }
    }
}

fn own_leave(group: &Group, stamp: &Value) -> (&'static str, Value) {
    let payload = json!({"timestamp": stamp, "group": {"id": group.id}, "_data": {}});
    ("group.v2.leave", payload)
}

/// whatsapp-web.js's `GroupNotification`.
fn notification(group: &Group, kind: &str, people: &[String]) -> Value {
    let ids: Vec<_> = people.iter().map(|phone| format!("{phone}@c.us")).collect();
    json!({
        "id": {"_serialized": format!("false_{}_{}", group.id, now_ms())}, "body": "", "type": kind,
        "timestamp": now_ms() / 1_000, "chatId": group.id, "author": format!("{}@c.us", group.owner),
        "recipientIds": ids,
    })
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
             user-agent: WAHA/2026.10.1\r\nx-webhook-hmac: {signature}\r\nx-webhook-hmac-algorithm: sha512\r\n\
             x-webhook-timestamp: {}\r\ncontent-length: {}\r\n\r\n",
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
