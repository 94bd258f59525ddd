//! `groupmq webhooks`: management of webhook endpoints.
//!
//! Works on the store and the broker of the configuration; no worker needs to run. Changes take effect once a
//! process with the role `webhooks` has read them from the store.

mod deliveries;
mod lookup;
pub(super) mod queues;
mod replay;
mod rotate;
mod set;
mod state;
mod test_event;

use std::sync::Arc;

use clap::{Args, Subcommand};

use crate::amqp::{Client, Names, Target};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::contract::Timestamp;
use crate::fanout::Fanout;
use crate::store::Store;
use crate::store::endpoints::{Endpoint, Endpoints};

use super::exit::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Webhooks {
    /// List endpoints, and those without a queue on the broker.
    List {
        /// The names of the broker's queues, from `rabbitmqctl -q list_queues name`: lists queues of endpoints that
        /// are not in the store too.
        #[arg(long, value_name = "NAMES", conflicts_with = "json")]
        queues: Option<String>,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show an endpoint's settings and the length of its queue.
    Show {
        /// Its name.
        name: String,
        /// Show secrets and header values too.
        #[arg(long)]
        secrets: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Create or change an endpoint that belongs to no session.
    Set(set::Set),
    /// Remove an endpoint after the events in its queue have been delivered.
    Remove {
        /// Its name.
        name: String,
        /// Remove it now, and discard the events in its queue.
        #[arg(long)]
        discard: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show delivery attempts, the latest first.
    Deliveries(deliveries::Deliveries),
    /// Send an event `webhook.test` to this endpoint only.
    Test(Named),
    /// Pause an endpoint: collect its events without sending them.
    Pause(Named),
    /// Resume an endpoint that is paused or disabled.
    Resume(Named),
    /// Generate a new secret for an endpoint; the earlier ones sign too for some time.
    Rotate(rotate::Rotate),
    /// Deliver the dead letters of an endpoint again.
    ///
    /// Each is removed from the dead letters only after the broker has confirmed it in the endpoint's queue. An
    /// interrupt (Ctrl-C) stops after the current one.
    Replay(replay::ReplayDeliveries),
}

/// Names an endpoint.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name; `<session>.<id>` if it belongs to a session.
    name: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The dependencies of the commands.
#[derive(Debug)]
struct WebhookAdmin {
    store: Store,
    endpoints: Endpoints,
    fanout: Fanout,
    target: Target,
    names: Names,
}

impl Webhooks {
    pub(super) async fn run(self, config: Config) -> Result<Exit, Failure> {
        let admin = WebhookAdmin::open(config).await?;
        match self {
            Self::List { queues, json } => lookup::list(&admin, queues.as_deref(), json).await,
            Self::Show {
                name,
                secrets,
                json,
            } => lookup::show(&admin, &name, secrets, json).await,
            Self::Set(command) => command.run(&admin).await,
            Self::Remove {
                name,
                discard,
                json,
            } => state::remove(&admin, &name, discard.into(), json).await,
            Self::Deliveries(command) => command.run(&admin).await,
            Self::Test(named) => test_event::run(&admin, &named).await,
            Self::Pause(named) => state::pause(&admin, &named).await,
            Self::Resume(named) => state::resume(&admin, &named).await,
            Self::Rotate(command) => command.run(&admin).await,
            Self::Replay(command) => command.run(&admin).await,
        }
    }
}

impl WebhookAdmin {
    async fn open(config: Config) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The writer is needed only for commands from the queue.
        let (store, _writer) = Store::open(&config.store, Arc::clone(&clock)).await?;
        let target = Target::new(config.amqp);
        let names = Names::new(&config.topology.prefix);
        Ok(Self {
            endpoints: store.endpoints(),
            fanout: Fanout::new(&store, target.clone(), names.clone(), clock),
            store,
            target,
            names,
        })
    }

    async fn find(&self, name: &str) -> Result<Endpoint, Failure> {
        self.endpoints.get(name).await?.ok_or_else(|| {
            Failure::Usage(format!(
                "there is no webhook endpoint {name}; `groupmq webhooks list` lists them"
            ))
        })
    }

    async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.target).await?)
    }
}

fn now() -> Timestamp {
    Timestamp(SystemClock.now())
}
