//! `groupmq store adopt`: replaces the store id on the broker by that of this store.

use std::sync::Arc;

use clap::Args;

use crate::amqp::{self, Client, Names, Target};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::store::Store;

#[derive(Debug, Args)]
pub(in crate::cli) struct Adopt {
    /// Adopt even while workers run. Workers with the other store stop within a minute.
    #[arg(long)]
    force: bool,
}

impl Adopt {
    pub(super) async fn run(&self, config: Config) -> Result<Exit, Failure> {
        // The writer is needed only for commands from the queue.
        let (store, _writer) = Store::open(&config.store, Arc::new(SystemClock)).await?;
        let names = Names::new(&config.topology.prefix);
        let client = Client::connect(&Target::new(config.amqp)).await?;
        let adopted = self.adopt(&client, &names, store.installation().id()).await;
        client.close().await;
        let said = adopted?;
        output::line(&said)?;
        Ok(Exit::Ok)
    }

    async fn adopt(&self, client: &Client, names: &Names, id: &str) -> Result<String, Failure> {
        let other = match client.has_store(names, id).await {
            Ok(true) => {
                return Ok(
                    "this store is already the broker's store; nothing was changed".to_owned(),
                );
            }
            Ok(false) => "none".to_owned(),
            Err(amqp::Error::OtherStore { found, .. }) => found,
            Err(error) => return Err(error.into()),
        };
        let workers = workers(client, names).await?;
        if workers > 0 && !self.force {
            return Err(Failure::Usage(format!(
                "{workers} workers are running with another store ({other}): stop them first, or use \
                 --force, after which they stop by themselves within a minute"
            )));
        }
        client.adopt_store(names, id).await?;
        let own = id.get(..8).unwrap_or(id);
        Ok(format!(
            "the broker's store for {} is now this one ({own}); before: {other}\n\
             It has no record of earlier commands. An earlier command that is redelivered or sent again has \
             its effect a second time: producers should send again only commands that they know not to have \
             been executed. Check the groups whose commands were in flight when the other store was lost.\n\
             Webhook endpoints that were only in the other store must be set again; `groupmq doctor` shows \
             how to find their queues.",
            names.prefix()
        ))
    }
}

/// The number of workers that consume.
async fn workers(client: &Client, names: &Names) -> Result<u32, amqp::Error> {
    if !client.is_there(&names.presence()).await? {
        return Ok(0);
    }
    Ok(client.queue(&names.presence()).await?.1)
}
