//! The payload of `EnsureGroup`, how a group shall be; and its result, what was done for that.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::CommandType;
use crate::contract::ids::NamedParticipant;
use crate::contract::{
    Description, ErrorBody, Group, GroupId, MessageTimer, Outcome, ParticipantId, Role, Subject,
};

/// Payload of `EnsureGroup`: the group becomes as described; what is absent stays as it is.
///
/// The group is read, and only the difference is done. A repetition finds no difference and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    extend("anyOf" = [{"required": ["groupId"]}, {"required": ["name"]}]),
    extend("if" = {"properties": {"exact": {"const": true}}, "required": ["exact"]}),
    extend("then" = {"required": ["participants"]})
)]
pub struct EnsureGroup {
    /// The group; absent: a new one, which needs a `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
    /// What it is called.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::contract::text::optional_to_set"
    )]
    pub name: Option<Subject>,
    /// What it says about itself; empty: nothing.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::contract::text::optional_to_set"
    )]
    pub description: Option<Description>,
    /// Who is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), extend("uniqueItems" = true))]
    pub participants: Option<Vec<WantedParticipant>>,
    /// Nobody else is in it: others are removed, but never the session's account or the creator.
    #[serde(default)]
    pub exact: bool,
    /// Its settings.
    #[serde(default)]
    pub settings: WantedSettings,
    /// Nothing is changed; the reply says what would be.
    #[serde(default)]
    pub plan: bool,
    /// More than half of the group may be removed.
    #[serde(default)]
    pub confirm_remove: bool,
}

/// The settings that a group shall have; absent ones stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WantedSettings {
    /// Only admins may change subject, description and picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info_admin_only: Option<bool>,
    /// Only admins may send messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_admin_only: Option<bool>,
    /// People who are no admins may add others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_can_add_new_member: Option<bool>,
    /// An admin has to approve who joins by the invite link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_members_approval_required: Option<bool>,
    /// New members may see messages from before they joined, if a member shares them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_can_share_history: Option<bool>,
    /// After how many seconds messages disappear; 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disappearing_seconds: Option<MessageTimer>,
}

/// A person who shall be in a group: `{"id": "…", "role": "…"}`, or the bare id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WantedParticipant {
    /// Who.
    pub id: ParticipantId,
    /// As what; absent: as it is. `superadmin` asks for an admin, since nobody can be made the creator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl<'de> Deserialize<'de> for WantedParticipant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Object {
            id: String,
            #[serde(default)]
            role: Option<Role>,
        }

        use serde::de::Error;
        let value = Value::deserialize(deserializer)?;
        let object = match value {
            Value::String(id) => Object { id, role: None },
            other => Object::deserialize(other).map_err(Error::custom)?,
        };
        let id = ParticipantId::named(&object.id).map_err(Error::custom)?;
        Ok(Self {
            id,
            role: object.role,
        })
    }
}

impl JsonSchema for WantedParticipant {
    fn schema_name() -> Cow<'static, str> {
        "WantedParticipant".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let id = generator.subschema_for::<NamedParticipant>();
        let role = generator.subschema_for::<Role>();
        json_schema!({
            "description": "Must be a participant: an object with its id and perhaps its role, or the bare id.",
            "type": ["object", "string"],
            "if": { "type": "string" },
            "then": id,
            "else": {
                "properties": { "id": id, "role": role },
                "required": ["id"],
                "additionalProperties": false,
            },
        })
    }
}

/// The result of `EnsureGroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnsuredGroup {
    /// The group; null in the plan of a new one.
    pub group_id: Option<GroupId>,
    /// The command created the group, or would.
    pub created: bool,
    /// The changes that the command made, or would make, in their order; none if the group was as wanted.
    pub changes: Vec<Change>,
    /// What became of each person whom it had to add, promote, demote or remove; empty in a plan.
    pub outcomes: Vec<Outcome>,
    /// Only in a plan: about how many seconds it takes, since the account's limits let no more through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The group as it is afterwards, or now, in a plan; null in the plan of a new one.
    pub group: Option<Group>,
}

/// One change on the way from the group as it is to the group as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// The command that makes this change.
    #[serde(rename = "type")]
    pub command_type: CommandType,
    /// The value before, of a change of subject, description or a setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// The people whom it is about; `outcomes` says what became of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<ParticipantId>,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}
