//! Something that happened in a group, whether a command caused it or not.
//!
//! `group.join` and `group.left` keep the envelope of WAHA's "Groups" document; `group.v2.*` are
//! WAHA's newer names and carry every other change. The order of fields is the order on the wire.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    CommandId, Description, EngineName, Group, GroupId, JoinRequestAction, ParticipantId,
    RequestMethod, Role, SessionName, Subject,
};

/// An event on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The same however often the event is published, so a consumer can drop repetitions.
    pub id: Uuid,
    /// When it was published first, in milliseconds since 1970.
    pub timestamp: i64,
    /// What happened.
    pub event: EventName,
    /// The session that saw it.
    pub session: SessionName,
    /// What told of it.
    pub engine: EngineName,
    /// The particulars, by `event`.
    pub payload: EventPayload,
}

/// The names of events; also the end of the routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EventName {
    /// Anyone joined: by creation, by being added, by an invite.
    #[serde(rename = "group.join")]
    GroupJoin,
    /// Anyone left or was removed. WAHA also calls it `group.leave`.
    #[serde(rename = "group.left", alias = "group.leave")]
    GroupLeft,
    /// Subject, description, picture, settings or invite code changed.
    #[serde(rename = "group.v2.update")]
    GroupUpdate,
    /// People joined, left, were promoted or demoted.
    #[serde(rename = "group.v2.participants")]
    GroupParticipants,
    /// Somebody asked to join, or such a request was decided or withdrawn.
    #[serde(rename = "group.v2.participants.join-request")]
    JoinRequest,
    /// The session's own account joined.
    #[serde(rename = "group.v2.join")]
    OwnJoin,
    /// The session's own account left or was removed.
    #[serde(rename = "group.v2.leave")]
    OwnLeave,
}

impl EventName {
    /// All names, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::GroupJoin,
        Self::GroupLeft,
        Self::GroupUpdate,
        Self::GroupParticipants,
        Self::JoinRequest,
        Self::OwnJoin,
        Self::OwnLeave,
    ];

    /// The name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GroupJoin => "group.join",
            Self::GroupLeft => "group.left",
            Self::GroupUpdate => "group.v2.update",
            Self::GroupParticipants => "group.v2.participants",
            Self::JoinRequest => "group.v2.participants.join-request",
            Self::OwnJoin => "group.v2.join",
            Self::OwnLeave => "group.v2.leave",
        }
    }

    /// What has happened, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::GroupJoin => "Anyone joined: by creation, by being added, by an invite.",
            Self::GroupLeft => "Anyone left or was removed. WAHA also calls it `group.leave`.",
            Self::GroupUpdate => "Subject, description, picture, settings or invite code changed.",
            Self::GroupParticipants => "People joined, left, were promoted or demoted.",
            Self::JoinRequest => {
                "Somebody asked to join, or such a request was decided or withdrawn."
            }
            Self::OwnJoin => "The session's own account joined.",
            Self::OwnLeave => "The session's own account left or was removed.",
        }
    }

    /// The JSON Schema of the payload.
    pub fn payload_schema(self, generator: &mut SchemaGenerator) -> Schema {
        match self {
            Self::GroupJoin | Self::GroupLeft => generator.subschema_for::<GroupNotification>(),
            Self::GroupParticipants => generator.subschema_for::<GroupMembership>(),
            Self::JoinRequest => generator.subschema_for::<JoinRequestChange>(),
            Self::OwnJoin => generator.subschema_for::<OwnMembership>(),
            Self::GroupUpdate | Self::OwnLeave => generator.subschema_for::<GroupChange>(),
        }
    }
}

/// The particulars of an event; which one it is follows from the event's name.
///
/// Untagged, since WAHA's envelope puts other fields between the name and the payload; each
/// variant has a required field that those before it lack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EventPayload {
    /// `group.join` and `group.left`.
    Notification(GroupNotification),
    /// `group.v2.participants`.
    Membership(GroupMembership),
    /// `group.v2.participants.join-request`.
    JoinRequest(JoinRequestChange),
    /// `group.v2.join`.
    OwnJoin(OwnMembership),
    /// `group.v2.update` and `group.v2.leave`.
    Change(GroupChange),
}

