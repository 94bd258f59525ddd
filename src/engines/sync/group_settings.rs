//! The group's texts, settings, picture and invite link.

use super::pending_commands::{self, ExpectedChange, Provenance, Reporter};
use super::reducer::Reducer;
use super::{GroupState, Observed, PictureReport, Source};
use crate::contract::{ChangedGroup, CommandId, PictureChange};
use crate::engines::setting::Setting;
use crate::engines::sync::GroupSnapshot;

impl GroupState {
    /// Moves the texts, settings and invite link to another state of the same group.
    pub(super) fn move_settings_to(&mut self, other: &mut Self) {
        other.subject = self.subject.take();
        other.description = self.description.take();
        other.info_admin_only = self.info_admin_only.take();
        other.messages_admin_only = self.messages_admin_only.take();
        other.members_can_add = self.members_can_add.take();
        other.approval_required = self.approval_required.take();
        other.members_can_share_history = self.members_can_share_history.take();
        other.disappearing_seconds = self.disappearing_seconds.take();
        other.invite = self.invite.take();
        other.picture = self.picture.take();
    }
}

impl Reducer<'_> {
    /// Reports texts and settings: one event with all changes.
    pub(super) fn settings_changed(&mut self, group: &GroupSnapshot) {
        let mut changed = self.no_change();
        let mut command = None;
        if let Some(subject) = &group.subject {
            let is_it = |what: &ExpectedChange| *what == ExpectedChange::Subject(subject.clone());
            let new = self.is_new(|known| &mut known.subject, subject, is_it, &mut command);
            changed.subject = new.then(|| subject.clone());
        }
        if let Some(description) = &group.description {
            let is_it =
                |what: &ExpectedChange| *what == ExpectedChange::Description(description.clone());
            let slot: fn(&mut GroupState) -> &mut Option<Observed<_>> =
                |known| &mut known.description;
            let new = self.is_new(slot, description, is_it, &mut command);
            changed.description = new.then(|| description.clone());
        }
        self.setting_changed(
            |known| &mut known.info_admin_only,
            group.info_admin_only,
            Setting::InfoAdminOnly,
            &mut changed,
            &mut command,
        );
        self.setting_changed(
            |known| &mut known.messages_admin_only,
            group.messages_admin_only,
            Setting::MessagesAdminOnly,
            &mut changed,
            &mut command,
        );
        self.setting_changed(
            |known| &mut known.members_can_add,
            group.members_can_add,
            Setting::MembersCanAdd,
            &mut changed,
            &mut command,
        );
        self.setting_changed(
            |known| &mut known.approval_required,
            group.approval_required,
            Setting::ApprovalRequired,
            &mut changed,
            &mut command,
        );
        self.setting_changed(
            |known| &mut known.members_can_share_history,
            group.members_can_share_history,
            Setting::MembersCanShareHistory,
            &mut changed,
            &mut command,
        );
        self.setting_changed(
            |known| &mut known.disappearing_seconds,
            group.disappearing_seconds,
            Setting::DisappearingSeconds,
            &mut changed,
            &mut command,
        );
        if changed != self.no_change() {
            self.update(changed, command);
        }
    }

    /// Adds a setting to the event, if the shown value is a change.
    fn setting_changed<T: Copy + PartialEq>(
        &mut self,
        slot: fn(&mut GroupState) -> &mut Option<Observed<T>>,
        shown: Option<T>,
        setting: fn(T) -> Setting,
        changed: &mut ChangedGroup,
        command: &mut Option<CommandId>,
    ) {
        let Some(value) = shown else {
            return;
        };
        let setting = setting(value);
        let is_it = |what: &ExpectedChange| *what == ExpectedChange::Setting(setting);
        if self.is_new(slot, &value, is_it, command) {
            setting.add_to(changed);
        }
    }

    /// Records a text or setting; true if it is a change.
    fn is_new<T: Clone + PartialEq>(
        &mut self,
        slot: fn(&mut GroupState) -> &mut Option<Observed<T>>,
        value: &T,
        is_it: impl Fn(&ExpectedChange) -> bool,
        command: &mut Option<CommandId>,
    ) -> bool {
        let earlier = slot(self.state).clone();
        if self.report.source == Source::Comparison
            && let Some(earlier) = &earlier
        {
            if earlier.value == *value {
                return false;
            }
            if self.may_predate(Some(earlier.observed_at)) {
                return false;
            }
        }
        let provenance = self.provenance_of(&is_it);
        if provenance == Provenance::AlreadyReported {
            return false;
        }
        if self.is_outdated(earlier.as_ref().map(|observed| observed.at)) {
            return false;
        }
        let observed = self.observed(value.clone());
        *slot(self.state) = Some(observed);
        let is_change = match &earlier {
            Some(earlier) => earlier.value != *value,
            // A comparison shows what a value is; that it was another one before is not known.
            None => self.report.source != Source::Comparison,
        };
        if !is_change {
            return false;
        }
        if let Provenance::Command(by) = provenance {
            *command = Some(by);
        }
        true
    }

    /// The picture. Nothing shows what it was before, so each command's change is one.
    pub(super) fn picture_changed(&mut self, change: PictureChange) {
        let Source::Command(by) = self.report.source.clone() else {
            return;
        };
        let report = PictureReport {
            change,
            by: by.clone(),
        };
        let earlier = self.state.picture.as_ref();
        if earlier.is_some_and(|earlier| earlier.value == report) {
            return;
        }
        self.state.picture = Some(self.observed(report));
        let mut changed = self.no_change();
        changed.picture = Some(change);
        self.update(changed, Some(by));
    }

    /// Records texts and settings without an event; newer ones stay.
    pub(super) fn record_settings(&mut self, group: &GroupSnapshot) {
        let subject = group.subject.clone();
        self.record_setting(|known| &mut known.subject, subject);
        let description = group.description.clone().unwrap_or_default();
        self.record_setting(|known| &mut known.description, Some(description));
        self.record_setting(|known| &mut known.info_admin_only, group.info_admin_only);
        let messages = group.messages_admin_only;
        self.record_setting(|known| &mut known.messages_admin_only, messages);
        self.record_setting(|known| &mut known.members_can_add, group.members_can_add);
        let approval = group.approval_required;
        self.record_setting(|known| &mut known.approval_required, approval);
        let history = group.members_can_share_history;
        self.record_setting(|known| &mut known.members_can_share_history, history);
        let seconds = group.disappearing_seconds;
        self.record_setting(|known| &mut known.disappearing_seconds, seconds);
    }

    /// Copies the known texts and settings to a snapshot.
    pub(super) fn copy_settings_to(&self, group: &mut GroupSnapshot) {
        fn value<T: Clone>(observed: Option<&Observed<T>>) -> Option<T> {
            observed.map(|observed| observed.value.clone())
        }
        let known = &*self.state;
        group.subject = value(known.subject.as_ref());
        group.description = value(known.description.as_ref());
        group.info_admin_only = value(known.info_admin_only.as_ref());
        group.messages_admin_only = value(known.messages_admin_only.as_ref());
        group.members_can_add = value(known.members_can_add.as_ref());
        group.approval_required = value(known.approval_required.as_ref());
        group.members_can_share_history = value(known.members_can_share_history.as_ref());
        group.disappearing_seconds = value(known.disappearing_seconds.as_ref());
    }

    fn record_setting<T>(
        &mut self,
        slot: fn(&mut GroupState) -> &mut Option<Observed<T>>,
        value: Option<T>,
    ) {
        let since = self.since();
        let observed = value.map(|value| self.observed(value));
        let slot = slot(self.state);
        if slot.as_ref().is_none_or(|earlier| earlier.at <= since) {
            *slot = observed;
        }
    }

    /// Attributes a change; if the command itself reports it, the notification is still to come.
    pub(super) fn provenance_of(
        &mut self,
        matches: impl Fn(&ExpectedChange) -> bool,
    ) -> Provenance {
        let by = self.reporter();
        let (provenance, what) =
            pending_commands::attribute_change(&mut self.state.pending_commands, by, matches);
        if let (Reporter::Command(command), Some(what)) = (by, what) {
            self.expect_repeat_of(command.clone(), what);
        }
        provenance
    }
}
