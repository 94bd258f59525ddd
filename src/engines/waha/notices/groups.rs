//! What happens to a group: the account is in it now, or its texts, settings or link changed.
//!
//! `membersCanSendMessages` means its opposite (WhatsApp's `announce`) everywhere but in GOWS's
//! updates, so what the engine's own event says in `_data` comes first. What an engine that is not
//! known here (WPP) means by it is not guessed: the group is looked at.

use serde_json::Value;

use super::{Malformed, NO_GROUP, Told, What};
use crate::engines::waha::known::Claim;
use crate::engines::waha::wire::{self, Body, Seen, field, number_as_subject, timestamp};

impl Told<'_> {
    /// The account is in a group. WAHA's own shape lacks owner, age and lock; the engine's, beside
    /// it in `_data`, may have them.
    pub(super) fn own_join(&self, told: Option<&Value>) -> Result<What, Malformed> {
        let mut seen = told.and_then(wire::group).ok_or(NO_GROUP)?;
        let inner = self.inner();
        if let Some(mut inner) = inner.filter(|inner| inner.id == seen.id) {
            seen.messages_admin_only = inner.messages_admin_only;
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
        let mut claims = vec![Claim::Joined(Box::new(seen))];
        claims.extend(link(told).map(Claim::InviteShown));
        Ok(What::Group(id, claims, self.moment()))
    }

    /// WEBJS tells of a new group by an update, whose author made it. Who is in it is not told.
    fn created(&self, told: Option<&Value>) -> Result<What, Malformed> {
        let mut seen = told.and_then(wire::group).ok_or(NO_GROUP)?;
        self.settings(&mut seen, told, true);
        let moment = self.moment();
        seen.people = None;
        seen.owner = moment.author.as_ref().map(|author| author.id.clone());
        seen.created_at = self.payload.get("timestamp").and_then(timestamp);
        let claims = vec![Claim::Joined(Box::new(seen))];
        Ok(What::Group(self.group_id()?, claims, moment))
    }

    /// WAHA's names for the settings.
    fn settings(&self, seen: &mut Seen, told: Option<&Value>, joins: bool) {
        let flag = |name: &str| told.and_then(|told| told.get(name)?.as_bool());
        if let Some(can_send) = flag("membersCanSendMessages")
            && seen.messages_admin_only.is_none()
        {
            seen.messages_admin_only = match self.engine {
                "GOWS" if !joins => Some(!can_send),
                "GOWS" | "NOWEB" | "WEBJS" => Some(can_send),
                _ => None,
            };
        }
        // WEBJS sent the lock under this name until about 2026.7.
        let is_lock = self.engine == "WEBJS" && self.version.is_some_and(|it| it < (2026, 7));
        if !is_lock {
            seen.members_can_add = flag("membersCanAddNewMember").or(seen.members_can_add);
        }
        seen.approval_required = flag("newMembersApprovalRequired").or(seen.approval_required);
    }

    pub(super) fn update(&self) -> Result<What, Malformed> {
        let told = self.payload.get("group");
        let id = self.group_id()?;
        if self.is_listing() {
            return Ok(What::Other);
        }
        if self.word("type") == Some("create") {
            return self.created(told);
        }
        let mut seen = told
            .and_then(wire::group)
            .unwrap_or_else(|| Seen::bare(id.clone()));
        if is_blank(told.and_then(|told| told.get("subject"))) {
            seen.subject = number_as_subject(&id);
        }
        let inner = self.inner().filter(|inner| inner.id == id);
        if let Some(inner) = inner {
            seen.info_admin_only = seen.info_admin_only.or(inner.info_admin_only);
            seen.messages_admin_only = seen.messages_admin_only.or(inner.messages_admin_only);
            seen.subject = seen.subject.or(inner.subject);
            seen.description = seen.description.or(inner.description);
        }
        // whatsmeow has an object for each kind of change.
        let changed = |kind: &str, name: &str| self.data(&[kind])?.get(name)?.as_bool();
        seen.messages_admin_only = changed("Announce", "IsAnnounce").or(seen.messages_admin_only);
        seen.info_admin_only = changed("Locked", "IsLocked").or(seen.info_admin_only);
        self.settings(&mut seen, told, false);
        // Who is in it is not told by this event, whatever stands there.
        let seen = Seen {
            people: None,
            size: None,
            owner: None,
            created_at: None,
            ..seen
        };
        let mut claims: Vec<_> = self.invite(told).into_iter().collect();
        if seen != Seen::bare(id.clone()) {
            claims.insert(0, Claim::Updated(Box::new(seen)));
        }
        // NOWEB tells an emptied description so.
        if claims.is_empty() {
            return Ok(What::Look(id));
        }
        Ok(What::Group(id, claims, self.moment()))
    }

    /// The link. NOWEB and GOWS tell it when it has changed, WEBJS in each update.
    fn invite(&self, told: Option<&Value>) -> Option<Claim> {
        let link = link(told)?;
        let changed = self.data(&["NewInviteLink", "inviteCode"]).is_some();
        Some(if changed || matches!(self.engine, "NOWEB" | "GOWS") {
            Claim::Invite(link)
        } else {
            Claim::InviteShown(link)
        })
    }

    /// Whether this "update" is an entry of a list: NOWEB sends one for each group whenever anybody
    /// asks for its groups. A change names who made it, and nobody who is in the group.
    fn is_listing(&self) -> bool {
        let data = self.payload.get("_data").and_then(wire::group);
        let people = data.and_then(|group| group.people).unwrap_or_default();
        !people.is_empty() && self.actor().is_none()
    }

    /// The engine's own description of the group, where it is one.
    fn inner(&self) -> Option<Seen> {
        let data = self.payload.get("_data")?;
        wire::group(data).or_else(|| wire::group(field(data, &["group", "metadata"])?))
    }
}

/// The invite link that is told, in the form in which a command's answer has it.
fn link(told: Option<&Value>) -> Option<String> {
    let link = told?.get("invite")?.as_str()?;
    let code = wire::invite_code(&Body::Text(link.to_owned()))?;
    Some(code.invite_url)
}

fn is_blank(text: Option<&Value>) -> bool {
    let text = text.and_then(Value::as_str);
    text.is_some_and(|text| text.trim().is_empty())
}
