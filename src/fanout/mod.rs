//! Keeps the queues of webhook endpoints and their bindings in sync with the store.
//!
//! The broker does the fan-out: an event is published once, and one confirm covers all queues bound to its
//! routing key. AMQP cannot list bindings, so the store records which keys may be bound: a key is recorded
//! before it is bound and deleted after it is unbound, so a crash in between leaves no unknown binding. When a
//! filter changes, new keys are bound before old ones are unbound; the broker puts an event that matches both
//! into the queue once.
//!
//! Called after a change of an endpoint (by the roles `commands` and `webhooks` and the command line), and for
//! all endpoints at the start of a process.

mod all_endpoints;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;

use crate::amqp::{self, Client, Doubt, Names, Target};
use crate::clock::Clock;
use crate::contract::{EventPattern, SessionPattern, WebhookState};
use crate::observability::events;
use crate::store::endpoints::{Endpoint, Endpoints};
use crate::store::installation::Installation;
use crate::store::leases::Leases;
use crate::store::{self, Store};

pub use all_endpoints::AllEndpoints;

/// The lease of one process on changing an endpoint's bindings.
const LEASE: Duration = Duration::from_secs(30);

/// The number of endpoints that are synced at the same time.
const CONCURRENCY: usize = 8;

/// How often to check whether another process has released the lease, and how long to wait for that.
const BUSY_POLL: Duration = Duration::from_millis(100);
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);

/// The reason of an endpoint that is removed together with the events in its queue.
pub const DISCARD: &str = crate::store::endpoints::DISCARD;

/// Why the broker could not be synced with the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker cannot be used or refuses.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
    /// Another process holds the lease on the endpoint's bindings for too long.
    #[error("another process is changing the bindings of the webhook {0}; try again")]
    Busy(String),
}

/// An endpoint that could not be synced.
#[derive(Debug, thiserror::Error)]
#[error("cannot sync the queue and bindings of the webhook {name}")]
pub struct SyncFailed {
    /// The endpoint's name.
    pub name: String,
    /// Why.
    pub source: Error,
}

/// Syncs the broker with the store; clones are cheap.
#[derive(Debug, Clone)]
pub struct Fanout {
    endpoints: Endpoints,
    leases: Leases,
    installation: Installation,
    target: Target,
    names: Names,
    clock: Arc<dyn Clock>,
    doubt: Doubt,
    /// By endpoint: the length of its queue at the last check, and the time of that check.
    // A std mutex: held for a map operation and never across an await.
    depths: Arc<Mutex<BTreeMap<String, (u32, Instant)>>>,
}

impl Fanout {
    /// Creates it for the endpoints of a store.
    #[must_use]
    pub fn new(store: &Store, target: Target, names: Names, clock: Arc<dyn Clock>) -> Self {
        Self {
            endpoints: store.endpoints(),
            leases: store.leases(),
            installation: store.installation().clone(),
            target,
            names,
            clock,
            doubt: Doubt::default(),
            depths: Arc::default(),
        }
    }

    /// Adds a signal that is raised when an exchange to bind to is missing.
    #[must_use]
    pub fn reporting_to(mut self, doubt: Doubt) -> Self {
        self.doubt = doubt;
        self
    }

    /// Records the length of an endpoint's queue, to be reported if the queue is deleted.
    pub fn record_depth(&self, name: &str, count: u32) {
        let seen = (count, Instant::now());
        self.depths.lock().insert(name.to_owned(), seen);
    }

    /// The time since the length of an endpoint's queue was last recorded; none if it never was.
    #[must_use]
    pub fn depth_age(&self, name: &str) -> Option<Duration> {
        self.depths.lock().get(name).map(|(_, at)| at.elapsed())
    }

    /// Syncs an endpoint's queue and bindings with the store. If the endpoint is being removed with discard, it no
    /// longer exists afterwards.
    ///
    /// # Errors
    /// When store or broker cannot be used; a retry is safe.
    pub async fn sync(&self, name: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        let done = self.sync_with(&client, name, &BTreeSet::new()).await;
        client.close().await;
        done
    }

    /// Syncs all endpoints; returns those for which it failed.
    ///
    /// # Errors
    /// When store or broker cannot be used at all; a retry is safe.
    pub async fn sync_all(&self) -> Result<Vec<SyncFailed>, Error> {
        self.sync_each(false).await
    }

