//! The group's texts, settings and invite link.

use super::causes::{self, By, Doing, What};
use super::telling::Telling;
use super::{Known, Source, Told};
use crate::contract::CommandId;
use crate::engines::waha::wire::Seen;

impl Known {
    /// Moves the texts, settings and invite link to another state of the same group.
    pub(super) fn hand_texts_to(&mut self, other: &mut Self) {
        other.subject = self.subject.take();
        other.description = self.description.take();
        other.info_admin_only = self.info_admin_only.take();
        other.messages_admin_only = self.messages_admin_only.take();
        other.members_can_add = self.members_can_add.take();
        other.approval_required = self.approval_required.take();
        other.invite = self.invite.take();
    }
}

impl Telling<'_> {
    /// Texts and settings: one event with all that is new.
    pub(super) fn updated(&mut self, group: &Seen) {
        let mut changed = self.nothing();
        let mut command = None;
        if let Some(subject) = &group.subject {
            let is_it = |what: &What| *what == What::Subject(subject.clone());
            let new = self.news(|known| &mut known.subject, subject, is_it, &mut command);
            changed.subject = new.then(|| subject.clone());
        }
        if let Some(description) = &group.description {
            let is_it = |what: &What| *what == What::Description(description.clone());
            let slot: fn(&mut Known) -> &mut Option<Told<_>> = |known| &mut known.description;
            let new = self.news(slot, description, is_it, &mut command);
            changed.description = new.then(|| description.clone());
        }
        if let Some(on) = group.info_admin_only {
            let is_it = |what: &What| *what == What::InfoAdminOnly(on);
            let new = self.news(|known| &mut known.info_admin_only, &on, is_it, &mut command);
            changed.info_admin_only = new.then_some(on);
        }
        let none = |_: &What| false;
        if let Some(on) = group.messages_admin_only {
            let new = self.news(
                |known| &mut known.messages_admin_only,
                &on,
                none,
                &mut command,
            );
            changed.messages_admin_only = new.then_some(on);
        }
        if let Some(on) = group.members_can_add {
            let new = self.news(|known| &mut known.members_can_add, &on, none, &mut command);
            changed.members_can_add_new_member = new.then_some(on);
        }
        if let Some(on) = group.approval_required {
            let new = self.news(
                |known| &mut known.approval_required,
                &on,
                none,
                &mut command,
            );
            changed.new_members_approval_required = new.then_some(on);
        }
        if changed != self.nothing() {
            self.update(changed, command);
        }
    }

    /// Whether a text or setting is news; it is known so now.
    fn news<T: Clone + PartialEq>(
        &mut self,
        slot: fn(&mut Known) -> &mut Option<Told<T>>,
        value: &T,
        is_it: impl Fn(&What) -> bool,
        command: &mut Option<CommandId>,
    ) -> bool {
        let earlier = slot(self.known).clone();
        if self.report.source == Source::Comparison
            && let Some(earlier) = &earlier
        {
            if earlier.value == *value {
                return false;
            }
            if self.may_be_older(Some(earlier.heard)) {
                return false;
            }
        }
        let doing = self.doing_of(&is_it);
        if doing == Doing::Echo {
            return false;
        }
        if self.is_outdated(earlier.as_ref().map(|told| told.at)) {
            return false;
        }
        let told = self.told(value.clone());
        *slot(self.known) = Some(told);
        if earlier.is_some_and(|earlier| earlier.value == *value) {
            return false;
        }
        if let Doing::Command(by) = doing {
            *command = Some(by);
        }
        true
    }

    /// Takes texts and settings as known, without any event; what was told later stays.
    pub(super) fn learn_texts(&mut self, group: &Seen) {
        let subject = group.subject.clone();
        self.learn_one(|known| &mut known.subject, subject);
        let description = group.description.clone().unwrap_or_default();
        self.learn_one(|known| &mut known.description, Some(description));
        self.learn_one(|known| &mut known.info_admin_only, group.info_admin_only);
        let messages = group.messages_admin_only;
        self.learn_one(|known| &mut known.messages_admin_only, messages);
        self.learn_one(|known| &mut known.members_can_add, group.members_can_add);
        let approval = group.approval_required;
        self.learn_one(|known| &mut known.approval_required, approval);
    }

    /// Shows the texts and settings as they are known.
    pub(super) fn show_texts(&self, group: &mut Seen) {
        fn value<T: Clone>(told: Option<&Told<T>>) -> Option<T> {
            told.map(|told| told.value.clone())
        }
        let known = &*self.known;
        group.subject = value(known.subject.as_ref());
        group.description = value(known.description.as_ref());
        group.info_admin_only = value(known.info_admin_only.as_ref());
        group.messages_admin_only = value(known.messages_admin_only.as_ref());
        group.members_can_add = value(known.members_can_add.as_ref());
        group.approval_required = value(known.approval_required.as_ref());
    }

    fn learn_one<T>(&mut self, slot: fn(&mut Known) -> &mut Option<Told<T>>, value: Option<T>) {
        let since = self.since();
        let told = value.map(|value| self.told(value));
        let slot = slot(self.known);
        if slot.as_ref().is_none_or(|earlier| earlier.at <= since) {
            *slot = told;
        }
    }

    /// Whose doing something is; when the command itself says so, WAHA's echo is still to come.
    pub(super) fn doing_of(&mut self, is_it: impl Fn(&What) -> bool) -> Doing {
        let by = self.by();
        let (doing, what) = causes::of_change(&mut self.known.causes, by, is_it);
        if let (By::Command(command), Some(what)) = (by, what) {
            self.echo(command.clone(), what);
        }
        doing
    }
}
