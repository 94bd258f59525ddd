//! `TestWebhook`: an event of its own for one endpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::WebhookId;

/// Payload of `TestWebhook`: sends an event `webhook.test` to an endpoint, and to no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestWebhook {
    /// What the endpoint is called within the session.
    pub id: WebhookId,
}
