//! Sets up the endpoints' queues before the first command is executed: an event that is published while an
//! endpoint's queue is missing or unbound never reaches that endpoint.
//!
//! So a process that publishes events first stores its declared endpoints and syncs the broker with the store.
//! It waits for its own declared endpoints, however long that takes. The others are tried once; a failure
//! there blocks nothing.

use std::time::Duration;

use tokio::sync::watch;

use super::declared;
use crate::config::DeclaredWebhook;
use crate::fanout::{self, Fanout, SyncFailed};
use crate::lifecycle::Lifecycle;
use crate::observability::describe::with_causes;
use crate::observability::events;
use crate::store::Store;

/// The first wait after a failed attempt, and the longest.
const SHORTEST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Sets up the endpoints' queues.
#[derive(Debug)]
pub struct Preparation {
    /// Holds the endpoints.
    pub store: Store,
    /// Keeps queues and bindings in sync with the store.
    pub fanout: Fanout,
    /// `[[webhooks]]`
    pub declared: Vec<DeclaredWebhook>,
    /// Whether the process has the role `webhooks`: it also removes endpoints that are no longer declared, and
    /// syncs those whose queue and bindings seem to exist.
    pub delivers: bool,
    /// True once the exchanges exist.
    pub topology: watch::Receiver<bool>,
    /// When to stop.
    pub lifecycle: Lifecycle,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Fanout(#[from] fanout::Error),
    #[error(transparent)]
    SyncFailed(#[from] SyncFailed),
}

impl Preparation {
    /// Returns the task, and a watch on the problem that blocks it: none once the endpoints are set up. The watch
    /// loses its sender if the process stops first.
    pub fn begin(
        self,
    ) -> (
        watch::Receiver<Option<String>>,
        impl Future<Output = ()> + Send + 'static,
    ) {
        let (problem, watched) = watch::channel(Some(describe(None)));
        (watched, self.run(problem))
    }

    async fn run(mut self, problem: watch::Sender<Option<String>>) {
        let lifecycle = self.lifecycle.clone();
        // Cancelling an attempt leaves at most a lease, which expires.
        tokio::select! {
            () = self.until_prepared(&problem) => {}
            () = lifecycle.stopping() => {}
        }
    }

    async fn until_prepared(&mut self, problem: &watch::Sender<Option<String>>) {
        let mut rest = SHORTEST_REST;
        // Queues are bound to the exchanges. Ends if the task that declares those has ended.
        while self.topology.wait_for(|is_there| *is_there).await.is_ok() {
            let Err(error) = self.attempt().await else {
                problem.send_replace(None);
                return;
            };
            events::webhooks_not_prepared(&error);
            problem.send_replace(Some(describe(Some(&error))));
            tokio::time::sleep(rest).await;
            rest = LONGEST_REST.min(rest * 2);
        }
    }

    async fn attempt(&self) -> Result<(), Error> {
        let store = |error| Error::Fanout(fanout::Error::Store(error));
        let declared = declared::declare(&self.store, &self.declared)
            .await
            .map_err(store)?;
        let failed = if self.delivers {
            declared::retire(&self.store, &declared)
                .await
                .map_err(store)?;
            self.fanout.sync_all().await?
        } else {
            self.fanout.sync_missing().await?
        };
        let mut own = None;
        for error in failed {
            if declared.contains(&error.name) {
                own.get_or_insert(error);
            } else {
                events::webhook_not_in_place(&error.name, &error);
            }
        }
        own.map_or(Ok(()), |error| Err(error.into()))
    }
}

fn describe(error: Option<&Error>) -> String {
    let text = "the queues of the webhook endpoints are not set up yet; until then this process consumes no commands";
    match error {
        Some(error) => format!("{text}: {}", with_causes(error)),
        None => text.to_owned(),
    }
}
