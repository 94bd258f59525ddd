//! Keeps the queues of webhook endpoints, and what is bound to them, as the store says.
//!
//! The broker does the fan-out itself: an event is published once, and one confirm covers every queue
//! that is bound to it. AMQP cannot list bindings, so the store notes which keys may be bound; they are
//! noted before they are bound and taken off after they are unbound, so whoever dies in between leaves
//! nothing unknown. When a filter changes, new keys are bound before old ones go: an event that fits
//! both is in the queue once, as the broker puts it there once however many keys fit.
//!
//! Called by whoever changes an endpoint: the `commands` role, the `webhooks` role, the command line; and
//! for all endpoints at the start of a process.

mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};

use crate::amqp::{self, Client, Doubt, Names, Target};
use crate::clock::Clock;
use crate::contract::{EventPattern, SessionPattern, Timestamp, WebhookState};
use crate::observability::events;
use crate::store::endpoints::{Endpoint, Endpoints};
use crate::store::installation::Installation;
use crate::store::{self, Store};

pub use whole::AllEndpoints;

/// For how long one process may change an endpoint's bindings before another one may.
const LEASE: Duration = Duration::from_secs(30);

/// So many endpoints are synced up to date at a time, where it is all of them.
const CONCURRENCY: usize = 8;

/// How long to wait for somebody who is at it, between two looks and in all.
const BUSY_POLL: Duration = Duration::from_millis(100);
const BUSY_TIMEOUT: Duration = Duration::from_mins(1);

/// The reason of an endpoint that is removed with whatever waits for it.
pub const DISCARD: &str = crate::store::endpoints::DISCARD;

/// Why the broker is not as the store says.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The broker cannot be used, or refuses.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
    /// Somebody else is changing the endpoint and does not come to an end.
    #[error("another process is changing the bindings of the webhook {0}; try again")]
    Busy(String),
}

/// An endpoint that could not be synced up to date.
#[derive(Debug, thiserror::Error)]
#[error("the webhook {name} cannot be put in place")]
pub struct SyncFailed {
    /// Its name.
    pub name: String,
    /// Why.
    pub source: Error,
}

/// Brings the broker up to date with the store; clones are cheap.
#[derive(Debug, Clone)]
pub struct Fanout {
    endpoints: Endpoints,
    installation: Installation,
    target: Target,
    names: Names,
    clock: Arc<dyn Clock>,
    doubt: Doubt,
    /// How many events waited for each endpoint when somebody looked last, and when that was.
    // A std mutex: held for a map operation and never across an await.
    depths: Arc<Mutex<BTreeMap<String, (u32, Instant)>>>,
}

impl Fanout {
    /// For the endpoints of a store, on a broker.
    #[must_use]
    pub fn new(store: &Store, target: Target, names: Names, clock: Arc<dyn Clock>) -> Self {
        Self {
            endpoints: store.endpoints(),
            installation: store.installation().clone(),
            target,
            names,
            clock,
            doubt: Doubt::default(),
            depths: Arc::default(),
        }
    }

    /// The same, telling when an exchange is missing that something is to be bound to.
    #[must_use]
    pub fn reporting_to(mut self, doubt: Doubt) -> Self {
        self.doubt = doubt;
        self
    }

    /// Notes how many events wait for an endpoint: all that is known of them should its queue be deleted.
    pub fn record_depth(&self, name: &str, count: u32) {
        let seen = (count, Instant::now());
        self.depths().insert(name.to_owned(), seen);
    }

    /// For how long nobody has noted how many events wait for an endpoint; none if nobody ever has.
    #[must_use]
    pub fn depth_age(&self, name: &str) -> Option<Duration> {
        self.depths().get(name).map(|(_, at)| at.elapsed())
    }

    fn depths(&self) -> MutexGuard<'_, BTreeMap<String, (u32, Instant)>> {
        self.depths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an endpoint's queue and its bindings what the store says, now. An endpoint that is removed
    /// with what waits for it is gone afterwards.
    ///
    /// # Errors
    /// When store or broker cannot be used; asking again is safe.
    pub async fn sync(&self, name: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        let done = self.sync_with(&client, name, &BTreeSet::new()).await;
        client.close().await;
        done
    }

    /// The same for every endpoint there is; returns those for which it failed.
    ///
    /// # Errors
    /// When store or broker cannot be used at all; asking again is safe.
    pub async fn sync_all(&self) -> Result<Vec<SyncFailed>, Error> {
        self.sync_each(false).await
    }

