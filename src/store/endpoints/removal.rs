//! The removal of an endpoint and of its queued deliveries.

use super::Endpoints;
use crate::store::Error;
use crate::store::db::Value;

/// The reason of an endpoint that is removed with its queued deliveries.
pub const DISCARD: &str = "discard";

/// What happens to the queued deliveries of an endpoint that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueuedDeliveries {
    /// They are sent before the endpoint is deleted.
    Deliver,
    /// They are dropped.
    Discard,
}

/// A payload's `discard`.
impl From<bool> for QueuedDeliveries {
    fn from(discard: bool) -> Self {
        if discard {
            Self::Discard
        } else {
            Self::Deliver
        }
    }
}

impl Endpoints {
    /// Starts the removal of an endpoint; false if it does not exist, or is being removed like this already.
    ///
    /// # Errors
    /// When the store cannot be used; a retry is safe.
    pub async fn remove(&self, name: &str, waiting: QueuedDeliveries) -> Result<bool, Error> {
        let reason = match waiting {
            QueuedDeliveries::Deliver => None,
            QueuedDeliveries::Discard => Some(DISCARD.to_owned()),
        };
        self.pool.change(
            "removing a webhook",
            // `discard` may be added later, and cannot be revoked.
            "UPDATE webhook_endpoints SET state = 'removing', reason = $2, revision = revision + 1 \
             WHERE name = $1 AND (state <> 'removing' OR (reason IS NULL AND $2 IS NOT NULL))",
            vec![Value::from(name), Value::MaybeText(reason)],
        )
        .await
    }
}
