//! Builds the events for a group's changes: ids, sequence numbers and payloads.

use uuid::Uuid;

use super::reducer::Reducer;
use super::{GroupKey, Source};
use crate::contract::{
    ChangedGroup, CommandId, Event, EventName, EventPayload, GroupChange, GroupMembership,
    GroupNotification, GroupRef, MembershipChange, NotificationType, ParticipantId,
    ParticipantRole, Role,
};

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
        let author = self.author(command.as_ref());
        self.emit(EventName::GroupUpdate, command, |seen| {
            seen.change(changed, author)
        });
    }

    pub(super) fn notify(
        &mut self,
        event: EventName,
        kind: NotificationType,
        who: &[ParticipantId],
        command: Option<CommandId>,
    ) {
        let author = self.author(command.as_ref());
        let chat_id = self.group_key.group.clone();
        self.emit(event, command, |seen| {
            EventPayload::Notification(GroupNotification {
                id: seen.notification,
                timestamp: seen.seconds,
                chat_id,
                author,
                kind,
                body: String::new(),
                recipient_ids: who.to_vec(),
                sequence: seen.sequence,
                command_id: seen.command,
                reconciled: seen.reconciled,
            })
        });
    }

    pub(super) fn membership(
        &mut self,
        kind: MembershipChange,
        who: Vec<(ParticipantId, Option<Role>)>,
        command: Option<CommandId>,
    ) {
        let author = self.author(command.as_ref());
        let group = GroupRef {
            id: self.group_key.group.clone(),
        };
        let participants = who
            .into_iter()
            .map(|(id, role)| ParticipantRole { id, role });
        let participants = participants.collect();
        self.emit(EventName::GroupParticipants, command, |seen| {
            EventPayload::Membership(GroupMembership {
                kind,
                timestamp: seen.seconds,
                group,
                participants,
                author,
                sequence: seen.sequence,
                command_id: seen.command,
                reconciled: seen.reconciled,
            })
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
        let new = EventFields {
            notification: notification.clone(),
            seconds: self.report.at.div_euclid(1_000),
            sequence,
            // A change by our own command is expected, even if a snapshot showed it before its answer.
            reconciled: self.reconciled && command.is_none(),
            command,
        };
        self.effects.events.push(Event {
            id: Uuid::new_v5(&NAMESPACE, notification.as_bytes()),
            timestamp: self.report.now,
            event,
            session: session.clone(),
            engine: self.group_key.engine,
            payload: payload(new),
        });
    }

    /// A change without content.
    pub(super) fn no_change(&self) -> ChangedGroup {
        ChangedGroup {
            id: self.group_key.group.clone(),
            subject: None,
            description: None,
            info_admin_only: None,
            messages_admin_only: None,
            members_can_add_new_member: None,
            new_members_approval_required: None,
            invite: None,
        }
    }
}

/// The fields that all payloads share.
pub(super) struct EventFields {
    pub(super) notification: String,
    pub(super) seconds: i64,
    pub(super) sequence: u64,
    pub(super) command: Option<CommandId>,
    pub(super) reconciled: bool,
}

impl EventFields {
    pub(super) fn change(self, group: ChangedGroup, author: Option<ParticipantId>) -> EventPayload {
        EventPayload::Change(GroupChange {
            timestamp: self.seconds,
            group,
            author,
            sequence: self.sequence,
            command_id: self.command,
            reconciled: self.reconciled,
        })
    }
}
