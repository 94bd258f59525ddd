//! Changing the number of command queues while producers go on publishing. No worker may run meanwhile: all
//! of them are stopped first.
//!
//! The exchange distributes sessions differently when the number of queues changes, so waiting commands
//! have to be moved, and no command that is published meanwhile may overtake them. There are four phases,
//! each of which may be interrupted and is then repeated:
//!
//! 1. **collect**: new commands are routed to a holding queue; the shards' commands are collected.
//! 2. **declare**: the shards are declared again, in the configured number.
//! 3. **fill**: the collected commands are moved to the shards, then the held ones, until few are left.
//! 4. **open**: new commands are routed to the shards again; the last held ones follow. Those arrive after
//!    commands that are published by then, so every moved command has a ticket (`tickets`).
//!
//! Commands that were published just when the routing changed exist twice; the ledger recognises them.

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

/// Stands for a session that cannot be read; it is not a valid session name.
const UNREAD: &str = "~";

/// The header with the session of a collected command.
const MOVED: &str = "groupmq-moved";

/// How often to check for workers before reporting that they run, and the pause between two checks.
const WORKER_CHECKS: usize = 50;
const CHECK_PAUSE: Duration = Duration::from_millis(100);

/// Why the number of shards was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker cannot be used, or refuses.
    #[error(transparent)]
    Broker(#[from] amqp::Error),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Workers are executing commands.
    #[error(
        "a worker with the role `commands` is running: stop all of them, and run this again; commands \
         are kept by the broker meanwhile"
    )]
    WorkersRun,
    /// Another change was begun and not finished.
    #[error(
        "a change to {0} shards was interrupted: set topology.shards = {0}, finish that change with \
         `groupmq topology reshard`, then change it again"
    )]
    OtherChange(u16),
}

/// The result of a change.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// The previous number of shards.
    pub before: u16,
    /// The number of commands that were in them.
    pub collected: u64,
    /// The number of commands that arrived meanwhile.
    pub held: u64,
}

/// Changes the number of command queues, to that of a topology.
#[derive(Debug)]
pub struct Reshard<'a> {
    /// The connection to the broker.
    pub client: &'a Client,
    /// The topology with the new number of shards.
    pub topology: &'a Topology,
    /// The workers' epochs, and the lanes with deferred commands.
    pub store: Store,
    /// Finds the group of a command.
    pub decoder: Decoder,
    /// For the first tickets.
    pub clock: Arc<dyn Clock>,
    /// The first delay tier, for commands that wait behind a moved one.
    pub tier: Duration,
    /// The prefetch count of a worker.
    pub prefetch: u16,
}

impl Reshard<'_> {
    /// Changes the number of shards, or continues an interrupted change.
    ///
    /// # Errors
    /// When workers run, or the broker or the store cannot be used; to be run again then.
    pub async fn run(&self) -> Result<Moved, Error> {
        // Two at once would move the same commands, each by its own record of progress.
        self.client.lock_shards(self.names()).await?;
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
            // The record of a change that was interrupted at its very end.
            progress.end(prefix).await?;
        }
        // From here on no worker starts, since it finds this queue; one may have started just before.
        self.client.declare_holding_queues(self.names()).await?;
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

    /// Whether workers are still running. The broker may need a moment to notice that a worker, or an
    /// interrupted attempt, has ended.
    async fn workers_run(&self, shards: u16) -> Result<bool, Error> {
        for _ in 0..WORKER_CHECKS {
            if !self.consumers_remain(shards).await? {
                return Ok(false);
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
        Ok(true)
    }

    async fn consumers_remain(&self, shards: u16) -> Result<bool, Error> {
        let queues = (0..shards).map(|number| self.names().shard(number));
        for queue in queues.chain([self.names().presence()]) {
            // A queue that does not exist has no consumers.
            if self.client.is_there(&queue).await? && self.client.queue(&queue).await?.1 > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn collect(&self, from: u16) -> Result<u64, Error> {
        // A worker that was paused instead of stopped starts no more commands.
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
            // Commands that the broker was still routing there when the binding changed.
            for number in 0..from {
                let shard = self.names().shard(number);
                if self.client.queue(&shard).await?.0 > 0 {
                    shards.push(shard);
                }
            }
        }
        Ok(collected)
    }

    /// Raises the epochs of all shards, so that everything an earlier owner still does is refused.
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
        // Each session has another shard now, and so the order of the deferred commands changed.
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

    /// Routes new commands to the shards, and moves the remaining held ones after them.
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

/// Commands that are moved to the collecting queue, each with its session as a header.
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

/// Commands that are moved to the shards, from the collecting or the holding queue.
struct Back<'a> {
    names: &'a Names,
    tickets: Tickets<'a>,
}

impl Transfer for Back<'_> {
    type Error = Error;

    fn change(&mut self, mut message: Incoming) -> Outgoing {
        // Collected: published as it left its shard.
        if let Some(session) = message.headers.remove(MOVED) {
            message.exchange = self.names.back();
            message.routing_key = session;
        }
        let rests =
            was_deferred(self.names, &message) && message.headers.contains_key(header::TICKET);
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

fn was_deferred(names: &Names, message: &Incoming) -> bool {
    message.exchange == names.back()
}

/// The command as it is published to its session's shard: as a returning command, with its retry state if
/// it was deferred.
fn back(names: &Names, message: Incoming, ticket: Option<u64>) -> Outgoing {
    let mut headers = message.headers.clone();
    headers.retain(|name, _| !header::is_for_the_broker(name));
    if !was_deferred(names, &message) {
        // Retry state is trusted only in messages that groupmq published.
        headers.retain(|name, _| !header::RETRY_STATE.contains(&name.as_str()));
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
        published_at: None,
    }
}

/// The session of a command: by the routing key or, if it was published directly to a queue, by the body.
fn session(names: &Names, message: &Incoming) -> String {
    let session: Option<SessionName> = if by_session(names, message) {
        message.routing_key.parse().ok()
    } else {
        let envelope: Option<Envelope> = serde_json::from_slice(&message.body).ok();
        envelope.and_then(|it| it.session)
    };
    session.map_or_else(|| UNREAD.to_owned(), |session| session.to_string())
}