    /// The same, but leaves alone whatever is in place as far as can be seen: what the store says, and that
    /// there is a queue. That needs no rights on the broker, and takes nobody's turn.
    ///
    /// # Errors
    /// When store or broker cannot be used at all; asking again is safe.
    pub async fn sync_missing(&self) -> Result<Vec<SyncFailed>, Error> {
        self.sync_each(true).await
    }

    /// Whether an endpoint collects what it should, as far as can be seen. So does one that collects
    /// nothing.
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

    /// Does so for one endpoint, unless somebody else is at it.
    ///
    /// # Errors
    /// When store or broker cannot be used; asking again is safe.
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

    /// Whether nothing waits for an endpoint on the broker, and nobody consumes its queue.
    ///
    /// # Errors
    /// When the broker cannot be used.
    pub async fn is_drained(&self, name: &str) -> Result<bool, Error> {
        let client = self.connect().await?;
        let drained = client.is_webhook_queue_drained(&self.names, name).await;
        client.close().await;
        Ok(drained?)
    }

    /// Deletes the queue of an endpoint that is on its way out, and forgets the endpoint.
    ///
    /// # Errors
    /// When store or broker cannot be used; asking again is safe.
    pub async fn finish_removal(&self, name: &str) -> Result<(), Error> {
        let client = self.connect().await?;
        let done = self.remove(&client, name).await;
        client.close().await;
        done
    }

    /// Connects; only with the store that is the broker's, since another one's endpoints are not its.
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
                // That concerns all of them.
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

    /// `extra` are keys that may be bound although the store does not say so.
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
            // Whoever was waited for may have done it.
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

    /// Makes the bindings those of this revision; false when somebody else is at it, or there is a
    /// newer one.
    async fn bind(&self, client: &Client, endpoint: &Endpoint) -> Result<bool, Error> {
        let wanted = binding_keys(endpoint);
        let either: BTreeSet<_> = endpoint.bound.union(&wanted).cloned().collect();
        let now = self.clock.now();
        let until = now.checked_add(LEASE).unwrap_or(now);
        let claimed = self
            .endpoints
            .begin_binding(endpoint, &either, Timestamp(now), Timestamp(until))
            .await?;
        if !claimed {
            return Ok(false);
        }
        let (names, name) = (&self.names, endpoint.name.as_str());
        let change = async {
            let is_missing =
                !endpoint.bound.is_empty() && !client.has_webhook_queue(names, name).await?;
            client.make_webhook_queue(names, name).await?;
            if is_missing {
                let seen = self.depths().remove(name);
                let seen = seen.map(|(count, at)| (count, at.elapsed()));
                events::webhook_queue_remade(name, seen);
            }
            client.bind_webhook(names, name, &wanted).await?;
            let old = endpoint.bound.difference(&wanted);
            client.unbind_webhook(names, name, old).await
        };
        // Not beyond the lease: somebody else may bind by then what is unbound here.
        match tokio::time::timeout(LEASE / 2, change).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if matches!(&error, amqp::Error::Refused(refusal) if refusal.code == 404) {
                    self.doubt.raise();
                }
                // The next attempt, here or elsewhere, need not wait for the end of the lease.
                self.endpoints.give_up_binding(name).await.ok();
                return Err(error.into());
            }
            // Nobody knows what the broker still does about it: the rest of the lease is for that.
            Err(_) => return Err(amqp::Error::TimedOut(LEASE / 2, "binding a queue").into()),
        }
        Ok(self.endpoints.end_binding(name, &wanted).await?)
    }

    async fn remove(&self, client: &Client, name: &str) -> Result<(), Error> {
        // The queue first: a row without a queue is noticed, a queue without a row is not.
        client.delete_webhook_queue(&self.names, name).await?;
        self.endpoints.forget(name).await?;
        Ok(())
    }
}

fn is_discarded(endpoint: &Endpoint) -> bool {
    endpoint.state == WebhookState::Removing && endpoint.reason.as_deref() == Some(DISCARD)
}

/// Whether the bindings are what they should be, as far as the store knows.
#[must_use]
pub fn is_in_sync(endpoint: &Endpoint) -> bool {
    !endpoint.binding && endpoint.bound == binding_keys(endpoint)
}

/// The routing keys of the events that an endpoint collects: `<session>.<event>`, `*` for any session.
///
/// A topic exchange matches whole words, so a pattern within a session's name is bound as `*`, and
/// whoever delivers leaves out what does not fit.
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

/// Whether an endpoint wants events of a session; asked where the broker could not tell.
#[must_use]
pub fn wants_session(endpoint: &Endpoint, session: &str) -> bool {
    let sessions = &endpoint.settings.sessions;
    sessions.iter().any(|pattern| pattern.fits(session))
}
