//! Groups, their people, and what became of each person a command named: one shape on every engine.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ids::NamedParticipant;
use super::{Description, GroupId, ParticipantId, Subject, Timestamp, whole};

/// A group as the asking session sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// The group's id.
    pub id: GroupId,
    /// What the group is called.
    #[schemars(with = "String")]
    pub subject: Subject,
    /// What the group says about itself; empty where it says nothing.
    #[schemars(with = "String")]
    pub description: Description,
    /// Who created the group, where that is known.
    pub owner: Option<ParticipantId>,
    /// When the group was created, where that is known.
    pub created_at: Option<Timestamp>,
    /// How many people are in the group.
    pub size: u32,
    /// Who may do what.
    pub settings: GroupSettings,
    /// The people in the group; absent where the caller excluded them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<Vec<Participant>>,
    /// Only in the result of `CreateGroup`: what became of each person it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Vec<Outcome>>,
}

/// Who may do what in a group.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, as WhatsApp has them"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupSettings {
    /// Only admins may change subject and description (WhatsApp: `locked`).
    pub info_admin_only: bool,
    /// Only admins may send messages (WhatsApp: `announcement`).
    pub messages_admin_only: bool,
    /// People who are no admins may add others (WhatsApp: `all_member_add`).
    pub members_can_add_new_member: bool,
    /// An admin has to approve who joins by the invite link.
    pub new_members_approval_required: bool,
    /// People who are no admins may send earlier messages to new members; absent where the engine does
    /// not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members_can_share_history: Option<bool>,
    /// After how many seconds new messages disappear, 0 for never; absent where the engine does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disappearing_seconds: Option<u32>,
}

impl GroupSettings {
    /// Those of a group that was just created, as WhatsApp creates it.
    pub const OF_NEW_GROUPS: Self = Self {
        info_admin_only: false,
        messages_admin_only: false,
        members_can_add_new_member: true,
        new_members_approval_required: false,
        // Chosen: WhatsApp announced it as something that admins can turn off.
        members_can_share_history: Some(true),
        disappearing_seconds: Some(0),
    };
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Participant {
    /// Who: the phone where it is known, otherwise the private id.
    pub id: ParticipantId,
    /// As what.
    pub role: Role,
    /// The private id, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lid: Option<ParticipantId>,
    /// The phone, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pn: Option<ParticipantId>,
}

impl Participant {
    /// Somebody by their id, and the private id where it is known besides.
    #[must_use]
    pub fn new(id: ParticipantId, role: Role, lid: Option<ParticipantId>) -> Self {
        let (lid, pn) = if id.is_phone() {
            (lid, Some(id.clone()))
        } else {
            (Some(id.clone()), None)
        };
        Self { id, role, lid, pn }
    }
}

/// What somebody is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No admin.
    Participant,
    /// May manage people, settings and the invite code.
    Admin,
    /// An admin whom nobody can demote or remove: the creator.
    Superadmin,
}

/// What became of one person a command named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Who.
    pub id: ParticipantId,
    /// What happened, in one vocabulary over all engines.
    pub outcome: OutcomeKind,
    /// WhatsApp's own code: 200, 401, 403, 404, 408, 409, 419, 421.
    pub code: u16,
    /// How to invite somebody whose privacy settings forbid adding (code 403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<PrivateInvite>,
}

/// What can become of a person a command named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OutcomeKind {
    /// Done as asked.
    Ok,
    /// Was in the group already; nothing changed.
    AlreadyMember,
    /// Is not in the group; nothing changed.
    NotMember,
    /// Was an admin already; nothing changed.
    AlreadyAdmin,
    /// Was no admin; nothing changed.
    NotAdmin,
    /// Privacy settings forbid adding this person; `invite` may be sent instead.
    PrivacyBlocked,
    /// The number has no WhatsApp account.
    NotOnWhatsapp,
    /// Left the group a short while ago and cannot be added yet.
    RecentlyLeft,
    /// The group has as many people as WhatsApp allows.
    GroupFull,
    /// An admin has to approve.
    PendingApproval,
    /// WhatsApp refused, for lack of rights or because this person blocked the account.
    NotAllowed,
    /// The engine did not say.
    Unknown,
}

