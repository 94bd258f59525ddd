//! Having an endpoint go, and what becomes of what waits for it.

use super::Endpoints;
use crate::store::Error;
use crate::store::db::Value;

/// The reason of an endpoint that is removed with whatever waits for it.
pub const DISCARD: &str = "discard";

/// What becomes of the deliveries that wait for an endpoint that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They are sent before the endpoint goes.
    Deliver,
    /// They are dropped.
    Discard,
}

/// A payload's `discard`.
impl From<bool> for Waiting {
    fn from(discard: bool) -> Self {
        if discard {
            Self::Discard
        } else {
            Self::Deliver
        }
    }
}

impl Endpoints {
    /// Has an endpoint go; false when it is not there, or was going like this already.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub async fn remove(&self, name: &str, waiting: Waiting) -> Result<bool, Error> {
        let reason = match waiting {
            Waiting::Deliver => None,
            Waiting::Discard => Some(DISCARD.to_owned()),
        };
        self.change(
            "removing a webhook",
            // Who wants nothing more delivered may say so later, and cannot take it back.
            "UPDATE webhook_endpoints SET state = 'removing', reason = $2, revision = revision + 1 \
             WHERE name = $1 AND (state <> 'removing' OR (reason IS NULL AND $2 IS NOT NULL))",
            vec![Value::from(name), Value::MaybeText(reason)],
        )
        .await
    }
}
