//! The exchanges, queues and bindings: one description of the whole, for declaring, checking and showing
//! it. `names` has the names.
//!
//! Everything that prevents loss (queue type, single active consumer, delivery limit, dead-lettering) is an
//! argument, since a client cannot set policies; what operators tune is left to policies.
//!
//! No connection declares a part alone: an exchange that is declared again without its bindings silently
//! loses what is published to it. [`assertion`] declares or checks the whole, at each connection;
//! [`upkeep`] repeats that periodically. The queues of webhook endpoints belong to it, but other modules
//! know them: they are its [`Dependents`].

mod arguments;
mod assertion;
pub(in crate::amqp) mod comparison;
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

pub use assertion::{DELETION_NOTICED_WITHIN, Doubt};

pub(super) use arguments::{DEAD_LETTER_KEY, holding_queue, installation, webhook_queue};

/// The type of exchange that distributes routing keys over its bindings, always in the same way. It comes
/// with the plugin `rabbitmq_sharding`, and with RabbitMQ 4.3.
const HASH: &str = "x-modulus-hash";

/// Matches every command and every returning command.
pub(super) const ANY: &str = "#";
pub(super) const ANY_SESSION: &str = "*";

/// The parts that a process declares if they are missing.
///
/// An exchange is never declared without its bindings, so a process that does not know them for certain
/// only checks that the exchange exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything: for processes that execute commands, and for the command line.
    Everything,
    /// Everything except the routes of commands, which depend on the number of shards: for processes that
    /// deliver events.
    Deliveries,
    /// Nothing: for processes that only send commands and consume events.
    Requests,
}

/// The bindings that are made at run time and that other modules know.
pub trait Dependents: fmt::Debug + Send + Sync {
    /// Checks that the bindings are known now; else the reason.
    fn known(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Declares and binds all of it, whether or not it seems to exist. Returns those that failed, with the
    /// reason; an error when none could be tried.
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
    /// The parts that do not depend on the number of shards.
    common: Vec<Piece>,
    /// The return exchange. Command queues and endpoints' queues are bound to it.
    back: Piece,
    /// The command queues and the routes to them.
    commands: Vec<Piece>,
    /// The events exchange, last: endpoints' queues are bound to it right after.
    events: Piece,
    dependents: Option<Arc<dyn Dependents>>,
    standing: Arc<Standing>,
    /// See `installation`.
    pub(super) store: Option<Arc<str>>,
}

impl Topology {
    /// The topology that the configuration describes; this process declares all of it.
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

    /// The same, but declared whatever the mode: for `groupmq topology apply`.
    #[must_use]
    pub fn declared(mut self) -> Self {
        self.mode = TopologyMode::Declare;
        self
    }

    /// The same, but only checked: for `groupmq doctor`.
    #[must_use]
    pub fn passive(mut self) -> Self {
        self.mode = TopologyMode::Passive;
        self
    }

    /// The same, of which other processes declare a part.
    #[must_use]
    pub const fn within(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// The same, with the bindings that are made at run time.
    #[must_use]
    pub fn with(mut self, dependents: Arc<dyn Dependents>) -> Self {
        self.dependents = Some(dependents);
        self
    }

    /// The configured number of command queues.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The names of everything.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// The interval of asserting the whole topology while the process runs.
    pub(super) const fn every(&self) -> Duration {
        self.every
    }

    /// Declares the command queues and distributes sessions over them, but without the bindings that route
    /// commands to them.
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

    /// All of it, in order of declaration: the source of a route comes after its destination.
    fn all(&self) -> impl Iterator<Item = &Piece> {
        let common = self.common.iter().chain([&self.back]);
        common.chain(&self.commands).chain([&self.events])
    }

    /// Deletes every piece, with its messages.
    pub(super) async fn delete(&self, connection: &Connection) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        for piece in self.all() {
            piece.delete(&channel).await?;
        }
        channel.close(200, ShortString::default()).await?;
        Ok(())
    }
}

/// Whether a queue exists.
pub(super) async fn is_there(connection: &Connection, queue: &str) -> Result<bool, Error> {
    // A separate channel, since the broker closes it when the queue does not exist.
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

/// Distinguishes a queue that the broker knows but cannot open from one that does not exist. RabbitMQ has
/// 404 for both, but says `no queue '…'` only of one that it does not know.
fn unopened(queue: &str, error: Error) -> Error {
    match error.blame() {
        Some(why) if why.code == 541 || why.code == 404 && !why.text.contains("no queue") => {
            let queue = queue.to_owned();
            Error::Unopened { queue, why }
        }
        _ => error,
    }
}

/// A queue's numbers of ready messages and consumers. If it does not exist, the broker closes the channel.
pub(super) async fn standing(channel: &Channel, queue: &str) -> Result<lapin::Queue, Error> {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    Ok(channel
        .queue_declare(short(queue), options, FieldTable::default())
        .await?)
}

/// The command queues, and the route of a command to the queue of its session.
///
/// The route into them comes last: their number decides which queue has a session, so nothing may be
/// distributed over the first few. The exchange that producers publish to comes right before its binding.
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
    // With one binding key for all: the broker orders them by key, then by name.
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
