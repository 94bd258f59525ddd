//! `ListWebhooks`: the endpoints of the session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Payload of `ListWebhooks`: the webhook endpoints of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
// Said in so many words, so that a field that is none can be named.
#[schemars(extend("properties" = {}))]
pub struct ListWebhooks {}