    /// Syncs only the endpoints that [`Self::is_in_place`] finds wanting; returns those for which it failed. That
    /// needs no permissions on the broker while everything is in place, and takes no lease.
    ///
    /// # Errors
    /// When store or broker cannot be used at all; a retry is safe.
    pub async fn sync_missing(&self) -> Result<Vec<SyncFailed>, Error> {
        self.sync_each(true).await
    }

    /// Whether an endpoint's bindings are in sync by the store's record and its queue exists. True for an endpoint
    /// that collects no events.
    ///
    /// # Errors
    /// When store or broker cannot be used.
    pub async fn is_in_place(&self, client: &Client, name: &str) -> Result<bool, Error> {
        let Some(endpoint) = self.endpoints.get(name).await? else {
            return Ok(false);
        };
        if binding_keys(&endpoint).is_empty() {
            return Ok(true);
        }
        Ok(is_in_sync(&endpoint) && client.has_webhook_queue(&self.names, name).await?)
    }

    /// Syncs one endpoint, unless another process holds the lease on it.
    ///
    /// # Errors
    /// When store or broker cannot be used; a retry is safe.
    pub async fn repair(&self, name: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        let repairing = async {
            if let Some(endpoint) = self.endpoints.get(name).await? {
                self.bind(&client, &endpoint).await?;
            }
            Ok(())
        };
        let done = repairing.await;
        client.close().await;
        done
    }

    /// Whether an endpoint's queue is empty and has no consumer.
    ///
    /// # Errors
    /// When the broker cannot be used.
    pub async fn is_drained(&self, name: &str) -> Result<bool, Error> {
        let client = self.connect().await?;
        let drained = client.is_webhook_queue_drained(&self.names, name).await;
        client.close().await;
        Ok(drained?)
    }

    /// Completes a removal: deletes the endpoint's queue and its row.
    ///
    /// # Errors
    /// When store or broker cannot be used; a retry is safe.
    pub async fn finish_removal(&self, name: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        let done = self.remove(&client, name).await;
        client.close().await;
        done
    }

    /// Connects, and fails if the broker belongs to another store, whose endpoints are not ours.
    async fn connect(&self) -> Result<Client, Error> {
        let client = Client::connect(&self.target).await?;
        client.claim(&self.names, self.installation.id()).await?;
        Ok(client)
    }

    async fn sync_each(&self, only_missing: bool) -> Result<Vec<SyncFailed>, Error> {
        let client = self.connect().await?;
        let (this, shared_client) = (self, &client);
        let one = |name: String| async move {
            let synced = async {
                if only_missing && this.is_in_place(shared_client, &name).await? {
                    return Ok(());
                }
                this.sync_with(shared_client, &name, &BTreeSet::new()).await
            };
            match synced.await {
                Ok(()) => Ok(None),
                // Such an error concerns all endpoints.
                Err(error @ (Error::Store(_) | Error::Broker(amqp::Error::Lost(_)))) => Err(error),
                Err(source) => Ok(Some(SyncFailed { name, source })),
            }
        };
        let syncing = async {
            let all = this.endpoints.all().await?;
            let mut each = stream::iter(all.into_iter().map(|endpoint| one(endpoint.name)))
                .buffer_unordered(CONCURRENCY);
            let mut failed = Vec::new();
            while let Some(synced) = each.next().await {
                failed.extend(synced?);
            }
            Ok(failed)
        };
        let done = syncing.await;
        client.close().await;
        done
    }

    /// Syncs one endpoint, and waits for another process that is doing so. `extra` are keys that may be bound
    /// although the store has no record of them.
    async fn sync_with(
        &self,
        client: &Client,
        name: &str,
        extra: &BTreeSet<String>,
    ) -> Result<(), Error> {
        let begun = self.clock.now();
        let mut has_waited = false;
        loop {
            let Some(mut endpoint) = self.endpoints.get(name).await? else {
                return Ok(());
            };
            endpoint.bound.extend(extra.iter().cloned());
            // The other process may have synced it.
            let is_done = has_waited && is_in_sync(&endpoint) && !is_discarded(&endpoint);
            if is_done || self.bind(client, &endpoint).await? {
                if is_discarded(&endpoint) {
                    self.remove(client, name).await?;
                }
                return Ok(());
            }
            has_waited = true;
            let waited = self.clock.now().duration_since(begun);
            if Duration::try_from(waited).is_ok_and(|waited| waited > BUSY_TIMEOUT) {
                return Err(Error::Busy(name.to_owned()));
            }
            tokio::time::sleep(BUSY_POLL).await;
        }
    }

