//! Asserting the whole again and again while everything runs: what somebody deletes is put back, or named.
//!
//! AMQP cannot list bindings, and one that is gone is seen by nobody; so all of them are made anew.

use std::time::Duration;

use tokio::sync::watch;

use crate::amqp::{Client, Error, Target};
use crate::config::TopologyMode;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

use super::Topology;

/// After a doubt: several links connect at about the same time, and an assertion is enough for all.
const GATHER: Duration = Duration::from_millis(500);

/// After a failure it is tried again so soon.
const RETRY: Duration = Duration::from_secs(5);

impl Topology {
    /// Asserts the whole at each doubt and once in a while, until the process stops; `problem` says what is
    /// missing meanwhile.
    pub async fn uphold(
        self,
        target: Target,
        lifecycle: Lifecycle,
        problem: watch::Sender<Option<String>>,
    ) {
        if self.mode == TopologyMode::Off {
            return;
        }
        let mut rest = self.every();
        loop {
            let doubted = async {
                self.standing.doubt.raised().await;
                tokio::time::sleep(GATHER).await;
            };
            // Each of them only waits.
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = doubted => {}
                () = lifecycle.stopping() => return,
            }
            let asserted = tokio::select! {
                asserted = self.assert_alone(&target) => asserted,
                () = lifecycle.stopping() => return,
            };
            let soon = self.every().min(RETRY);
            rest = if asserted.is_ok() { self.every() } else { soon };
            match asserted {
                // The links tell of that.
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
