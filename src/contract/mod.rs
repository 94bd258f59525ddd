//! The wire contract, version 1: what producers send and what consumers receive.
//!
//! The types here are the single source of `schemas/`; they carry no behaviour beyond reading and
//! writing themselves, and they know no other module. Everybody else may name them.

mod command;
mod envelope;
mod error;
mod event;
mod group;
mod ids;
mod reply;
pub mod schema;
mod text;
mod webhook;
mod whole;

pub use command::{
    About, AddParticipants, Command, CommandResult, CommandType, CountLids, CreateGroup,
    DeleteGroup, DeleteGroupPicture, DemoteAdmin, Exclude, GetGroup, GetGroupPicture,
    GetInfoAdminOnly, GetInviteCode, GetLidByPhone, GetParticipants, GetPhoneByLid, GroupPicture,
    LIDS_SHOWN, LaneName, LeaveGroup, LidCount, LidPair, ListGroups, ListLids, ListWebhooks,
    PICTURE_BYTES_MAX, PictureData, PictureKind, PictureSource, PictureUrl, PromoteAdmin,
    RemoveParticipants, RemoveWebhook, Repeat, RevokeInviteCode, SetGroupDescription,
    SetGroupPicture, SetGroupSubject, SetInfoAdminOnly, SetWebhook, SortBy, SortOrder, TestWebhook,
    picture_digest,
};
pub use envelope::Envelope;
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use event::{
    ChangedGroup, Event, EventName, EventPayload, GroupChange, GroupMembership, GroupNotification,
    GroupRef, MembershipChange, NotificationType, OwnMembership, ParticipantRole, PictureChange,
};
pub use group::{
    Group, GroupSettings, InfoAdminOnly, InviteCode, Outcome, OutcomeKind, Participant,
    ParticipantInput, PrivateInvite, Role,
};
pub use ids::{
    CommandId, EngineName, GroupId, InvalidId, ParticipantId, SessionName, Timestamp, WebhookId,
};
pub use reply::{Reply, ReplyStatus};
pub use text::{Description, InvalidText, Subject};
pub use webhook::{
    CustomHeader, EventPattern, HeaderName, HeaderValue, Hmac, HmacKey, NoticeName, Retries,
    RetryPolicy, SessionPattern, SigningSecret, Webhook, WebhookNotice, WebhookNoticePayload,
    WebhookSettings, WebhookState, WebhookTest, WebhookUrl, endpoint_name,
};

/// Version of the wire contract; a change of meaning raises it.
pub const VERSION: u32 = 1;
