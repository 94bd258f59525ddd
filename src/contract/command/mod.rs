//! The commands: the payloads in one file a topic, and one table of all commands.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use super::{
    Count, Group, GroupId, InfoAdminOnly, InviteCode, JoinInfo, JoinRequest, Joined, MemberAddMode,
    MemberShareHistory, MembershipApproval, MessagesAdminOnly, Outcome, Participant, Webhook,
    WebhookTest,
};

mod about;
mod admins;
mod ensure_group;
mod groups;
mod invites;
mod join_requests;
mod lids;
mod participants;
mod picture;
mod settings;
mod webhooks;

pub use about::{About, LaneName};
pub use admins::{DemoteAdmin, PromoteAdmin};
pub use ensure_group::{Change, EnsureGroup, EnsuredGroup, WantedParticipant, WantedSettings};
pub use groups::{
    CountGroups, CreateGroup, DeleteGroup, Exclude, GetGroup, LeaveGroup, ListGroups,
    RefreshGroups, SetGroupDescription, SetGroupSubject, SortBy, SortOrder,
};
pub use invites::{GetInviteCode, GetJoinInfo, JoinGroup, RevokeInviteCode};
pub use join_requests::{ApproveJoinRequests, ListJoinRequests, RejectJoinRequests};
pub use lids::{CountLids, GetLidByPhone, GetPhoneByLid, LIDS_SHOWN, LidPair, ListLids};
pub use participants::{AddParticipants, GetParticipants, RemoveParticipants};
pub use picture::{
    DeleteGroupPicture, GetGroupPicture, GroupPicture, PICTURE_BYTES_MAX, PictureData, PictureKind,
    PictureSource, PictureUrl, SetGroupPicture, picture_digest,
};
pub use settings::{
    GetInfoAdminOnly, GetMemberAddMode, GetMemberShareHistory, GetMembershipApproval,
    GetMessagesAdminOnly, SetDisappearingMessages, SetInfoAdminOnly, SetMemberAddMode,
    SetMemberShareHistory, SetMembershipApproval, SetMessagesAdminOnly,
};
pub use webhooks::{ListWebhooks, RemoveWebhook, SetWebhook, TestWebhook};

/// What doing a command a second time would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The command changes nothing; it needs no ledger.
    ReadOnly,
    /// The second time changes nothing that the first did not.
    Harmless,
    /// The second time has a second effect, such as a second group.
    Harmful,
}

/// WAHA's request in words.
macro_rules! in_waha {
    () => {
        "WAHA has nothing like it."
    };
    (ours $endpoint:literal) => {
        concat!(
            "`",
            $endpoint,
            "` on the gateway; WAHA has nothing like it."
        )
    };
    ($endpoint:literal) => {
        concat!("`", $endpoint, "` in WAHA.")
    };
}

/// WAHA's request, where there is one.
macro_rules! endpoint {
    ($(ours $endpoint:literal)?) => {
        None
    };
    ($endpoint:literal) => {
        Some($endpoint)
    };
}

/// The gateway's own request, where WAHA has none.
macro_rules! own_endpoint {
    ($($endpoint:literal)?) => {
        None
    };
    (ours $endpoint:literal) => {
        Some($endpoint)
    };
}

/// Builds everything that is said of every command from one row each.
macro_rules! commands {
    ($($name:ident => $result:ty, $repeat:ident, $about:expr $(, $($ours:ident)? $endpoint:literal)?;)*) => {
        /// A command that has been read and checked.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Command {
            $(#[doc = concat!("`", stringify!($name), "`. ", in_waha!($($($ours)? $endpoint)?))] $name($name),)*
        }

        /// The type of a command.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, JsonSchema,
        )]
        pub enum CommandType {
            $(#[doc = in_waha!($($($ours)? $endpoint)?)] $name,)*
        }

        impl CommandType {
            /// All types, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The type as it stands on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// WAHA's request that the command stands for, if there is one.
            #[must_use]
            pub const fn endpoint(self) -> Option<&'static str> {
                match self { $(Self::$name => endpoint!($($($ours)? $endpoint)?)),* }
            }

            /// The gateway's own request for a command that WAHA does not have, if there is one.
            #[must_use]
            pub const fn own_endpoint(self) -> Option<&'static str> {
                match self { $(Self::$name => own_endpoint!($($($ours)? $endpoint)?)),* }
            }

            /// What doing it a second time would do.
            #[must_use]
            pub const fn repeat(self) -> Repeat {
                match self { $(Self::$name => Repeat::$repeat),* }
            }

            /// The JSON Schema of the payload.
            pub fn payload_schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$name => <$name>::json_schema(generator)),* }
            }

            /// The JSON Schema of the result.
            pub fn result_schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$name => generator.subschema_for::<$result>()),* }
            }

            /// Reads a payload that has passed the payload schema.
            ///
            /// # Errors
            /// When the payload breaks a rule that the schema cannot state.
            pub fn read(self, payload: Value) -> Result<Command, serde_json::Error> {
                match self {
                    $(Self::$name => serde_json::from_value(payload).map(Command::$name)),*
                }
            }
        }

        impl Command {
            /// The command's type.
            #[must_use]
            pub const fn command_type(&self) -> CommandType {
                match self { $(Self::$name(_) => CommandType::$name),* }
            }

            /// What the command is about.
            #[must_use]
            pub fn about(&self) -> About<'_> {
                match self {
                    $(Self::$name(payload) => {
                        let about: fn(&$name) -> About<'_> = $about;
                        about(payload)
                    }),*
                }
            }

            /// The group that the command is about, where it is about one.
            #[must_use]
            pub fn group(&self) -> Option<&GroupId> {
                match self.about() {
                    About::Group(id) => Some(id),
                    _ => None,
                }
            }
        }

        impl Serialize for Command {
            /// Writes the payload in its canonical form.
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$name(payload) => payload.serialize(serializer)),* }
            }
        }
    };
}

