//! The one answer to a command.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{CommandId, EngineName, ErrorBody, SessionName, Timestamp};

/// The answer to a command.
///
/// `id` is the same however often the reply is published, so a consumer can drop repetitions.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("oneOf" = [
    { "properties": { "status": { "const": "ok" }, "error": false }, "required": ["result"] },
    { "properties": { "status": { "const": "error" }, "result": false }, "required": ["error"] },
]))]
pub struct Reply {
    /// UUIDv5 of session, command id and error code; of the body where it is no valid command.
    pub id: Uuid,
    /// The command's id, where one could be read.
    pub command_id: Option<CommandId>,
    /// The command's type as the producer wrote it, where one could be read.
    #[serde(rename = "type")]
    pub command_type: Option<String>,
    /// The session, where one could be read.
    pub session: Option<SessionName>,
    /// What executed the command.
    pub engine: EngineName,
    /// Whether it was done.
    pub status: ReplyStatus,
    /// What it came to; only with `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub result: Option<Box<RawValue>>,
    /// Why it was not done; only with `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
    /// This answer was given before: the command came again and had no second effect.
    pub replayed: bool,
    /// When the answer was found; a replayed one keeps its time.
    pub timestamp: Timestamp,
}

/// Whether a command was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReplyStatus {
    /// Done; `result` says what it came to.
    Ok,
    /// Not done; `error` says why.
    Error,
}

impl ReplyStatus {
    /// The status as it stands on the wire and in the routing key.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}
