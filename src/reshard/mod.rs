//! Going from one number of command queues to another, while producers go on publishing. No worker may
//! run meanwhile: all of them are stopped first.
//!
//! The broker numbers sessions anew when the number of queues changes, so what waits has to be moved,
//! and nothing that is published meanwhile may come before it. In four phases, each of which may be cut
//! off and is then repeated:
//!
//! 1. **collect**: new commands go to a queue that holds them; what is in the shards is collected.
//! 2. **lay out**: the shards are made anew, as many as there should be.
//! 3. **fill**: what was collected goes to the shards, then what was held, until little is left.
//! 4. **open**: new commands go to the shards again; the last ones held follow. Those come later than
//!    what is published by then, so every moved command has a ticket (`tickets`).
//!
//! Commands that were published just when the way changed are in two places; the ledger knows them.

mod tickets;

use std::sync::Arc;
use std::time::Duration;

use crate::amqp::{
    self, Client, CommandSource, Destination, DrainMode, Incoming, Names, Outgoing, Topology,
    Transfer, header,
};
use crate::clock::Clock;
use crate::contract::{Envelope, SessionName};
use crate::executor::Decoder;
use crate::store::resharding::Phase;
use crate::store::{self, Store};

use tickets::Tickets;

/// Stands for a session that cannot be read; no session can be called so.
const UNREAD: &str = "~";

/// The header with the session of a command that is kept where the shards' commands are collected.
const MOVED: &str = "groupmq-moved";

/// How often to look for workers before saying that they run, and the pause between two looks.
const LOOKS: usize = 50;
const LOOKING: Duration = Duration::from_millis(100);

/// Why the shards are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker cannot be used, or refuses.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Somebody executes commands.
    #[error(
        "a worker with the role `commands` is running: stop all of them, and run this again; commands \
         are kept by the broker meanwhile"
    )]
    WorkersRun,
    /// Another change was begun.
    #[error(
        "a change to {0} shards was cut off: set topology.shards = {0}, see that one to its end with \
         `groupmq topology reshard`, then change it again"
    )]
    OtherChange(u16),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// How many shards there were.
    pub before: u16,
    /// How many commands were in them.
    pub collected: u64,
    /// How many came meanwhile.
    pub held: u64,
}

/// Changes the number of command queues, to that of a topology.
#[derive(Debug)]
pub struct Reshard<'a> {
    /// To the broker.
    pub client: &'a Client,
    /// How it is to be.
    pub topology: &'a Topology,
    /// Where the workers' fences are, and what rests.
    pub store: Store,
    /// Tells commands' groups.
    pub decoder: Decoder,
    /// For the first tickets.
    pub clock: Arc<dyn Clock>,
    /// The first rest; with it, what waits behind a command that was held.
    pub tier: Duration,
    /// How much a worker takes from a queue at most.
    pub prefetch: u16,
}

