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
mod invite;
mod join_request;
mod reply;
pub mod schema;
mod text;
mod timestamp;
mod webhook;
mod whole;

pub use command::{
    About, AddParticipants, ApproveJoinRequests, Change, Command, CommandResult, CommandType,
    CountGroups, CountLids, CreateGroup, DeleteGroup, DeleteGroupPicture, DemoteAdmin, EnsureGroup,
    EnsuredGroup, Exclude, GetGroup, GetGroupPicture, GetInfoAdminOnly, GetInviteCode, GetJoinInfo,
    GetLidByPhone, GetMemberAddMode, GetMemberShareHistory, GetMembershipApproval,
    GetMessagesAdminOnly, GetParticipants, GetPhoneByLid, GroupPicture, JoinGroup, LIDS_SHOWN,
    LaneName, LeaveGroup, LidPair, ListGroups, ListJoinRequests, ListLids, ListWebhooks,
    PICTURE_BYTES_MAX, PictureData, PictureKind, PictureSource, PictureUrl, PromoteAdmin,
    RefreshGroups, RejectJoinRequests, RemoveParticipants, RemoveWebhook, Repeat, RevokeInviteCode,
    SetDisappearingMessages, SetGroupDescription, SetGroupPicture, SetGroupSubject,
    SetInfoAdminOnly, SetMemberAddMode, SetMemberShareHistory, SetMembershipApproval,
    SetMessagesAdminOnly, SetWebhook, SortBy, SortOrder, TestWebhook, WantedParticipant,
    WantedSettings, picture_digest,
};
pub use envelope::Envelope;
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use event::{
    ChangedGroup, Event, EventName, EventPayload, GroupChange, GroupMembership, GroupNotification,
    GroupRef, JoinRequestChange, MembershipChange, NotificationType, OwnMembership,
    ParticipantRole, PictureChange,
};
pub use group::{
    Count, Group, GroupSettings, InfoAdminOnly, InviteCode, MemberAddMode, MemberShareHistory,
    MembershipApproval, MessageTimer, MessagesAdminOnly, Outcome, OutcomeKind, Participant,
    ParticipantInput, PrivateInvite, Role,
};
pub use ids::{CommandId, EngineName, GroupId, InvalidId, ParticipantId, SessionName, WebhookId};
pub use invite::{JoinCode, JoinInfo, JoinOutcome, Joined};
pub use join_request::{JoinRequest, JoinRequestAction, RequestMethod};
pub use reply::{Reply, ReplyStatus};
pub use text::{Description, InvalidText, Subject};
pub use timestamp::Timestamp;
pub use webhook::{
    CustomHeader, EventPattern, HeaderName, HeaderValue, Hmac, HmacKey, NoticeName, Retries,
    RetryPolicy, SessionPattern, SigningSecret, Webhook, WebhookNotice, WebhookNoticePayload,
    WebhookSettings, WebhookState, WebhookTest, WebhookUrl, endpoint_name,
};

/// Version of the wire contract; a change of meaning raises it.
pub const VERSION: u32 = 1;
