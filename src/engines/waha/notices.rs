//! WAHA's events, read: from the body of a webhook, or a message of the WebSocket, to a report.
//!
//! What WAHA gets wrong is put right here (WAHA 2025.2 to 2026.8, commits 193eb53 and 6aa4282): times
//! are seconds with WEBJS and milliseconds elsewhere; `membersCanSendMessages` means its opposite
//! everywhere but in GOWS's updates; NOWEB calls a demoted person an admin; and the older `group.join`
//! means anybody with WEBJS but oneself with NOWEB.

use serde_json::Value;

use super::health;
use super::known::{Claim, Report, Source};
use super::wire::{self, Person, Seen, field, id_text, named, participant, timestamp};
use crate::contract::{GroupId, NotificationType, ParticipantId, Role, SessionName};
use crate::store::pending_events::Headers;

/// An event that was read.
#[derive(Debug)]
pub(super) struct Notice {
    /// WAHA's id of it.
    pub(super) id: String,
    pub(super) session: SessionName,
    /// When WAHA sent it, in milliseconds.
    pub(super) sent: i64,
    /// The ids of the session's account, where WAHA told.
    pub(super) me: Vec<ParticipantId>,
    pub(super) what: What,
}

/// What an event is about.
#[derive(Debug)]
pub(super) enum What {
    /// A group changed.
    Group(GroupId, Vec<Claim>, Moment),
    /// A group changed, and only looking at it tells how.
    Look(GroupId),
    /// The session's status, and when it became so, in milliseconds.
    Status(String, i64),
    /// Nothing that there is an event for.
    Other,
}

/// When it happened, and who did it where that is told.
#[derive(Debug)]
pub(super) struct Moment {
    at: i64,
    author: Option<ParticipantId>,
}

/// A body that is no event of WAHA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Notice {
    /// The report for the book.
    pub(super) fn report(
        id: &str,
        me: Vec<ParticipantId>,
        claims: Vec<Claim>,
        moment: &Moment,
        now: i64,
    ) -> Report {
        Report {
            source: Source::Notification(id.to_owned()),
            at: moment.at,
            heard: now,
            now,
            me,
            author: moment.author.clone(),
            claims,
            trace: Headers::new(),
        }
    }
}

