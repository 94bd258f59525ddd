//! What a command is about, and in which line it has to wait.

use std::fmt;

use crate::contract::{GroupId, JoinCode, SessionName, WebhookId, endpoint_name};

/// The one thing that a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'a> {
    /// No single thing, or one that is not there yet.
    Nothing,
    /// A group.
    Group(&'a GroupId),
    /// The group that an invite code leads to; only the engine knows which.
    Invite(&'a JoinCode),
    /// A webhook endpoint of the session.
    Webhook(&'a WebhookId),
    /// The webhook endpoints of the session.
    Webhooks,
}

/// A line in which commands are carried out one by one, in the order they came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneName(String);

impl About<'_> {
    /// The lane of the commands of a session about this, if they have to keep an order.
    #[must_use]
    pub fn lane(self, session: &SessionName) -> Option<LaneName> {
        match self {
            Self::Nothing | Self::Webhooks => None,
            Self::Group(id) => Some(LaneName(id.as_str().to_owned())),
            // No group's id has a colon. Commands that name the group itself are in another lane.
            Self::Invite(code) => Some(LaneName(format!("invite:{code}"))),
            Self::Webhook(id) => {
                let name = endpoint_name(Some(session), id);
                Some(LaneName(format!("webhook:{name}")))
            }
        }
    }

    /// Whether it is groupmq's own business and none of an engine's.
    #[must_use]
    pub const fn is_webhooks(self) -> bool {
        matches!(self, Self::Webhook(_) | Self::Webhooks)
    }
}

impl LaneName {
    /// The lane's name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name that was written down before.
impl From<String> for LaneName {
    fn from(name: String) -> Self {
        Self(name)
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
