//! Parses WAHA's events: from the body of a webhook, or a message of the WebSocket, to a report.
//!
//! `groups` parses changes of a group, `people` changes of its members and their author. Both correct
//! WAHA's mistakes (WAHA 2025.2 to 2026.10, commits 193eb53 and 6aa4282, and the webhooks of a WAHA
//! 2026.2.1). Times are seconds with WEBJS and milliseconds elsewhere.

mod groups;
mod people;

use serde_json::Value;

use super::health;
use super::wire::{self, id_text, timestamp};
use crate::contract::{GroupId, ParticipantId, SessionName};
use crate::engines::sync::Person;
use crate::engines::sync::{Observation, Report, Source};
use crate::store::pending_events::Headers;

/// A parsed event.
#[derive(Debug)]
pub(super) struct Notice {
    /// Its id in WAHA.
    pub(super) id: String,
    pub(super) session: SessionName,
    /// When WAHA sent it, in milliseconds.
    pub(super) sent: i64,
    /// The ids of the session's account, if WAHA sent them.
    pub(super) me: Vec<ParticipantId>,
    pub(super) content: NoticeContent,
}

/// What an event is about.
#[derive(Debug)]
pub(super) enum NoticeContent {
    /// A group changed.
    Group(GroupId, Vec<Observation>, Moment),
    /// A group changed, and only a read of the group shows how.
    Refresh(GroupId),
    /// The session's status and since when, in milliseconds.
    Status(String, i64),
    /// The contract has no event for it.
    Ignored,
}

/// When it happened, and who did it if that is known.
#[derive(Debug)]
pub(super) struct Moment {
    at: i64,
    pub(super) author: Option<Person>,
}

/// A body that is not an event of WAHA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Notice {
    /// The report for the state store.
    pub(super) fn report(
        id: &str,
        me: Vec<ParticipantId>,
        observations: Vec<Observation>,
        moment: &Moment,
        now: i64,
    ) -> Report {
        Report {
            source: Source::Notification(id.to_owned()),
            at: moment.at,
            observed_at: now,
            now,
            me,
            author: moment.author.clone(),
            observations,
            trace: Headers::new(),
        }
    }
}

/// Parses an event.
pub(super) fn read(body: &[u8]) -> Result<Notice, Malformed> {
    let body: Value =
        serde_json::from_slice(body).map_err(|_| Malformed("the body is not JSON"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let id = text("id").filter(|id| (1..=200).contains(&id.len()));
    let id = id.ok_or(Malformed("the id is missing"))?;
    let name = text("event").ok_or(Malformed("the event name is missing"))?;
    let session = text("session").and_then(|session| session.parse().ok());
    let sent = body.get("timestamp").and_then(timestamp);
    let sent = sent
        .ok_or(Malformed("the timestamp is missing"))?
        .0
        .as_millisecond();
    let me = health::me(&body);
    // Until about 2026.5, GOWS named its engine in `environment` only.
    let engine = text("engine").or_else(|| body.get("environment")?.get("engine")?.as_str());
    let envelope = Envelope {
        name,
        engine: engine.unwrap_or_default(),
        version: version(&body),
        me: &me,
        payload: body.get("payload").unwrap_or(&Value::Null),
        sent,
    };
    let content = envelope.read()?;
    Ok(Notice {
        id: id.to_owned(),
        session: session.ok_or(Malformed("the session is missing"))?,
        sent,
        me,
        content,
    })
}

/// WAHA's version, as year and month.
fn version(body: &Value) -> Option<(u16, u16)> {
    let text = body.get("environment")?.get("version")?.as_str()?;
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The parts of an event that are needed to parse its payload.
struct Envelope<'a> {
    name: &'a str,
    engine: &'a str,
    version: Option<(u16, u16)>,
    me: &'a [ParticipantId],
    payload: &'a Value,
    sent: i64,
}

impl Envelope<'_> {
    fn read(&self) -> Result<NoticeContent, Malformed> {
        match self.name {
            "group.v2.join" => self.own_join(self.payload.get("group")),
            "group.v2.leave" => self.observation(Observation::OwnLeft(self.own_leave_type())),
            "group.v2.participants" => self.participants(),
            "group.v2.participants.join-request" => self.join_request(),
            "group.v2.update" => self.update(),
            "group.join" => self.older_join(),
            "group.leave" | "group.left" => self.older_leave(),
            "session.status" => self.status(),
            _ => Ok(NoticeContent::Ignored),
        }
    }

    /// WAHA retries each webhook on its own, so the status's own time shows which is the newest.
    fn status(&self) -> Result<NoticeContent, Malformed> {
        let status = self.payload.get("status").and_then(Value::as_str);
        let status = status.ok_or(Malformed("the status is missing"))?;
        let all = self.payload.get("statuses").and_then(Value::as_array);
        let last = all.and_then(|all| all.last());
        let last = last.filter(|last| last.get("status").and_then(Value::as_str) == Some(status));
        let at = last.and_then(|last| last.get("timestamp").and_then(timestamp));
        let at = at.map_or(self.sent, |at| at.0.as_millisecond());
        Ok(NoticeContent::Status(status.to_owned(), at))
    }

    fn observation(&self, observation: Observation) -> Result<NoticeContent, Malformed> {
        self.observations(vec![observation])
    }

    fn observations(&self, observations: Vec<Observation>) -> Result<NoticeContent, Malformed> {
        Ok(NoticeContent::Group(
            self.group_id()?,
            observations,
            self.moment(),
        ))
    }

    fn group_id(&self) -> Result<GroupId, Malformed> {
        let value = self.payload.get("group").and_then(|group| group.get("id"));
        let value = value.or_else(|| self.payload.get("chatId"));
        let id = value.and_then(id_text).and_then(|id| id.parse().ok());
        id.ok_or(NO_GROUP)
    }

    fn moment(&self) -> Moment {
        let at = self.payload.get("timestamp").and_then(timestamp);
        Moment {
            at: at.map_or(self.sent, |at| at.0.as_millisecond()),
            author: self.actor(),
        }
    }

    /// A field of the engine's own event, if present and not null.
    fn data(&self, names: &[&str]) -> Option<&Value> {
        wire::field(self.payload.get("_data")?, names)
    }

    /// A text field of the engine's own event.
    fn text(&self, name: &str) -> Option<&str> {
        self.data(&[name])?.as_str().filter(|word| !word.is_empty())
    }
}

const NO_GROUP: Malformed = Malformed("the group id is missing");

#[cfg(test)]
mod captured;
#[cfg(test)]
mod tests;
