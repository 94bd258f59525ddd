//! The envelope of a command, as it stands in the body.
//!
//! Unknown fields are ignored here (they may be a newer producer's); a payload refuses them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CommandId, CommandType, SessionName, Timestamp};

/// A command on the wire.
///
/// `id`, `type` and `session` may come from the AMQP properties instead (`message_id`, `type`,
/// the routing key); where both are given they must agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What the producer calls this command; it has one effect, however often it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// Which command it is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub command_type: Option<CommandType>,
    /// The WhatsApp account that is to do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionName>,
    /// What the command needs to know, as `commands/<type>.json` describes it; may be absent where
    /// it needs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Do not begin after this time. Checked before every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}
