//! The exchanges, queues and bindings: one description of the whole, for whoever makes it, looks for it or
//! shows it. What they are called, `names` says.
//!
//! What decides about loss (queue type, single active consumer, delivery limit, dead-lettering) is
//! an argument, since a client cannot set policies; what operators tune is left to policies.
//!
//! No link makes a part alone: an exchange that comes back without its bindings loses what is published to
//! it, and nobody sees that. [`assertion`] makes or looks for the whole, at each connection; [`upkeep`] does
//! so again and again. The queues of webhook endpoints belong to it, and are known elsewhere: they are its
//! [`Dependents`].

mod arguments;
mod assertion;
mod comparison;
pub(in crate::amqp) mod endpoint_queues;
pub(in crate::amqp) mod installation;
pub(in crate::amqp) mod names;
mod piece;
mod upkeep;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use crate::config::{self, TopologyMode};

use crate::amqp::properties::short;
use crate::amqp::{Error, Names};

use assertion::Standing;
use piece::{Piece, binding, exchange, queue};

pub use assertion::{Doubt, TOLD_WITHIN};
pub use comparison::Comparison;

pub(super) use arguments::{DEAD_LETTER_KEY, holding_queue, installation, webhook_queue};

/// The type of exchange that spreads keys over what is bound to it, always in the same way. It comes
/// with the plugin `rabbitmq_sharding`, and with RabbitMQ 4.3.
const HASH: &str = "x-modulus-hash";

/// Every command; every command that comes back.
pub(super) const ANY: &str = "#";
pub(super) const ANY_SESSION: &str = "*";

/// Which part of the whole a process makes where it is missing.
///
/// Nobody makes an exchange without the bindings that it is to have, so a process that does not know them
/// for certain only looks whether the exchange is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything: for whoever executes commands, and for the command line.
    Everything,
    /// All but the ways of commands, which only their number of shards tells: for whoever delivers events.
    Deliveries,
    /// Nothing: for whoever only sends commands and listens to events.
    Requests,
}

/// What is bound at run time, and is known elsewhere.
pub trait Dependents: fmt::Debug + Send + Sync {
    /// Whether it is known now what is to be bound; else why not.
    fn known(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Makes it and binds it, whether it seems to be there or not. Returns those for which that failed, with
    /// the reason; an error when none could be tried.
    fn bind(&self) -> BoxFuture<'_, Result<Vec<String>, String>>;
}

/// Everything that should be on the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    pub(super) mode: TopologyMode,
    scope: Scope,
    names: Names,
    shards: u16,
    every: Duration,
    /// What nobody needs to know the number of shards for.
    common: Vec<Piece>,
    /// The exchange over which things come back. Command queues and endpoints' queues are bound to it.
    back: Piece,
    /// The command queues and the ways into them.
    commands: Vec<Piece>,
    /// The exchange of events, last: endpoints' queues are bound to it right after.
    events: Piece,
    dependents: Option<Arc<dyn Dependents>>,
    standing: Arc<Standing>,
    /// See `installation`.
    pub(super) store: Option<Arc<str>>,
}

impl Topology {
    /// What the configuration asks for, to be made whole here.
    #[must_use]
    pub fn new(settings: &config::Topology) -> Self {
        let names = Names::new(&settings.prefix);
        let mut common = vec![
            queue(names.dead_commands(), arguments::kept()),
            queue(names.dead_webhooks(), arguments::kept()),
            exchange(names.dead(), ExchangeKind::Direct),
            binding(names.dead_commands(), names.dead(), Names::DEAD_COMMANDS),
            binding(names.dead_webhooks(), names.dead(), Names::DEAD_WEBHOOKS),
            queue(names.orphan(), arguments::kept()),
            exchange(names.orphan(), ExchangeKind::Fanout),
            binding(names.orphan(), names.orphan(), ""),
            exchange(names.replies(), ExchangeKind::Topic),
        ];
        for tier in &settings.tiers {
            let name = names.delay(*tier);
            common.push(queue(name.clone(), arguments::delay(&names, *tier)));
            common.push(exchange(name.clone(), ExchangeKind::Fanout));
            common.push(binding(name.clone(), name, ""));
        }
        let back = Piece::Exchange {
            name: names.back(),
            kind: ExchangeKind::Topic,
            arguments: arguments::back(&names),
        };
        let mut commands = vec![queue(names.presence(), arguments::kept())];
        commands.extend(shards(&names, settings.shards));
        Self {
            mode: settings.mode,
            scope: Scope::Everything,
            shards: settings.shards,
            every: settings.interval,
            common,
            back,
            commands,
            events: exchange(names.events(), ExchangeKind::Topic),
            names,
            dependents: None,
            standing: Arc::default(),
            store: None,
        }
    }

