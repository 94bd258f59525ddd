//! Builds the events for a group's changes: ids, sequence numbers and authors.

use uuid::Uuid;

use super::reducer::Reducer;
use super::{GroupKey, Source};
use crate::contract::{
    ChangedGroup, CommandId, Event, EventName, EventPayload, MembershipChange, NotificationType,
    ParticipantId, ParticipantRole, Role,
};
use crate::engines::event_fields::{EventFields, no_change};

/// The namespace of the event ids.
const NAMESPACE: Uuid = Uuid::from_u128(0x8f0b_6a2d_51c7_5e39_a4d2_0c9e_77b1_3f68);

impl Reducer<'_> {
    /// The author: the reported one, or our own account for a command.
    pub(super) fn author(&self, command: Option<&CommandId>) -> Option<ParticipantId> {
        let ours = command.and_then(|_| self.report.me.first());
        if ours.is_some() {
            return ours.cloned();
        }
        let reported = self.report.author.as_ref()?;
        let ids = self.ids(reported);
        self.index.key(&ids).or_else(|| ids.name().cloned())
    }

    pub(super) fn update(&mut self, changed: ChangedGroup, command: Option<CommandId>) {
        self.emit(EventName::GroupUpdate, command, |fields| {
            fields.change(changed)
        });
    }

    pub(super) fn notify(
        &mut self,
        event: EventName,
        kind: NotificationType,
        who: &[ParticipantId],
        command: Option<CommandId>,
    ) {
        let group = self.group_key.group.clone();
        self.emit(event, command, |fields| {
            fields.notification(group, kind, who)
        });
    }

    pub(super) fn membership(
        &mut self,
        kind: MembershipChange,
        who: Vec<(ParticipantId, Option<Role>)>,
        command: Option<CommandId>,
    ) {
        let group = self.group_key.group.clone();
        let known = |(id, role)| {
            let ids = self.index.ids_of([&id], &self.state.phones);
            ParticipantRole {
                id,
                role,
                lid: ids.lid,
                pn: ids.phone,
            }
        };
        let participants = who.into_iter().map(known).collect();
        self.emit(EventName::GroupParticipants, command, |fields| {
            fields.membership(group, kind, participants)
        });
    }

    pub(super) fn emit(
        &mut self,
        event: EventName,
        command: Option<CommandId>,
        payload: impl FnOnce(EventFields) -> EventPayload,
    ) {
        self.state.sequence += 1;
        let sequence = self.state.sequence;
        let GroupKey { session, group, .. } = self.group_key;
        let index = self.effects.events.len();
        let notification = match &self.report.source {
            Source::Notification(id) => format!("{id}/{index}"),
            Source::Command(id) => format!("command/{session}/{id}/{index}"),
            Source::Comparison => format!("comparison/{session}/{group}/{sequence}"),
        };
        let fields = EventFields {
            notification: notification.clone(),
            seconds: self.report.at.div_euclid(1_000),
            author: self.author(command.as_ref()),
            sequence,
            // A change by our own command is expected, even if a snapshot showed it before its answer.
            reconciled: self.reconciled && command.is_none(),
            command_id: command,
        };
        self.effects.events.push(Event {
            id: Uuid::new_v5(&NAMESPACE, notification.as_bytes()),
            timestamp: self.report.now,
            event,
            session: session.clone(),
            engine: self.group_key.engine,
            payload: payload(fields),
        });
    }

    /// A change without content.
    pub(super) fn no_change(&self) -> ChangedGroup {
        no_change(self.group_key.group)
    }
}
