//! The payloads of events, which are built the same way for every engine.

use crate::contract::{
    ChangedGroup, CommandId, EventPayload, Group, GroupChange, GroupId, GroupMembership,
    GroupNotification, GroupRef, JoinRequestAction, JoinRequestChange, MembershipChange,
    NotificationType, OwnMembership, ParticipantId, ParticipantRole, RequestMethod,
};

/// The fields that all payloads share.
pub(super) struct EventFields {
    /// The id of the notification.
    pub(super) notification: String,
    pub(super) seconds: i64,
    pub(super) author: Option<ParticipantId>,
    pub(super) sequence: u64,
    pub(super) command_id: Option<CommandId>,
    pub(super) reconciled: bool,
}

impl EventFields {
    pub(super) fn change(self, group: ChangedGroup) -> EventPayload {
        EventPayload::Change(GroupChange {
            timestamp: self.seconds,
            group,
            author: self.author,
            sequence: self.sequence,
            command_id: self.command_id,
            reconciled: self.reconciled,
        })
    }

    pub(super) fn notification(
        self,
        chat_id: GroupId,
        kind: NotificationType,
        who: &[ParticipantId],
    ) -> EventPayload {
        EventPayload::Notification(GroupNotification {
            id: self.notification,
            timestamp: self.seconds,
            chat_id,
            author: self.author,
            kind,
            body: String::new(),
            recipient_ids: who.to_vec(),
            sequence: self.sequence,
            command_id: self.command_id,
            reconciled: self.reconciled,
        })
    }

    pub(super) fn membership(
        self,
        id: GroupId,
        kind: MembershipChange,
        participants: Vec<ParticipantRole>,
    ) -> EventPayload {
        EventPayload::Membership(GroupMembership {
            kind,
            timestamp: self.seconds,
            group: GroupRef { id },
            participants,
            author: self.author,
            sequence: self.sequence,
            command_id: self.command_id,
            reconciled: self.reconciled,
        })
    }

    /// `request`: who asks to join, their phone, and how they came to ask.
    pub(super) fn join_request(
        self,
        id: GroupId,
        action: JoinRequestAction,
        request: (ParticipantId, Option<ParticipantId>, Option<RequestMethod>),
    ) -> EventPayload {
        let (requester_id, requester_pn, request_method) = request;
        EventPayload::JoinRequest(JoinRequestChange {
            action,
            timestamp: self.seconds,
            group: GroupRef { id },
            requester_id,
            requester_pn,
            request_method,
            author: self.author,
            sequence: self.sequence,
            command_id: self.command_id,
            reconciled: self.reconciled,
        })
    }

    pub(super) fn own_join(self, group: Group) -> EventPayload {
        EventPayload::OwnJoin(OwnMembership {
            timestamp: self.seconds,
            group: Box::new(group),
            author: self.author,
            sequence: self.sequence,
            command_id: self.command_id,
            reconciled: self.reconciled,
        })
    }
}

/// A change of a group without content.
pub(super) fn no_change(group: &GroupId) -> ChangedGroup {
    ChangedGroup {
        id: group.clone(),
        subject: None,
        description: None,
        picture: None,
        info_admin_only: None,
        messages_admin_only: None,
        members_can_add_new_member: None,
        new_members_approval_required: None,
        members_can_share_history: None,
        disappearing_seconds: None,
        invite: None,
    }
}