commands! {
    CreateGroup => Group, Harmful, |_| About::Nothing, "POST /api/{session}/groups";
    ListGroups => Vec<Group>, ReadOnly, |_| About::Nothing, "GET /api/{session}/groups";
    CountGroups => Count, ReadOnly, |_| About::Nothing, "GET /api/{session}/groups/count";
    RefreshGroups => bool, ReadOnly, |_| About::Nothing, "POST /api/{session}/groups/refresh";
    GetGroup => Group, ReadOnly, |p| About::Group(&p.group_id), "GET /api/{session}/groups/{groupId}";
    DeleteGroup => bool, Harmless, |p| About::Group(&p.group_id), "DELETE /api/{session}/groups/{groupId}";
    LeaveGroup => bool, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/leave";
    SetGroupSubject => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/subject";
    SetGroupDescription => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/description";
    GetGroupPicture => GroupPicture, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/picture";
    SetGroupPicture => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/picture";
    DeleteGroupPicture => bool, Harmless, |p| About::Group(&p.group_id),
        "DELETE /api/{session}/groups/{groupId}/picture";
    GetInfoAdminOnly => InfoAdminOnly, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/settings/security/info-admin-only";
    SetInfoAdminOnly => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/settings/security/info-admin-only";
    GetMessagesAdminOnly => MessagesAdminOnly, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/settings/security/messages-admin-only";
    SetMessagesAdminOnly => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/settings/security/messages-admin-only";
    GetMemberAddMode => MemberAddMode, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/settings/security/member-add-mode";
    SetMemberAddMode => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/settings/security/member-add-mode";
    GetMembershipApproval => MembershipApproval, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/settings/security/membership-approval";
    SetMembershipApproval => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/settings/security/membership-approval";
    GetMemberShareHistory => MemberShareHistory, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/settings/security/member-share-history-mode";
    SetMemberShareHistory => bool, Harmless, |p| About::Group(&p.group_id),
        "PUT /api/{session}/groups/{groupId}/settings/security/member-share-history-mode";
    SetDisappearingMessages => bool, Harmless, |p| About::Group(&p.group_id),
        ours "PUT /api/{session}/groups/{groupId}/settings/disappearing-messages";
    GetParticipants => Vec<Participant>, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/participants";
    AddParticipants => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/participants/add";
    RemoveParticipants => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/participants/remove";
    PromoteAdmin => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/admin/promote";
    DemoteAdmin => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/admin/demote";
    GetInviteCode => InviteCode, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/invite-code";
    RevokeInviteCode => InviteCode, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/invite-code/revoke";
    GetJoinInfo => JoinInfo, ReadOnly, |p| About::Invite(&p.code), "GET /api/{session}/groups/join-info";
    // Joining again changes nothing: who is in is in, and who has asked has asked.
    JoinGroup => Joined, Harmless, |p| About::Invite(&p.code), "POST /api/{session}/groups/join";
    ListJoinRequests => Vec<JoinRequest>, ReadOnly, |p| About::Group(&p.group_id),
        "GET /api/{session}/groups/{groupId}/participants/join-requests";
    ApproveJoinRequests => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/participants/join-requests/approve";
    RejectJoinRequests => Vec<Outcome>, Harmless, |p| About::Group(&p.group_id),
        "POST /api/{session}/groups/{groupId}/participants/join-requests/reject";
    // A plan waits for nothing: an EnsureGroup before it may go on for hours, and the plan says what is left of it.
    EnsureGroup => EnsuredGroup, Harmless,
        |p| p.group_id.as_ref().filter(|_| !p.plan).map_or(About::Nothing, About::Group),
        ours "PUT /api/{session}/groups/{groupId}";
    ListLids => Vec<LidPair>, ReadOnly, |_| About::Nothing, "GET /api/{session}/lids";
    CountLids => Count, ReadOnly, |_| About::Nothing, "GET /api/{session}/lids/count";
    GetPhoneByLid => LidPair, ReadOnly, |_| About::Nothing, "GET /api/{session}/lids/{lid}";
    GetLidByPhone => LidPair, ReadOnly, |_| About::Nothing, "GET /api/{session}/lids/pn/{phone}";
    SetWebhook => Webhook, Harmless, |p| About::Webhook(&p.id), "PUT /api/sessions/{session}";
    RemoveWebhook => bool, Harmless, |p| About::Webhook(&p.id), "PUT /api/sessions/{session}";
    ListWebhooks => Vec<Webhook>, ReadOnly, |_| About::Webhooks, "GET /api/sessions/{session}";
    TestWebhook => WebhookTest, Harmless, |p| About::Webhook(&p.id);
}