    /// The same, but created whatever the mode: for `groupmq topology apply`.
    #[must_use]
    pub fn declared(mut self) -> Self {
        self.mode = TopologyMode::Declare;
        self
    }

    /// The same, but only looked for: for `groupmq doctor`.
    #[must_use]
    pub fn passive(mut self) -> Self {
        self.mode = TopologyMode::Passive;
        self
    }

    /// The same, of which a part is somebody else's to make.
    #[must_use]
    pub const fn within(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The same, with what is bound at run time.
    #[must_use]
    pub fn with(mut self, dependents: Arc<dyn Dependents>) -> Self {
        self.dependents = Some(dependents);
        self
    }

    /// How many command queues there should be.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The names of everything.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// How often the whole is asserted while everything runs.
    pub(super) const fn every(&self) -> Duration {
        self.every
    }

    /// Creates the command queues, and spreads sessions over them; but nothing comes to them yet.
    pub(super) async fn ensure_closed_shards(&self, channel: &Channel) -> Result<(), Error> {
        let sources = [self.names.commands(), self.names.back()];
        for piece in shards(&self.names, self.shards) {
            let opens = match &piece {
                Piece::Binding { exchange, .. } => sources.contains(exchange),
                Piece::Exchange { name, .. } => sources.contains(name),
                Piece::Route { .. } => true,
                Piece::Queue { .. } => false,
            };
            if !opens {
                piece.ensure(channel, false).await?;
            }
        }
        Ok(())
    }

    /// One line for each piece, for people.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.all().map(Piece::line)
    }

    /// All of it, in the order in which it is made: what leads somewhere comes after what it leads to.
    fn all(&self) -> impl Iterator<Item = &Piece> {
        let common = self.common.iter().chain([&self.back]);
        common.chain(&self.commands).chain([&self.events])
    }

    /// Deletes every piece, with whatever is in it.
    pub(super) async fn delete(&self, connection: &Connection) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        for piece in self.all() {
            piece.delete(&channel).await?;
        }
        channel.close(200, ShortString::default()).await?;
        Ok(())
    }
}

/// Whether there is such a queue.
pub(super) async fn is_there(connection: &Connection, queue: &str) -> Result<bool, Error> {
    // A channel apart: the broker closes it when there is none.
    let channel = connection.create_channel().await?;
    match standing(&channel, queue).await {
        Ok(_) => {
            channel.close(200, ShortString::default()).await?;
            Ok(true)
        }
        Err(error) => match unopened(queue, error) {
            Error::Refused(refusal) if refusal.code == 404 => Ok(false),
            error => Err(error),
        },
    }
}

/// Tells a queue that the broker knows but cannot open from one that is not there. RabbitMQ has 404 for both, so
/// its words have to do: `no queue '…'` is said only of one that it does not know.
fn unopened(queue: &str, error: Error) -> Error {
    match error.blame() {
        Some(why) if why.code == 541 || why.code == 404 && !why.text.contains("no queue") => {
            let queue = queue.to_owned();
            Error::Unopened { queue, why }
        }
        _ => error,
    }
}

/// How a queue stands: what waits in it, and who consumes it. Without one the broker closes the channel.
pub(super) async fn standing(channel: &Channel, queue: &str) -> Result<lapin::Queue, Error> {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    Ok(channel
        .queue_declare(short(queue), options, FieldTable::default())
        .await?)
}

/// The command queues, and the way of a command to the one of its session.
///
/// The way into them comes last: how many there are decides which one is whose, so nothing may be
/// spread over the first few. The exchange that producers publish to comes right before its binding.
fn shards(names: &Names, count: u16) -> Vec<Piece> {
    // The first one last: see `Topology::ensure_shards`.
    let mut pieces: Vec<_> = (0..count)
        .rev()
        .map(|number| queue(names.shard(number), arguments::shard(names)))
        .collect();
    let commands = exchange(names.commands(), ExchangeKind::Topic);
    if count == 1 {
        pieces.push(binding(names.shard(0), names.back(), ANY_SESSION));
        pieces.push(commands);
        pieces.push(binding(names.shard(0), names.commands(), ANY));
        return pieces;
    }
    pieces.push(exchange(names.shards(), ExchangeKind::Custom(HASH.into())));
    // With one key for all: the broker numbers them by key, then by name.
    pieces.extend((0..count).map(|number| binding(names.shard(number), names.shards(), "")));
    let route = |from, key| Piece::Route {
        from,
        to: names.shards(),
        key,
    };
    pieces.push(route(names.back(), ANY_SESSION));
    pieces.push(commands);
    pieces.push(route(names.commands(), ANY));
    pieces
}
