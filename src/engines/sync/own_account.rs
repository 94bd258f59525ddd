//! How the session's own account joined and left a group; and the invite link, which only admins see.

use super::member_index::PersonIds;
use super::pending_commands::{self, ExpectedChange, MemberChange, Provenance, Reporter};
use super::reducer::Reducer;
use crate::contract::NotificationType;
use crate::engines::sync::{GroupSnapshot, Person};

/// How long a group counts as new, in milliseconds.
pub(super) const NEW_GROUP_AGE: i64 = 60_000;

impl Reducer<'_> {
    /// Whether somebody known by a private id only may be the session's own account: the account's
    /// private id is unknown, and it is among the members by no other id.
    pub(super) fn may_be_own(&self, ids: &PersonIds) -> bool {
        let me = self.me();
        let is_open = me.name().is_some() && !me.is(ids) && me.may_be(ids);
        is_open && self.index.key(&me).is_none()
    }

    /// How the account joined without a command: if it is the author itself, it created the group or
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

    /// Attributes the removal of a command's own account from the group.
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

    /// The invite link. A link that is only shown is a change if another one was known.
    pub(super) fn invite_changed(&mut self, link: &String, changed: bool) {
        let provenance = self.provenance_of(|what| *what == ExpectedChange::Invite);
        let earlier = self.state.invite.clone();
        // A link from before the account's join is outdated.
        let at = earlier
            .as_ref()
            .map_or(self.state.complete_since, |invite| invite.at);
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
            // The repetition of a command's report has its link.
            (Provenance::AlreadyReported | Provenance::Unknown, _) => None,
        };
        let mut new = self.no_change();
        new.invite = Some(link.clone());
        self.update(new, command);
    }
}