/// Reads an event.
pub(super) fn read(body: &[u8]) -> Result<Notice, Malformed> {
    let body: Value = serde_json::from_slice(body).map_err(|_| Malformed("it is no JSON"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let id = text("id").filter(|id| (1..=200).contains(&id.len()));
    let id = id.ok_or(Malformed("it has no id"))?;
    let name = text("event").ok_or(Malformed("it names no event"))?;
    let session = text("session").and_then(|session| session.parse().ok());
    let sent = body.get("timestamp").and_then(timestamp);
    let sent = sent
        .ok_or(Malformed("it has no timestamp"))?
        .0
        .as_millisecond();
    let told = Told {
        name,
        engine: text("engine").unwrap_or_default(),
        payload: body.get("payload").unwrap_or(&Value::Null),
        sent,
    };
    Ok(Notice {
        id: id.to_owned(),
        session: session.ok_or(Malformed("it names no session"))?,
        sent,
        me: health::me(&body),
        what: told.read()?,
    })
}

/// An event's envelope, as far as its payload needs it.
struct Told<'a> {
    name: &'a str,
    engine: &'a str,
    payload: &'a Value,
    sent: i64,
}

impl Told<'_> {
    fn read(&self) -> Result<What, Malformed> {
        match self.name {
            "group.v2.join" => self.own_join(self.payload.get("group")),
            "group.v2.leave" => self.claim(Claim::Left(NotificationType::Leave)),
            "group.v2.participants" => self.participants(),
            "group.v2.update" => self.update(),
            "group.join" => self.older_join(),
            "group.leave" | "group.left" => self.older_leave(),
            "session.status" => self.status(),
            _ => Ok(What::Other),
        }
    }

    /// WAHA retries each webhook by itself, so the status's own time tells which is the latest.
    fn status(&self) -> Result<What, Malformed> {
        let status = self.payload.get("status").and_then(Value::as_str);
        let status = status.ok_or(Malformed("it tells no status"))?;
        let all = self.payload.get("statuses").and_then(Value::as_array);
        let last = all.and_then(|all| all.last());
        let last = last.filter(|last| last.get("status").and_then(Value::as_str) == Some(status));
        let at = last.and_then(|last| last.get("timestamp").and_then(timestamp));
        let at = at.map_or(self.sent, |at| at.0.as_millisecond());
        Ok(What::Status(status.to_owned(), at))
    }

    /// The account is in a group. WAHA's own shape lacks owner, age and lock; the engine's, beside
    /// it in `_data`, may have them.
    fn own_join(&self, told: Option<&Value>) -> Result<What, Malformed> {
        let mut seen = told.and_then(wire::group).ok_or(NO_GROUP)?;
        let inner = self.inner();
        if let Some(mut inner) = inner.filter(|inner| inner.id == seen.id) {
            let flag = told.and_then(|told| told.get("membersCanSendMessages")?.as_bool());
            seen.messages_admin_only = inner.messages_admin_only.or(flag);
            seen.owner = seen.owner.or(inner.owner.take());
            seen.created_at = seen.created_at.or(inner.created_at);
            seen.info_admin_only = seen.info_admin_only.or(inner.info_admin_only);
            seen.subject = seen.subject.or(inner.subject.take());
            seen.people = seen
                .people
                .filter(|it| !it.is_empty())
                .or(inner.people.take());
        }
        self.settings(&mut seen, told, true);
        if seen.is_stub() {
            return Ok(What::Look(seen.id));
        }
        let id = seen.id.clone();
        Ok(What::Group(
            id,
            vec![Claim::Joined(Box::new(seen))],
            self.moment(),
        ))
    }

    /// WAHA's names for the settings. `membersCanSendMessages` is what WhatsApp calls `announce`,
    /// its opposite, in every join and in all updates but GOWS's.
    fn settings(&self, seen: &mut Seen, told: Option<&Value>, joins: bool) {
        let flag = |name: &str| told.and_then(|told| told.get(name)?.as_bool());
        if let Some(can_send) = flag("membersCanSendMessages") {
            let inverted = joins || self.engine != "GOWS";
            let announce = if inverted { can_send } else { !can_send };
            seen.messages_admin_only.get_or_insert(announce);
        }
        seen.members_can_add = flag("membersCanAddNewMember").or(seen.members_can_add);
        seen.approval_required = flag("newMembersApprovalRequired").or(seen.approval_required);
    }

    fn participants(&self) -> Result<What, Malformed> {
        let people = named(self.payload.get("participants").unwrap_or(&Value::Null));
        if people.is_empty() {
            return Err(Malformed("it names nobody"));
        }
        let kind = self.payload.get("type").and_then(Value::as_str);
        self.claim(match kind {
            Some("join") => Claim::Came(people, NotificationType::Add),
            Some("leave") => Claim::Went(people, NotificationType::Leave),
            Some("promote") => Claim::Promoted(people),
            Some("demote") => Claim::Demoted(people),
            _ => {
                return Err(Malformed(
                    "its type is none of join, leave, promote, demote",
                ));
            }
        })
    }

    fn update(&self) -> Result<What, Malformed> {
        let told = self.payload.get("group");
        let id = self.group_id()?;
        let mut seen = told
            .and_then(wire::group)
            .unwrap_or_else(|| Seen::bare(id.clone()));
        let inner = self.inner().filter(|inner| inner.id == id);
        if let Some(inner) = inner {
            seen.info_admin_only = seen.info_admin_only.or(inner.info_admin_only);
            seen.messages_admin_only = seen.messages_admin_only.or(inner.messages_admin_only);
            seen.subject = seen.subject.or(inner.subject);
            seen.description = seen.description.or(inner.description);
        }
        self.settings(&mut seen, told, false);
        // Who is in it is not told by this event, whatever stands there.
        let seen = Seen {
            people: None,
            size: None,
            owner: None,
            created_at: None,
            ..seen
        };
        if seen == Seen::bare(id.clone()) {
            return Ok(What::Look(id));
        }
        Ok(What::Group(
            id,
            vec![Claim::Updated(Box::new(seen))],
            self.moment(),
        ))
    }

    /// WEBJS: anybody came. NOWEB: the account is in a group, described as Baileys does.
    fn older_join(&self) -> Result<What, Malformed> {
        if self.payload.get("recipientIds").is_none() {
            return self.own_join(Some(self.payload));
        }
        let how = match self.payload.get("type").and_then(Value::as_str) {
            Some("invite" | "linked_group_join") => NotificationType::Invite,
            _ => NotificationType::Add,
        };
        self.claim(Claim::Came(self.recipients()?, how))
    }

    fn older_leave(&self) -> Result<What, Malformed> {
        let how = match self.payload.get("type").and_then(Value::as_str) {
            Some("remove") => NotificationType::Remove,
            _ => NotificationType::Leave,
        };
        self.claim(Claim::Went(self.recipients()?, how))
    }

    fn recipients(&self) -> Result<Vec<Person>, Malformed> {
        let ids = self.payload.get("recipientIds").and_then(Value::as_array);
        let ids = ids.ok_or(Malformed("it names nobody"))?;
        let person = |id: &Value| {
            Some(Person {
                id: participant(id)?,
                lid: None,
                role: Role::Participant,
            })
        };
        Ok(ids.iter().filter_map(person).collect())
    }

    fn claim(&self, claim: Claim) -> Result<What, Malformed> {
        Ok(What::Group(self.group_id()?, vec![claim], self.moment()))
    }

    fn group_id(&self) -> Result<GroupId, Malformed> {
        let told = self.payload.get("group").and_then(|group| group.get("id"));
        let told = told.or_else(|| self.payload.get("chatId"));
        let id = told.and_then(id_text).and_then(|id| id.parse().ok());
        id.ok_or(NO_GROUP)
    }

    /// The engine's own description of the group, where it is one.
    fn inner(&self) -> Option<Seen> {
        let data = self.payload.get("_data")?;
        wire::group(data).or_else(|| wire::group(field(data, &["group", "metadata"])?))
    }

    fn moment(&self) -> Moment {
        let at = self.payload.get("timestamp").and_then(timestamp);
        Moment {
            at: at.map_or(self.sent, |at| at.0.as_millisecond()),
            author: self.payload.get("author").and_then(participant),
        }
    }
}

const NO_GROUP: Malformed = Malformed("it names no group");

#[cfg(test)]
mod tests;