impl std::str::FromStr for CommandType {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == name)
            .ok_or(())
    }
}

/// What a command came to: the `result` of its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    /// `CreateGroup`, `GetGroup`.
    Group(Box<Group>),
    /// `ListGroups`.
    Groups(Vec<Group>),
    /// Done, or (where the contract says so) `false` for lack of permission.
    Done(bool),
    /// `CountGroups`, `CountLids`.
    Count(Count),
    /// `GetGroupPicture`.
    GroupPicture(GroupPicture),
    /// `GetInfoAdminOnly`.
    InfoAdminOnly(InfoAdminOnly),
    /// `GetMessagesAdminOnly`.
    MessagesAdminOnly(MessagesAdminOnly),
    /// `GetMemberAddMode`.
    MemberAddMode(MemberAddMode),
    /// `GetMembershipApproval`.
    MembershipApproval(MembershipApproval),
    /// `GetMemberShareHistory`.
    MemberShareHistory(MemberShareHistory),
    /// `GetParticipants`.
    Participants(Vec<Participant>),
    /// What became of each person named.
    Outcomes(Vec<Outcome>),
    /// `GetInviteCode`, `RevokeInviteCode`.
    InviteCode(InviteCode),
    /// `GetJoinInfo`.
    JoinInfo(Box<JoinInfo>),
    /// `JoinGroup`.
    Joined(Joined),
    /// `ListJoinRequests`.
    JoinRequests(Vec<JoinRequest>),
    /// `EnsureGroup`.
    Ensured(Box<EnsuredGroup>),
    /// `ListLids`.
    Lids(Vec<LidPair>),
    /// `GetPhoneByLid`, `GetLidByPhone`.
    Lid(LidPair),
    /// `SetWebhook`.
    Webhook(Box<Webhook>),
    /// `ListWebhooks`.
    Webhooks(Vec<Webhook>),
    /// `TestWebhook`.
    WebhookTest(WebhookTest),
}

impl Serialize for CommandResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Group(group) => group.serialize(serializer),
            Self::Groups(groups) => groups.serialize(serializer),
            Self::Done(done) => done.serialize(serializer),
            Self::Count(count) => count.serialize(serializer),
            Self::GroupPicture(picture) => picture.serialize(serializer),
            Self::InfoAdminOnly(setting) => setting.serialize(serializer),
            Self::MessagesAdminOnly(setting) => setting.serialize(serializer),
            Self::MemberAddMode(setting) => setting.serialize(serializer),
            Self::MembershipApproval(setting) => setting.serialize(serializer),
            Self::MemberShareHistory(setting) => setting.serialize(serializer),
            Self::Participants(people) => people.serialize(serializer),
            Self::Outcomes(outcomes) => outcomes.serialize(serializer),
            Self::InviteCode(code) => code.serialize(serializer),
            Self::JoinInfo(info) => info.serialize(serializer),
            Self::Joined(joined) => joined.serialize(serializer),
            Self::JoinRequests(requests) => requests.serialize(serializer),
            Self::Ensured(ensured) => ensured.serialize(serializer),
            Self::Lids(pairs) => pairs.serialize(serializer),
            Self::Lid(pair) => pair.serialize(serializer),
            Self::Webhook(webhook) => webhook.serialize(serializer),
            Self::Webhooks(webhooks) => webhooks.serialize(serializer),
            Self::WebhookTest(test) => test.serialize(serializer),
        }
    }
}
