//! `groupmq webhooks`: endpoints, as an operator sets them and looks at them.
//!
//! Works on the store and the broker that the configuration names; a worker need not run. What has
//! changed is delivered accordingly once a process with the role `webhooks` looks into the store.

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
    /// List endpoints, and say which have no queue on the broker.
    List {
        /// The names of the broker's queues, as `rabbitmqctl -q list_queues name` lists them: those of
        /// endpoints that are not in the store are named too.
        #[arg(long, value_name = "NAMES", conflicts_with = "json")]
        queues: Option<String>,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Show everything that is set for an endpoint, and what waits for it.
    Show {
        /// Its name.
        name: String,
        /// Show secrets and the values of headers, too.
        #[arg(long)]
        secrets: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Set an endpoint that belongs to no session.
    Set(set::Set),
    /// Have an endpoint go, once what waits for it has been sent.
    Remove {
        /// Its name.
        name: String,
        /// Drop what waits for it.
        #[arg(long)]
        discard: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show attempts to deliver, the latest first.
    Deliveries(deliveries::Deliveries),
    /// Send an event `webhook.test` to an endpoint, and to no other.
    Test(Named),
    /// Collect an endpoint's events without sending them.
    Pause(Named),
    /// Send an endpoint's events again, after a pause or after it was disabled.
    Resume(Named),
    /// Give an endpoint a new secret, beside which the earlier ones sign for a while.
    Rotate(rotate::Rotate),
    /// Deliver again what was given up.
    ///
    /// Each delivery is confirmed by the broker in the endpoint's queue before it is removed from the
    /// dead letters. An interrupt (Ctrl-C) ends it after the current one.
    Replay(replay::ReplayDeliveries),
}

/// An endpoint, by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// Its name; `<session>.<id>` where it belongs to a session.
    name: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What the commands work with.
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
        // Its writer is for commands from the queue, of which there are none here.
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
                "there is no webhook endpoint {name}; `groupmq webhooks list` shows them"
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
