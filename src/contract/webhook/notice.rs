//! What happens to webhook endpoints, told on the exchange of events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::SessionName;

/// Something that happened to an endpoint, on the wire.
///
/// Its routing key begins with the session that the endpoint belongs to, or with `~`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookNotice {
    /// The same however often it is published.
    pub id: Uuid,
    /// When it happened, in milliseconds since 1970.
    pub timestamp: i64,
    /// What happened.
    pub event: NoticeName,
    /// The session that the endpoint belongs to; absent for an operator's endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionName>,
    /// The particulars.
    pub payload: WebhookNoticePayload,
}

/// The particulars of what happened to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookNoticePayload {
    /// The endpoint.
    pub webhook: String,
    /// Why, in words.
    pub reason: String,
}

/// The names of what happens to endpoints; also the end of the routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoticeName {
    /// It does not answer well; its deliveries wait until it does.
    #[serde(rename = "webhook.failing")]
    Failing,
    /// It gets no more events until somebody enables it again.
    #[serde(rename = "webhook.disabled")]
    Disabled,
    /// It answers well again.
    #[serde(rename = "webhook.recovered")]
    Recovered,
    /// Somebody tries the endpoint out; sent to that endpoint alone.
    #[serde(rename = "webhook.test")]
    Test,
}

impl NoticeName {
    /// The reason that a test event gives.
    pub const TEST_REASON: &str = "somebody tries this endpoint out";

    /// All names, in the order of the documentation.
    pub const ALL: &[Self] = &[Self::Failing, Self::Disabled, Self::Recovered, Self::Test];

    /// The name as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "webhook.failing",
            Self::Disabled => "webhook.disabled",
            Self::Recovered => "webhook.recovered",
            Self::Test => "webhook.test",
        }
    }

    /// Whether it goes to the exchange of events, for everybody who listens.
    #[must_use]
    pub const fn is_on_the_exchange(self) -> bool {
        match self {
            Self::Failing | Self::Disabled | Self::Recovered => true,
            Self::Test => false,
        }
    }

    /// What has happened, in a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Failing => "A webhook endpoint fails; its deliveries wait until it answers well.",
            Self::Disabled => "A webhook endpoint gets no more events until it is enabled again.",
            Self::Recovered => "A webhook endpoint answers well again.",
            Self::Test => "Somebody tries an endpoint out; sent to that endpoint alone.",
        }
    }
}