impl Reshard<'_> {
    /// Does it, or goes on where an earlier attempt was cut off.
    ///
    /// # Errors
    /// When workers run, or the broker or the store cannot be used; to be run again then.
    pub async fn run(&self) -> Result<Moved, Error> {
        // Two at once would move the same commands, each by what it believes to be done.
        self.client.change_alone(self.names()).await?;
        let begun = self.client.is_there(&self.names().held()).await?;
        let before = self.client.count_shards(self.names()).await?;
        let mut moved = Moved {
            before,
            ..Moved::default()
        };
        if !begun && [0, self.topology.shards()].contains(&before) {
            return Ok(moved);
        }
        if self.workers_run(before).await? {
            return Err(Error::WorkersRun);
        }
        let progress = self.store.resharding();
        let prefix = self.names().prefix();
        if !begun {
            // What one left behind that was cut off at its very end.
            progress.end(prefix).await?;
        }
        // From here on no worker starts, since it finds this queue; one may just have.
        self.client.make_holding_queues(self.names()).await?;
        if self.workers_run(before).await? {
            if !begun {
                self.client.delete_holding_queues(self.names()).await?;
            }
            return Err(Error::WorkersRun);
        }
        let wanted = self.topology.shards();
        let ticket = u64::try_from(self.clock.now().as_microsecond()).unwrap_or_default();
        let change = progress.begin(prefix, before, wanted, ticket).await?;
        if change.to != wanted {
            return Err(Error::OtherChange(change.to));
        }
        moved.before = change.from;
        if change.phase <= Phase::Collect {
            moved.collected = self.collect(change.from).await?;
            progress.enter(prefix, Phase::LayOut).await?;
        }
        if change.phase <= Phase::LayOut {
            self.declare_shards(change.from).await?;
            progress.enter(prefix, Phase::Fill).await?;
        }
        if change.phase <= Phase::Fill {
            moved.held = self.fill(change.ticket).await?;
            progress.enter(prefix, Phase::Open).await?;
        }
        moved.held += self.open(change.ticket).await?;
        self.client.delete_holding_queues(self.names()).await?;
        progress.end(prefix).await?;
        Ok(moved)
    }

    fn names(&self) -> &Names {
        self.topology.names()
    }

    /// Whether workers go on running. The broker may need a moment to notice that a worker, or an attempt that was
    /// cut off, has ended.
    async fn workers_run(&self, shards: u16) -> Result<bool, Error> {
        for _ in 0..LOOKS {
            if !self.consumers_remain(shards).await? {
                return Ok(false);
            }
            tokio::time::sleep(LOOKING).await;
        }
        Ok(true)
    }

    async fn consumers_remain(&self, shards: u16) -> Result<bool, Error> {
        let queues = (0..shards).map(|number| self.names().shard(number));
        for queue in queues.chain([self.names().presence()]) {
            // One that is not there has no consumers.
            if self.client.is_there(&queue).await? && self.client.queue(&queue).await?.1 > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn collect(&self, from: u16) -> Result<u64, Error> {
        // A worker that was paused, and not stopped, begins nothing any more.
        self.fence(from).await?;
        for flow in [CommandSource::New, CommandSource::Back] {
            self.client
                .rebind(
                    self.names(),
                    flow,
                    Destination::Shards(from),
                    Destination::Held,
                )
                .await?;
        }
        let mut collected = 0;
        let mut shards: Vec<_> = (0..from).map(|number| self.names().shard(number)).collect();
        while !shards.is_empty() {
            for shard in std::mem::take(&mut shards) {
                let mut kept = Kept {
                    names: self.names(),
                };
                collected += self
                    .client
                    .transfer(&shard, DrainMode::Empty, self.prefetch, &mut kept)
                    .await?;
            }
            // What the broker was still about to put there when the way changed.
            for number in 0..from {
                let shard = self.names().shard(number);
                if self.client.queue(&shard).await?.0 > 0 {
                    shards.push(shard);
                }
            }
        }
        Ok(collected)
    }

    /// Raises the epochs of all shards, so that whatever an earlier owner still does is refused.
    async fn fence(&self, count: u16) -> Result<(), Error> {
        let shards = self.store.shards();
        let ownerships = shards.all().await?;
        for number in 0..count {
            let queue = self.names().shard(number);
            if let Some(fence) = shards.take_over(&queue, ownerships.get(&queue)).await? {
                shards.hand_back(&fence).await?;
            }
        }
        Ok(())
    }

    async fn declare_shards(&self, before: u16) -> Result<(), Error> {
        self.client.declare_shards(self.topology, before).await?;
        // Each session has another shard now, and with it the order of what rests.
        self.store.lanes().forget_queues().await?;
        let to = Destination::Shards(self.topology.shards());
        self.client
            .rebind(self.names(), CommandSource::Back, Destination::Held, to)
            .await?;
        Ok(())
    }

    async fn fill(&self, ticket: u64) -> Result<u64, Error> {
        let mut back = self.on_their_way_back(ticket).await?;
        let collected = self.names().collected();
        self.client
            .transfer(&collected, DrainMode::Empty, self.prefetch, &mut back)
            .await?;
        let held = self.names().held();
        self.client
            .transfer(&held, DrainMode::NearlyEmpty, self.prefetch, &mut back)
            .await
    }

    /// Opens the shards to new commands, and sends what is still held after them.
    async fn open(&self, ticket: u64) -> Result<u64, Error> {
        let to = Destination::Shards(self.topology.shards());
        self.client
            .rebind(self.names(), CommandSource::New, Destination::Held, to)
            .await?;
        let mut back = self.on_their_way_back(ticket).await?;
        let held = self.names().held();
        self.client
            .transfer(&held, DrainMode::Empty, self.prefetch, &mut back)
            .await
    }

    async fn on_their_way_back(&self, ticket: u64) -> Result<Back<'_>, Error> {
        let clock = Arc::clone(&self.clock);
        let settings = tickets::Settings {
            first: ticket,
            tier: self.tier,
        };
        let tickets = Tickets::load(self.store.lanes(), &self.decoder, clock, settings).await?;
        Ok(Back {
            names: self.names(),
            tickets,
        })
    }
}

