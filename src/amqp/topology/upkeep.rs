//! Asserting the whole topology periodically while the process runs: what was deleted is declared again or
//! reported.
//!
//! AMQP cannot list bindings, and the loss of one cannot be observed; so all of them are declared again.

use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::{Client, Error, Target};
use crate::config::TopologyMode;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

use super::Topology;

/// The pause after a doubt: several connections are made at about the same time, and one assertion is
/// enough.
const GATHER: Duration = Duration::from_millis(500);

/// The wait before the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(5);

impl Topology {
    /// Asserts the whole topology periodically and at each doubt, until the process stops; `problem` shows
    /// what is missing meanwhile.
    pub async fn uphold(
        self,
        target: Target,
        lifecycle: Lifecycle,
        problem: watch::Sender<Option<String>>,
    ) {
        if self.mode == TopologyMode::Off {
            return;
        }
        let mut wait = self.every();
        loop {
            let doubted = async {
                self.standing.doubt.raised().await;
                tokio::time::sleep(GATHER).await;
            };
            // Every branch is cancel-safe.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = doubted => {}
                () = lifecycle.stopping() => return,
            }
            let asserted = tokio::select! {
                asserted = self.assert_alone(&target) => asserted,
                () = lifecycle.stopping() => return,
            };
            let soon = self.every().min(RETRY);
            wait = if asserted.is_ok() { self.every() } else { soon };
            match asserted {
                // The connections log that themselves.
                Err(Error::Lost(_) | Error::TimedOut(..)) => {}
                Err(error) => {
                    let text = match &error {
                        Error::NotBound(_) => error.to_string(),
                        _ => format!("the topology on the broker is incomplete: {error}"),
                    };
                    events::topology_incomplete(&text);
                    events::topology_lacks(error.missing());
                    problem.send_replace(Some(text));
                }
                Ok(unbound) => {
                    if !unbound.is_empty() {
                        events::topology_incomplete(&unbound.join("; "));
                    }
                    events::topology_lacks(unbound.len());
                    problem.send_replace(None);
                }
            }
        }
    }

    async fn assert_alone(&self, target: &Target) -> Result<Vec<String>, Error> {
        let client = Client::connect(target).await?;
        let asserted = client.ensure_every_binding(self).await;
        client.close().await;
        asserted
    }
}
