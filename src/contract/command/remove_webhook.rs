//! `RemoveWebhook`: an endpoint of the session is to go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::WebhookId;

/// Payload of `RemoveWebhook`: sends no more events to an endpoint, once those that wait are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoveWebhook {
    /// What the endpoint is called within the session.
    pub id: WebhookId,
    /// Drop the events that wait, too.
    #[serde(default)]
    pub discard: bool,
}