/// A private invite that WhatsApp offers for somebody who cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrivateInvite {
    /// The invite's code.
    pub code: String,
    /// Until when it holds.
    pub expires_at: Timestamp,
}

/// The answer to `GetInfoAdminOnly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InfoAdminOnly {
    /// Only admins may change subject and description.
    pub admins_only: bool,
}

/// The answer to `GetMessagesAdminOnly`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessagesAdminOnly {
    /// Only admins may send messages.
    pub admins_only: bool,
}

/// The answer to `GetMemberAddMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberAddMode {
    /// People who are no admins may add others.
    pub members_can_add_new_member: bool,
}

/// The answer to `GetMembershipApproval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MembershipApproval {
    /// An admin has to approve new members.
    pub new_members_approval_required: bool,
}

/// The answer to `GetMemberShareHistory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberShareHistory {
    /// People who are no admins may send earlier messages to new members.
    pub members_can_share_history: bool,
}

/// The answer to `CountGroups` and `CountLids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// How many groups the account is in, or how many pairs of private id and phone the session knows.
    pub count: u64,
}

/// How long new messages stay, in seconds: one of the times that WhatsApp offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MessageTimer(u32);

impl MessageTimer {
    /// Never, a day, a week, 90 days.
    const OFFERED: [u32; 4] = [0, 86_400, 604_800, 7_776_000];

    /// The time of so many seconds, if WhatsApp offers it.
    #[must_use]
    pub fn offered(seconds: u32) -> Option<Self> {
        Self::OFFERED.contains(&seconds).then_some(Self(seconds))
    }

    /// The seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for MessageTimer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = whole::required(deserializer)?;
        Self::offered(seconds)
            .ok_or_else(|| de::Error::custom("must be a time that WhatsApp offers"))
    }
}

impl JsonSchema for MessageTimer {
    fn schema_name() -> Cow<'static, str> {
        "MessageTimer".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "enum": Self::OFFERED })
    }
}

/// A group's invite code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InviteCode {
    /// The bare code.
    pub invite_code: String,
    /// The link to send: `https://chat.whatsapp.com/<code>`.
    pub invite_url: String,
}

/// A person in a command's payload: `{"id": "…"}`, or the bare id.
///
/// Written as the object, which is the documented form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParticipantInput {
    /// Who.
    pub id: ParticipantId,
}

impl<'de> Deserialize<'de> for ParticipantInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = ParticipantInput;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a participant, {\"id\": \"…@c.us\"} or the bare id")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ParticipantInput, E> {
                ParticipantId::named(text)
                    .map(|id| ParticipantInput { id })
                    .map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<ParticipantInput, A::Error> {
                let mut id = None;
                while let Some(field) = map.next_key::<Cow<'de, str>>()? {
                    if field != "id" {
                        return Err(de::Error::unknown_field(&field, &["id"]));
                    }
                    let named = map.next_value::<Cow<'de, str>>()?;
                    let read = ParticipantId::named(&named).map_err(de::Error::custom)?;
                    if id.replace(read).is_some() {
                        return Err(de::Error::duplicate_field("id"));
                    }
                }
                let id = id.ok_or_else(|| de::Error::missing_field("id"))?;
                Ok(ParticipantInput { id })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for ParticipantInput {
    fn schema_name() -> Cow<'static, str> {
        "ParticipantInput".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<NamedParticipant>();
        json_schema!({
            "description": "Must be a participant: an object with its id, or the bare id.",
            "type": ["object", "string"],
            "if": { "type": "string" },
            "then": id,
            "else": {
                "properties": { "id": id },
                "required": ["id"],
                "additionalProperties": false,
            },
        })
    }
}