/// Payload of `group.join` and `group.left`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupNotification {
    /// The engine's own id of the notification.
    pub id: String,
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The group.
    pub chat_id: GroupId,
    /// Who did it, where that is known.
    pub author: Option<ParticipantId>,
    /// How they came or went.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// Always empty; kept from WAHA's shape.
    pub body: String,
    /// Who came or went.
    pub recipient_ids: Vec<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reconciled: bool,
}

/// How somebody came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NotificationType {
    /// The group was created with them in it.
    Create,
    /// Added by somebody.
    Add,
    /// Came by the invite link.
    Invite,
    /// Removed by somebody.
    Remove,
    /// Left of their own accord.
    Leave,
}

/// Payload of `group.v2.participants`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupMembership {
    /// What happened to the people named.
    #[serde(rename = "type")]
    pub kind: MembershipChange,
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The group.
    pub group: GroupRef,
    /// The people, with the role they have after it.
    pub participants: Vec<ParticipantRole>,
    /// Who did it, where that is known.
    pub author: Option<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reconciled: bool,
}

/// What happened to people in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MembershipChange {
    /// They joined.
    Join,
    /// They left or were removed.
    Leave,
    /// They became admins.
    Promote,
    /// They are no admins any more.
    Demote,
}

/// Somebody in an event, with the role after it; `left` for who is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantRole {
    /// Who.
    pub id: ParticipantId,
    /// The role after the event; absent for who left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The private id, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lid: Option<ParticipantId>,
    /// The phone, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pn: Option<ParticipantId>,
}

/// A group named in an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupRef {
    /// The group's id.
    pub id: GroupId,
}

/// Payload of `group.v2.join`: the session's own account is in a group now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnMembership {
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The whole group.
    pub group: Box<Group>,
    /// Who did it, where that is known.
    pub author: Option<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reconciled: bool,
}

/// Payload of `group.v2.update` (with what changed) and `group.v2.leave` (with the id alone).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupChange {
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The group and the new value of each field that changed.
    pub group: ChangedGroup,
    /// Who did it, where that is known.
    pub author: Option<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reconciled: bool,
}

/// A group with only the fields that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedGroup {
    /// The group's id.
    pub id: GroupId,
    /// The new subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub subject: Option<Subject>,
    /// The new description; empty where it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub description: Option<Description>,
    /// What became of the picture; `GetGroupPicture` tells where the new one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<PictureChange>,
    /// Whether only admins may change subject and description now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_admin_only: Option<bool>,
    /// Whether only admins may send messages now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_admin_only: Option<bool>,
    /// Whether people who are no admins may add others now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_can_add_new_member: Option<bool>,
    /// Whether an admin has to approve who joins by the invite link now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_members_approval_required: Option<bool>,
    /// Whether people who are no admins may send earlier messages to new members now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_can_share_history: Option<bool>,
    /// After how many seconds new messages disappear now; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disappearing_seconds: Option<u32>,
    /// The new invite link; told to admins alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<String>,
}

/// Payload of `group.v2.participants.join-request`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinRequestChange {
    /// What happened to the request.
    pub action: JoinRequestAction,
    /// When it happened, in seconds since 1970.
    pub timestamp: i64,
    /// The group.
    pub group: GroupRef,
    /// Who asks to join: by phone, or by the private id where only that is known.
    pub requester_id: ParticipantId,
    /// Their phone, where it is known.
    pub requester_pn: Option<ParticipantId>,
    /// How they came to ask, where that is known.
    pub request_method: Option<RequestMethod>,
    /// Who did it, where that is known: the requester, or the admin who decided.
    pub author: Option<ParticipantId>,
    /// Counts up by one for each event of this group that this session sees.
    pub sequence: u64,
    /// The command that caused it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_id: Option<CommandId>,
    /// Nobody told of it when it happened: it was found by comparing, later.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reconciled: bool,
}

/// What became of a group's picture; the words of Baileys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PictureChange {
    /// The group has another picture, or its first one.
    Changed,
    /// The group has no picture any more.
    Removed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
