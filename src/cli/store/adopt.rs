//! `groupmq store adopt`: puts this store's id on the broker in the place of another one's.

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
    /// Even while workers run. Those with the other store stop within a minute.
    #[arg(long)]
    force: bool,
}

impl Adopt {
    pub(super) async fn run(&self, config: Config) -> Result<Exit, Failure> {
        // Its writer is for commands from the queue, of which there are none here.
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
                return Ok("this store is the broker's already; nothing was changed".to_owned());
            }
            Ok(false) => "none".to_owned(),
            Err(amqp::Error::OtherStore { found, .. }) => found,
            Err(error) => return Err(error.into()),
        };
        let workers = workers(client, names).await?;
        if workers > 0 && !self.force {
            return Err(Failure::Usage(format!(
                "{workers} workers are at work with another store ({other}): stop them first, or say \
                 --force, and they stop by themselves within a minute"
            )));
        }
        client.adopt_store(names, id).await?;
        let own = id.get(..8).unwrap_or(id);
        Ok(format!(
            "the commands of {} are done with this store ({own}) from now on; before: {other}\n\
             It has no record of what was done before. A command from then that is delivered or sent again \
             has its effect a second time: have producers send again only what they know to be undone, and \
             look at groups whose commands were under way when the other store was lost.\n\
             Webhook endpoints that only the other store knew have to be set again; `groupmq doctor` says \
             how to find their queues.",
            names.prefix()
        ))
    }
}

/// How many workers consume.
async fn workers(client: &Client, names: &Names) -> Result<u32, amqp::Error> {
    if !client.is_there(&names.presence()).await? {
        return Ok(0);
    }
    Ok(client.queue(&names.presence()).await?.1)
}
