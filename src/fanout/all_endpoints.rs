//! The endpoints as a part of the topology: their queues and bindings are declared again at intervals.
//!
//! That takes no lease and writes nothing to the store, since there may be hundreds of endpoints. An endpoint
//! may therefore be changed at the same time, so its bindings are checked again afterwards.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};

use crate::amqp::{self, Client, DELETION_NOTICED_WITHIN, Dependents};
use crate::contract::WebhookState;
use crate::observability::describe::with_causes;
use crate::store::endpoints::Endpoint;

use super::{CONCURRENCY, Error, Fanout, SyncFailed, binding_keys, is_in_sync};

/// The queues and bindings of all endpoints.
#[derive(Debug)]
pub struct AllEndpoints {
    fanout: Fanout,
    /// Whether endpoints that seem to be in place are bound again, which needs permissions on the broker.
    rebind: bool,
}

impl AllEndpoints {
    /// Creates it; `rebind` if this process has the permissions to bind.
    #[must_use]
    pub const fn new(fanout: Fanout, rebind: bool) -> Self {
        Self { fanout, rebind }
    }
}

impl Dependents for AllEndpoints {
    fn known(&self) -> BoxFuture<'_, Result<(), String>> {
        let all = self.fanout.endpoints.all();
        Box::pin(async move { all.await.map(drop).map_err(|error| with_causes(&error)) })
    }

    fn bind(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async move {
            let bound = if self.rebind {
                self.fanout.rebind_all().await
            } else {
                self.fanout.sync_missing().await
            };
            let failed = bound.map_err(|error| with_causes(&error))?;
            Ok(failed.iter().map(|error| with_causes(error)).collect())
        })
    }
}

impl Fanout {
    /// Declares the queue and the bindings of every endpoint, even if they seem to exist; returns the endpoints
    /// for which it failed.
    async fn rebind_all(&self) -> Result<Vec<SyncFailed>, Error> {
        let client = self.connect().await?;
        let bound = self.rebind_each(&client).await;
        client.close().await;
        bound
    }

    async fn rebind_each(&self, client: &Client) -> Result<Vec<SyncFailed>, Error> {
        let all = self.endpoints.all().await?;
        let mut failed = Vec::new();
        let one = |endpoint: Endpoint| async move {
            let bound = self.rebind(client, &endpoint).await;
            (endpoint.name, bound)
        };
        let mut binding =
            stream::iter(all.clone().into_iter().map(one)).buffer_unordered(CONCURRENCY);
        while let Some((name, bound)) = binding.next().await {
            collect_failure(&mut failed, &name, bound)?;
        }
        let now: BTreeMap<_, _> = self
            .endpoints
            .all()
            .await?
            .into_iter()
            .map(by_name)
            .collect();
        for endpoint in all.iter().filter(|it| is_rebound(it)) {
            let checked = self.check(client, endpoint, now.get(&endpoint.name)).await;
            collect_failure(&mut failed, &endpoint.name, checked)?;
        }
        Ok(failed)
    }

    async fn rebind(&self, client: &Client, endpoint: &Endpoint) -> Result<(), Error> {
        let name = &endpoint.name;
        if is_rebound(endpoint) {
            if !client.has_webhook_queue(&self.names, name).await? {
                tokio::time::sleep(DELETION_NOTICED_WITHIN).await;
            }
            client.make_webhook_queue(&self.names, name).await?;
            let wanted = binding_keys(endpoint);
            client.bind_webhook(&self.names, name, &wanted).await?;
        } else if !is_in_sync(endpoint) {
            // This takes the lease, which another process may hold.
            self.bind(client, endpoint).await?;
        }
        Ok(())
    }

    /// Undoes bindings of an endpoint that was changed or removed in the meantime.
    async fn check(
        &self,
        client: &Client,
        before: &Endpoint,
        now: Option<&Endpoint>,
    ) -> Result<(), Error> {
        let name = &before.name;
        let bound = binding_keys(before);
        match now {
            Some(now) if is_rebound(now) && binding_keys(now) == bound => Ok(()),
            Some(_) => self.sync_with(client, name, &bound).await,
            None => Ok(client.delete_webhook_queue(&self.names, name).await?),
        }
    }
}

/// The queue of an endpoint that is being removed is deleted once it is empty, and must not be recreated.
fn is_rebound(endpoint: &Endpoint) -> bool {
    is_in_sync(endpoint) && endpoint.state != WebhookState::Removing
}

fn by_name(endpoint: Endpoint) -> (String, Endpoint) {
    (endpoint.name.clone(), endpoint)
}

/// Collects the failure of one endpoint; an error that concerns all endpoints is returned.
fn collect_failure(
    failed: &mut Vec<SyncFailed>,
    name: &str,
    outcome: Result<(), Error>,
) -> Result<(), Error> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error @ (Error::Store(_) | Error::Broker(amqp::Error::Lost(_)))) => Err(error),
        Err(source) => {
            let name = name.to_owned();
            failed.push(SyncFailed { name, source });
            Ok(())
        }
    }
}
