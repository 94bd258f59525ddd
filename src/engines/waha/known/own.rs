//! How the session's own account came into a group and went out of it. And the invite link, which is
//! told to admins alone.

use super::causes::{self, By, Doing, Kind, What};
use super::identity::Ids;
use super::telling::Telling;
use crate::contract::NotificationType;
use crate::engines::waha::wire::{Person, Seen};

/// For how long a group is new, in milliseconds.
pub(super) const NEW: i64 = 60_000;

impl Telling<'_> {
    /// Whether somebody known by a private id alone may be the session's own account: nobody has told
    /// the account's private id, and it is among the group's people by no other.
    pub(super) fn may_be_own(&self, ids: &Ids) -> bool {
        let me = self.me();
        let is_open = me.name().is_some() && !me.is(ids) && me.may_be(ids);
        is_open && self.directory.key(&me).is_none()
    }

    /// How the account came in without a command: where it did so by itself, it made the group or
    /// used the link.
    pub(super) fn how_joined(&self, group: &Seen, is_back: bool) -> NotificationType {
        let me = self.me();
        let is_mine = |person: &Person| me.is(&self.ids(person));
        if !self.report.author.as_ref().is_some_and(is_mine) {
            return NotificationType::Add;
        }
        let owner = group.owner.as_ref().map(Person::bare);
        let created = group.created_at.map(|at| at.0.as_millisecond());
        let is_new = created.is_some_and(|at| self.report.at - at < NEW);
        if is_new && !is_back && owner.as_ref().is_some_and(is_mine) {
            NotificationType::Create
        } else {
            NotificationType::Invite
        }
    }

    /// Whose doing it is that a command removed its own account from the group.
    pub(super) fn removal_of_oneself(&mut self) -> Doing {
        let by = self.by();
        let me = self.me();
        let doing = causes::of_person(&mut self.known.causes, by, Kind::Go, &me);
        if let (By::Command(command), Doing::Command(_)) = (by, &doing) {
            self.expect_echo(command.clone(), Kind::Go, &me);
        }
        doing
    }

    /// The invite link. One that is only shown is news where another one was known.
    pub(super) fn invite(&mut self, link: &String, changed: bool) {
        let doing = self.doing_of(|what| *what == What::Invite);
        let earlier = self.known.invite.clone();
        // A link from before the account came in is not this one.
        let at = earlier.as_ref().map_or(self.known.shown, |told| told.at);
        if self.is_outdated(Some(at)) {
            return;
        }
        self.known.invite = Some(self.told(link.clone()));
        let is_known = earlier
            .as_ref()
            .is_some_and(|earlier| earlier.value == *link);
        if is_known || (earlier.is_none() && !changed) {
            return;
        }
        let command = match (doing, self.by()) {
            (Doing::Command(command), _) => Some(command),
            (_, By::Command(command)) => Some(command.clone()),
            // The echo of a command has its link.
            (Doing::Echo | Doing::Unknown, _) => None,
        };
        let mut new = self.nothing();
        new.invite = Some(link.clone());
        self.update(new, command);
    }
}