/// Commands on their way to where the shards' commands are collected, each with its session beside it.
struct Kept<'a> {
    names: &'a Names,
}

impl Transfer for Kept<'_> {
    type Error = Error;

    fn change(&mut self, message: Incoming) -> Outgoing {
        let mut kept = back(self.names, message, None);
        let session = std::mem::replace(&mut kept.routing_key, self.names.collected());
        kept.exchange = String::new();
        kept.headers.insert(MOVED.to_owned(), session);
        kept
    }

    async fn moved(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Commands on their way to the shards, from where they were collected or held.
struct Back<'a> {
    names: &'a Names,
    tickets: Tickets<'a>,
}

impl Transfer for Back<'_> {
    type Error = Error;

    fn change(&mut self, mut message: Incoming) -> Outgoing {
        // Collected: as it was on its way out of its shard.
        if let Some(session) = message.headers.remove(MOVED) {
            message.exchange = self.names.back();
            message.routing_key = session;
        }
        let rests =
            has_rested(self.names, &message) && message.headers.contains_key(header::TICKET);
        let ticket = if rests {
            None
        } else {
            let session = by_session(self.names, &message).then_some(message.routing_key.as_str());
            self.tickets.next(&message, session)
        };
        back(self.names, message, ticket)
    }

    async fn moved(&mut self) -> Result<(), Error> {
        Ok(self.tickets.write().await?)
    }
}

fn by_session(names: &Names, message: &Incoming) -> bool {
    [names.commands(), names.back()].contains(&message.exchange)
}

fn has_rested(names: &Names, message: &Incoming) -> bool {
    message.exchange == names.back()
}

/// The command as it comes to its session's shard: as one that has rested, with what it went through
/// if it did.
fn back(names: &Names, message: Incoming, ticket: Option<u64>) -> Outgoing {
    let mut headers = message.headers.clone();
    headers.retain(|name, _| !header::is_for_the_broker(name));
    if !has_rested(names, &message) {
        // Only what we wrote ourselves says what a command went through.
        headers.retain(|name, _| !header::TRAVELS.contains(&name.as_str()));
        let mut set = |name: &str, value: &str| {
            headers.insert(name.to_owned(), value.to_owned());
        };
        set(header::EXCHANGE, &message.exchange);
        set(header::ROUTING_KEY, &message.routing_key);
    }
    if let Some(ticket) = ticket {
        headers.insert(header::TICKET.to_owned(), ticket.to_string());
    }
    Outgoing {
        exchange: names.back(),
        routing_key: session(names, &message),
        message_id: message.message_id.clone().unwrap_or_default(),
        message_type: message.message_type.clone().unwrap_or_default(),
        correlation_id: message.correlation_id.clone(),
        reply_to: message.reply_to.clone(),
        content_type: message.content_type.clone(),
        content_encoding: message.content_encoding.clone(),
        headers,
        body: message.body,
        mandatory: false,
    }
}

/// Whose command it is, by the routing key or, where it was published straight to a queue, the body.
fn session(names: &Names, message: &Incoming) -> String {
    let session: Option<SessionName> = if by_session(names, message) {
        message.routing_key.parse().ok()
    } else {
        let envelope: Option<Envelope> = serde_json::from_slice(&message.body).ok();
        envelope.and_then(|it| it.session)
    };
    session.map_or_else(|| UNREAD.to_owned(), |session| session.to_string())
}
