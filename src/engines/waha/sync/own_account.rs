//! How the session's own account came into a group and went out of it. And the invite link, which is
//! told to admins alone.

use super::member_index::PersonIds;
use super::pending_commands::{self, ExpectedChange, MemberChange, Provenance, Reporter};
use super::reducer::Reducer;
use crate::contract::NotificationType;
use crate::engines::waha::wire::{GroupSnapshot, Person};

/// For how long a group is new, in milliseconds.
pub(super) const NEW_GROUP_AGE: i64 = 60_000;

impl Reducer<'_> {
    /// Whether somebody known by a private id alone may be the session's own account: nobody has told
    /// the account's private id, and it is among the group's people by no other.
    pub(super) fn may_be_own(&self, ids: &PersonIds) -> bool {
        let me = self.me();
        let is_open = me.name().is_some() && !me.is(ids) && me.may_be(ids);
        is_open && self.index.key(&me).is_none()
    }

    /// How the account came in without a command: where it did so by itself, it made the group or
    /// used the link.
    pub(super) fn how_joined(&self, group: &GroupSnapshot, is_back: bool) -> NotificationType {
        let me = self.me();
        let is_mine = |person: &Person| me.is(&self.ids(person));
        if !self.report.author.as_ref().is_some_and(is_mine) {
            return NotificationType::Add;
        }
        let owner = group.owner.as_ref().map(Person::bare);
        let created = group.created_at.map(|at| at.0.as_millisecond());
        let is_new = created.is_some_and(|at| self.report.at - at < NEW_GROUP_AGE);
        if is_new && !is_back && owner.as_ref().is_some_and(is_mine) {
            NotificationType::Create
        } else {
            NotificationType::Invite
        }
    }

    /// Whose doing it is that a command removed its own account from the group.
    pub(super) fn own_removal(&mut self) -> Provenance {
        let by = self.reporter();
        let me = self.me();
        let provenance = pending_commands::attribute_member_change(
            &mut self.state.pending_commands,
            by,
            MemberChange::Leave,
            &me,
        );
        if let (Reporter::Command(command), Provenance::Command(_)) = (by, &provenance) {
            self.expect_repeat(command.clone(), MemberChange::Leave, &me);
        }
        provenance
    }

    /// The invite link. One that is only shown is news where another one was known.
    pub(super) fn invite_changed(&mut self, link: &String, changed: bool) {
        let provenance = self.provenance_of(|what| *what == ExpectedChange::Invite);
        let earlier = self.state.invite.clone();
        // A link from before the account came in is not this one.
        let at = earlier
            .as_ref()
            .map_or(self.state.complete_since, |told| told.at);
        if self.is_outdated(Some(at)) {
            return;
        }
        self.state.invite = Some(self.observed(link.clone()));
        let is_known = earlier
            .as_ref()
            .is_some_and(|earlier| earlier.value == *link);
        if is_known || (earlier.is_none() && !changed) {
            return;
        }
        let command = match (provenance, self.reporter()) {
            (Provenance::Command(command), _) => Some(command),
            (_, Reporter::Command(command)) => Some(command.clone()),
            // The echo of a command has its link.
            (Provenance::AlreadyReported | Provenance::Unknown, _) => None,
        };
        let mut new = self.no_change();
        new.invite = Some(link.clone());
        self.update(new, command);
    }
}
