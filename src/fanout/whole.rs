//! All endpoints as a part of the topology: their queues and bindings are made anew, over and over.
//!
//! That takes nobody's turn and writes nothing to the store, since there may be hundreds of endpoints. So an
//! endpoint may be changed meanwhile; what was bound for it then is looked at again afterwards.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};

use crate::amqp::{self, Client, Dependents, TOLD_WITHIN};
use crate::contract::WebhookState;
use crate::store::endpoints::Endpoint;

use super::{AT_ONCE, Error, Fanout, NotInPlace, is_up_to_date, keys};

/// The queues of all endpoints, and what is bound to them.
#[derive(Debug)]
pub struct AllEndpoints {
    fanout: Fanout,
    /// Whether what seems to be in place is bound all the same, which needs rights on the broker.
    anew: bool,
}

impl AllEndpoints {
    /// Those of a store; `anew` where this process has the rights to bind them.
    #[must_use]
    pub const fn new(fanout: Fanout, anew: bool) -> Self {
        Self { fanout, anew }
    }
}

impl Dependents for AllEndpoints {
    fn known(&self) -> BoxFuture<'_, Result<(), String>> {
        let all = self.fanout.endpoints.all();
        Box::pin(async move { all.await.map(drop).map_err(|error| in_full(&error)) })
    }

    fn bind(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(async move {
            let bound = if self.anew {
                self.fanout.bind_all_anew().await
            } else {
                self.fanout.bring_missing_up_to_date().await
            };
            let failed = bound.map_err(|error| in_full(&error))?;
            Ok(failed.iter().map(|error| in_full(error)).collect())
        })
    }
}

impl Fanout {
    /// Makes the queue and the bindings of every endpoint, whether they seem to be there or not; returns
    /// those for which it failed.
    async fn bind_all_anew(&self) -> Result<Vec<NotInPlace>, Error> {
        let client = self.connect().await?;
        let bound = self.bind_each_anew(&client).await;
        client.close().await;
        bound
    }

    async fn bind_each_anew(&self, client: &Client) -> Result<Vec<NotInPlace>, Error> {
        let all = self.endpoints.all().await?;
        let mut failed = Vec::new();
        let one = |endpoint: Endpoint| async move {
            let bound = self.bind_anew(client, &endpoint).await;
            (endpoint.name, bound)
        };
        let mut binding = stream::iter(all.clone().into_iter().map(one)).buffer_unordered(AT_ONCE);
        while let Some((name, bound)) = binding.next().await {
            note(&mut failed, &name, bound)?;
        }
        let now: BTreeMap<_, _> = self.endpoints.all().await?.into_iter().map(named).collect();
        for endpoint in all.iter().filter(|it| is_bound_anew(it)) {
            let checked = self.check(client, endpoint, now.get(&endpoint.name)).await;
            note(&mut failed, &endpoint.name, checked)?;
        }
        Ok(failed)
    }

    async fn bind_anew(&self, client: &Client, endpoint: &Endpoint) -> Result<(), Error> {
        let name = &endpoint.name;
        if is_bound_anew(endpoint) {
            if !client.has_webhook_queue(&self.names, name).await? {
                tokio::time::sleep(TOLD_WITHIN).await;
            }
            client.make_webhook_queue(&self.names, name).await?;
            let wanted = keys(endpoint);
            client.bind_webhook(&self.names, name, &wanted).await?;
        } else if !is_up_to_date(endpoint) {
            // Somebody else may be at it.
            self.bind(client, endpoint).await?;
        }
        Ok(())
    }

    /// Takes back what was bound for an endpoint that is another one by now, or gone.
    async fn check(
        &self,
        client: &Client,
        before: &Endpoint,
        now: Option<&Endpoint>,
    ) -> Result<(), Error> {
        let name = &before.name;
        let bound = keys(before);
        match now {
            Some(now) if is_bound_anew(now) && keys(now) == bound => Ok(()),
            Some(_) => self.bring(client, name, &bound).await,
            None => Ok(client.delete_webhook_queue(&self.names, name).await?),
        }
    }
}

/// The queue of one on its way out goes once it is empty, and is not to be made again.
fn is_bound_anew(endpoint: &Endpoint) -> bool {
    is_up_to_date(endpoint) && endpoint.state != WebhookState::Removing
}

fn named(endpoint: Endpoint) -> (String, Endpoint) {
    (endpoint.name.clone(), endpoint)
}

/// Keeps the failure of one endpoint; what concerns all of them is an error.
fn note(failed: &mut Vec<NotInPlace>, name: &str, outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Ok(()) => Ok(()),
        Err(error @ (Error::Store(_) | Error::Broker(amqp::Error::Lost(_)))) => Err(error),
        Err(source) => {
            let name = name.to_owned();
            failed.push(NotInPlace { name, source });
            Ok(())
        }
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
