//! Changes of a group: the account joined it, or its texts, settings or link changed.
//!
//! `membersCanSendMessages` means its opposite (WhatsApp's `announce`) everywhere but in GOWS's
//! updates, so the engine's own event in `_data` takes precedence. For an unknown engine (WPP) the
//! meaning is not guessed: the group is read.

use serde_json::Value;

use super::{Envelope, Malformed, NO_GROUP, NoticeContent};
use crate::engines::sync::Observation;
use crate::engines::sync::{GroupSnapshot, number_as_subject};
use crate::engines::waha::wire::{self, Body, field, timestamp};

impl Envelope<'_> {
    /// The account is in a group. WAHA's own format lacks owner, age and lock; the engine's event in
    /// `_data` may have them.
    pub(super) fn own_join(&self, group: Option<&Value>) -> Result<NoticeContent, Malformed> {
        let mut snapshot = group.and_then(wire::group).ok_or(NO_GROUP)?;
        let inner = self.inner();
        if let Some(mut inner) = inner.filter(|inner| inner.id == snapshot.id) {
            snapshot.messages_admin_only = inner.messages_admin_only;
            snapshot.owner = snapshot.owner.or(inner.owner.take());
            snapshot.created_at = snapshot.created_at.or(inner.created_at);
            snapshot.info_admin_only = snapshot.info_admin_only.or(inner.info_admin_only);
            snapshot.members_can_share_history = inner.members_can_share_history;
            snapshot.disappearing_seconds = inner.disappearing_seconds;
            snapshot.subject = snapshot.subject.or(inner.subject.take());
            snapshot.people = snapshot
                .people
                .filter(|it| !it.is_empty())
                .or(inner.people.take());
        }
        self.settings(&mut snapshot, group, true);
        if snapshot.is_stub() {
            return Ok(NoticeContent::Refresh(snapshot.id));
        }
        let id = snapshot.id.clone();
        let mut observations = vec![Observation::OwnJoined(Box::new(snapshot))];
        observations.extend(link(group).map(Observation::InviteShown));
        Ok(NoticeContent::Group(id, observations, self.moment()))
    }

    /// WEBJS reports a new group by an update, whose author created it. It does not list the members.
    fn created(&self, group: Option<&Value>) -> Result<NoticeContent, Malformed> {
        let mut snapshot = group.and_then(wire::group).ok_or(NO_GROUP)?;
        self.settings(&mut snapshot, group, true);
        let moment = self.moment();
        snapshot.people = None;
        snapshot.owner = moment.author.as_ref().map(|author| author.id.clone());
        snapshot.created_at = self.payload.get("timestamp").and_then(timestamp);
        let observations = vec![Observation::OwnJoined(Box::new(snapshot))];
        Ok(NoticeContent::Group(self.group_id()?, observations, moment))
    }

    /// WAHA's names for the settings.
    fn settings(&self, snapshot: &mut GroupSnapshot, group: Option<&Value>, joins: bool) {
        let flag = |name: &str| group.and_then(|group| group.get(name)?.as_bool());
        if let Some(can_send) = flag("membersCanSendMessages")
            && snapshot.messages_admin_only.is_none()
        {
            snapshot.messages_admin_only = match self.engine {
                "GOWS" if !joins => Some(!can_send),
                "GOWS" | "NOWEB" | "WEBJS" => Some(can_send),
                _ => None,
            };
        }
        // WEBJS sent the lock under this name until about 2026.7.
        let is_lock = self.engine == "WEBJS" && self.version.is_some_and(|it| it < (2026, 7));
        if !is_lock {
            snapshot.members_can_add = flag("membersCanAddNewMember").or(snapshot.members_can_add);
        }
        snapshot.approval_required =
            flag("newMembersApprovalRequired").or(snapshot.approval_required);
    }

    pub(super) fn update(&self) -> Result<NoticeContent, Malformed> {
        let group = self.payload.get("group");
        let id = self.group_id()?;
        if self.is_listing() {
            return Ok(NoticeContent::Ignored);
        }
        if self.text("type") == Some("create") {
            return self.created(group);
        }
        let mut snapshot = group
            .and_then(wire::group)
            .unwrap_or_else(|| GroupSnapshot::bare(id.clone()));
        if is_blank(group.and_then(|group| group.get("subject"))) {
            snapshot.subject = number_as_subject(&id);
        }
        let inner = self.inner().filter(|inner| inner.id == id);
        if let Some(inner) = inner {
            snapshot.info_admin_only = snapshot.info_admin_only.or(inner.info_admin_only);
            snapshot.messages_admin_only =
                snapshot.messages_admin_only.or(inner.messages_admin_only);
            snapshot.subject = snapshot.subject.or(inner.subject);
            snapshot.description = snapshot.description.or(inner.description);
        }
        // whatsmeow has an object for each kind of change.
        let changed = |kind: &str, name: &str| self.data(&[kind])?.get(name)?.as_bool();
        snapshot.messages_admin_only =
            changed("Announce", "IsAnnounce").or(snapshot.messages_admin_only);
        snapshot.info_admin_only = changed("Locked", "IsLocked").or(snapshot.info_admin_only);
        self.settings(&mut snapshot, group, false);
        // This event does not report members, even if the fields are present.
        let snapshot = GroupSnapshot {
            people: None,
            size: None,
            owner: None,
            created_at: None,
            ..snapshot
        };
        let mut observations: Vec<_> = self.invite(group).into_iter().collect();
        if snapshot != GroupSnapshot::bare(id.clone()) {
            observations.insert(0, Observation::Updated(Box::new(snapshot)));
        }
        // NOWEB reports the removal of a description in this form.
        if observations.is_empty() {
            return Ok(NoticeContent::Refresh(id));
        }
        Ok(NoticeContent::Group(id, observations, self.moment()))
    }

    /// The link. NOWEB and GOWS report it when it has changed, WEBJS in each update.
    fn invite(&self, group: Option<&Value>) -> Option<Observation> {
        let link = link(group)?;
        let changed = self.data(&["NewInviteLink", "inviteCode"]).is_some();
        Some(if changed || matches!(self.engine, "NOWEB" | "GOWS") {
            Observation::InviteChanged(link)
        } else {
            Observation::InviteShown(link)
        })
    }

    /// Whether this "update" is an entry of a list: NOWEB sends one for each group whenever a client
    /// lists the groups. A change names its author and no members.
    fn is_listing(&self) -> bool {
        let data = self.payload.get("_data").and_then(wire::group);
        let people = data.and_then(|group| group.people).unwrap_or_default();
        !people.is_empty() && self.actor().is_none()
    }

    /// The group as the engine describes it, if it does.
    fn inner(&self) -> Option<GroupSnapshot> {
        let data = self.payload.get("_data")?;
        wire::group(data).or_else(|| wire::group(field(data, &["group", "metadata"])?))
    }
}

/// The invite link of the event, in the form of a command's answer.
fn link(group: Option<&Value>) -> Option<String> {
    let link = group?.get("invite")?.as_str()?;
    let code = wire::invite_code(&Body::Text(link.to_owned()))?;
    Some(code.invite_url)
}

fn is_blank(text: Option<&Value>) -> bool {
    let text = text.and_then(Value::as_str);
    text.is_some_and(|text| text.trim().is_empty())
}