    /// Binds and unbinds for this revision of the endpoint; false if another process holds the lease or there is
    /// a newer revision.
    async fn bind(&self, client: &Client, endpoint: &Endpoint) -> Result<bool, Error> {
        let wanted = binding_keys(endpoint);
        let either: BTreeSet<_> = endpoint.bound.union(&wanted).cloned().collect();
        let claimed = self
            .leases
            .acquire_bindings(endpoint, &either, LEASE)
            .await?;
        if !claimed {
            return Ok(false);
        }
        let (names, name) = (&self.names, endpoint.name.as_str());
        let is_removed = endpoint.state == WebhookState::Removing;
        let change = async {
            let is_known = is_removed || !endpoint.bound.is_empty();
            let is_missing = is_known && !client.has_webhook_queue(names, name).await?;
            if is_removed && is_missing {
                // Declared again, it would outlive the endpoint, which another process may be about to forget.
                return Ok(());
            }
            if !is_removed {
                client.make_webhook_queue(names, name).await?;
            }
            if is_missing {
                let seen = self.depths.lock().remove(name);
                let seen = seen.map(|(count, at)| (count, at.elapsed()));
                events::webhook_queue_recreated(name, seen);
            }
            client.bind_webhook(names, name, &wanted).await?;
            let old = endpoint.bound.difference(&wanted);
            client.unbind_webhook(names, name, old).await
        };
        // Must end before the lease: after it another process may bind what is unbound here.
        match tokio::time::timeout(LEASE / 2, change).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if matches!(&error, amqp::Error::Refused(refusal) if refusal.code == 404) {
                    self.doubt.raise();
                }
                // Releases the lease, so that the next attempt need not wait for its expiry.
                self.leases.abandon_bindings(name).await.ok();
                return Err(error.into());
            }
            // The broker may still be executing it: the lease stays until it expires.
            Err(_) => return Err(amqp::Error::TimedOut(LEASE / 2, "binding a queue").into()),
        }
        Ok(self.leases.release_bindings(name, &wanted).await?)
    }

    async fn remove(&self, client: &Client, name: &str) -> Result<(), Error> {
        // The queue first: a row without a queue is detected, a queue without a row is not.
        client.delete_webhook_queue(&self.names, name).await?;
        self.endpoints.forget(name).await?;
        Ok(())
    }
}

fn is_discarded(endpoint: &Endpoint) -> bool {
    endpoint.state == WebhookState::Removing && endpoint.reason.as_deref() == Some(DISCARD)
}

/// Whether the bindings are in sync, by the store's record.
#[must_use]
pub fn is_in_sync(endpoint: &Endpoint) -> bool {
    !endpoint.binding && endpoint.bound == binding_keys(endpoint)
}

/// The routing keys of the events that an endpoint collects: `<session>.<event>`, `*` for any session.
///
/// A topic exchange matches whole words, so a pattern within a session's name is bound as `*`, and the
/// delivery drops events that do not match it.
#[must_use]
pub fn binding_keys(endpoint: &Endpoint) -> BTreeSet<String> {
    if matches!(
        endpoint.state,
        WebhookState::Disabled | WebhookState::Removing
    ) {
        return BTreeSet::new();
    }
    let settings = &endpoint.settings;
    let every = settings.sessions.iter().any(|session| !session.is_name());
    let sessions: BTreeSet<_> = if every {
        BTreeSet::from(["*"])
    } else {
        settings
            .sessions
            .iter()
            .map(SessionPattern::as_str)
            .collect()
    };
    let names: BTreeSet<_> = settings
        .events
        .iter()
        .flat_map(EventPattern::names)
        .collect();
    let key = |session: &&str| {
        let session = (*session).to_owned();
        names.iter().map(move |name| format!("{session}.{name}"))
    };
    sessions.iter().flat_map(key).collect()
}

/// Whether an endpoint wants events of a session: the filter that bindings cannot express.
#[must_use]
pub fn wants_session(endpoint: &Endpoint, session: &str) -> bool {
    let sessions = &endpoint.settings.sessions;
    sessions.iter().any(|pattern| pattern.fits(session))
}
