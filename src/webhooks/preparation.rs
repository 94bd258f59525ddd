//! What comes before the first command: an event that is published while an endpoint's queue is not there
//! and bound is missed by that endpoint, for good.
//!
//! So a process that publishes events first puts its declared endpoints into the store, and the broker in
//! step with the store. What it declares itself it waits for, however long that takes. An endpoint that
//! somebody else has set, and that cannot be put in place, is tried once and holds nobody up.

use std::time::Duration;

use tokio::sync::watch;

use super::declared;
use crate::config::DeclaredWebhook;
use crate::fanout::{self, Fanout, SyncFailed};
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::Store;

/// The first wait after an attempt that failed, and the longest.
const SHORTEST_REST: Duration = Duration::from_millis(200);
const LONGEST_REST: Duration = Duration::from_secs(5);

/// What the preparation works with.
#[derive(Debug)]
pub struct Preparation {
    /// Where the endpoints are kept.
    pub store: Store,
    /// Keeps queues and bindings as the store says.
    pub fanout: Fanout,
    /// `[[webhooks]]`
    pub declared: Vec<DeclaredWebhook>,
    /// Whether the process has the role `webhooks`: it has endpoints go that are not declared any more, and
    /// binds anew whatever seems to be in place.
    pub delivers: bool,
    /// True once the exchanges are there.
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
    /// Why the endpoints are not in place, as a value to watch that is none once they are, and the task that
    /// puts them there. The value has no sender any more when the process stops first.
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
        // Cut off, an attempt leaves at most a lease that ends by itself.
        tokio::select! {
            () = self.until_prepared(&problem) => {}
            () = lifecycle.stopping() => {}
        }
    }

    async fn until_prepared(&mut self, problem: &watch::Sender<Option<String>>) {
        let mut rest = SHORTEST_REST;
        // Without the exchanges, or when nobody sees to them any more, there is nothing to try.
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
    let mut text =
        "the webhook endpoints are not in place yet, and no command is taken here before"
            .to_owned();
    let mut cause = error.map(|error| error as &dyn std::error::Error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
