//! The exchanges and queues: their arguments, and declaring them; what they are called, `names` says.
//!
//! What decides about loss (queue type, single active consumer, delivery limit, dead-lettering) is
//! an argument, since a client cannot set policies; what operators tune is left to policies.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tokio::sync::Mutex;

use crate::config::{self, TopologyMode};

use super::properties::short;
use super::{Error, Names};

/// A delivery that failed so often is dead-lettered: it crashes whoever takes it. Explicit, since
/// the default differs (none on 3.10, 20 on 4.x), and without one 3.10 requeues to the back.
const DELIVERY_LIMIT: i64 = 200;

/// Dead letters are looked at again and again and must never vanish: as good as no limit. (-1 is
/// "unlimited" on 4.x, but 3.10 drops the message at its first return.)
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// An exchange, a queue, or a binding, as it should be.
#[derive(Debug, Clone)]
enum Piece {
    Exchange {
        name: String,
        kind: ExchangeKind,
        arguments: FieldTable,
    },
    Queue {
        name: String,
        arguments: FieldTable,
    },
    Binding {
        queue: String,
        exchange: String,
        key: String,
    },
    /// From one exchange to another.
    Route {
        from: String,
        to: String,
        key: &'static str,
    },
}

/// The type of exchange that spreads keys over what is bound to it, always in the same way. It comes
/// with the plugin `rabbitmq_sharding`, and with RabbitMQ 4.3.
const HASH: &str = "x-modulus-hash";

/// Every command; every command that comes back.
pub(super) const ANY: &str = "#";
pub(super) const ANY_SESSION: &str = "*";

/// Everything that should be on the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    pub(super) mode: TopologyMode,
    names: Names,
    shards: u16,
    /// What everybody needs.
    pieces: Vec<Piece>,
    /// What those need who execute commands.
    commands: Vec<Piece>,
    /// One link of a process at a time: RabbitMQ 3.10 now and then fails (541) over one quorum queue that
    /// several connections declare at once.
    turn: Arc<Mutex<()>>,
}

impl Topology {
    /// What the configuration asks for.
    #[must_use]
    pub fn new(settings: &config::Topology) -> Self {
        let names = Names::new(&settings.prefix);
        let mut pieces = vec![
            exchange(names.commands(), ExchangeKind::Topic),
            exchange(names.replies(), ExchangeKind::Topic),
            exchange(names.events(), ExchangeKind::Topic),
            exchange(names.dead(), ExchangeKind::Direct),
            queue(names.dead_commands(), quorum(NO_DELIVERY_LIMIT)),
            binding(names.dead_commands(), names.dead(), Names::DEAD_COMMANDS),
            queue(names.dead_webhooks(), quorum(NO_DELIVERY_LIMIT)),
            binding(names.dead_webhooks(), names.dead(), Names::DEAD_WEBHOOKS),
            exchange(names.orphan(), ExchangeKind::Fanout),
            queue(names.orphan(), quorum(NO_DELIVERY_LIMIT)),
            binding(names.orphan(), names.orphan(), ""),
            back(&names),
        ];
        for tier in &settings.tiers {
            let name = names.delay(*tier);
            pieces.push(exchange(name.clone(), ExchangeKind::Fanout));
            pieces.push(queue(name.clone(), delay(&names, *tier)));
            pieces.push(binding(name.clone(), name, ""));
        }
        let mut commands = vec![queue(names.presence(), quorum(NO_DELIVERY_LIMIT))];
        commands.extend(shards(&names, settings.shards));
        Self {
            mode: settings.mode,
            names,
            shards: settings.shards,
            pieces,
            commands,
            turn: Arc::default(),
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

    /// Creates the command queues, and spreads sessions over them; but nothing comes to them yet.
    pub(super) async fn ensure_closed_shards(&self, channel: &Channel) -> Result<(), Error> {
        let sources = [self.names.commands(), self.names.back()];
        for piece in shards(&self.names, self.shards) {
            let opens = match &piece {
                Piece::Binding { exchange, .. } => sources.contains(exchange),
                Piece::Route { .. } => true,
                Piece::Exchange { .. } | Piece::Queue { .. } => false,
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

    fn all(&self) -> impl Iterator<Item = &Piece> {
        self.pieces.iter().chain(&self.commands)
    }

    /// Creates what is missing, or looks whether it is there, as the mode says: all but the command
    /// queues and what leads to them.
    ///
    /// Runs on a channel of its own, since a refusal closes the channel.
    pub(super) async fn ensure(&self, connection: &Connection) -> Result<(), Error> {
        if self.mode == TopologyMode::Off {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.ensure_pieces(connection, &self.pieces).await
    }

    /// The same for everything.
    pub(super) async fn ensure_all(&self, connection: &Connection) -> Result<(), Error> {
        if self.mode == TopologyMode::Off {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        self.ensure_shards(connection).await?;
        self.ensure_pieces(connection, &self.pieces).await?;
        self.ensure_pieces(connection, &self.commands).await
    }

    async fn ensure_pieces(&self, connection: &Connection, pieces: &[Piece]) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        for piece in pieces {
            piece
                .ensure(&channel, self.mode == TopologyMode::Passive)
                .await?;
        }
        channel.close(200, ShortString::default()).await?;
        Ok(())
    }

    /// Looks whether there are other command queues than should be: adding some, or taking some away,
    /// would lead sessions elsewhere while their earlier commands still wait.
    async fn ensure_shards(&self, connection: &Connection) -> Result<(), Error> {
        if is_there(connection, &self.names.held()).await? {
            return Err(Error::Resharding(self.names.prefix().to_owned()));
        }
        let shard = |number| self.names.shard(number);
        let other = |found| Error::OtherShards {
            prefix: self.names.prefix().to_owned(),
            found,
            wanted: self.shards,
        };
        if is_there(connection, &shard(self.shards)).await? {
            return Err(other("more"));
        }
        // The first is declared last: where it is, all are.
        let last = shard(self.shards.saturating_sub(1));
        if is_there(connection, &shard(0)).await? && !is_there(connection, &last).await? {
            return Err(other("fewer"));
        }
        Ok(())
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

impl Piece {
    /// Deletes it; what is not there counts as deleted. Bindings go with their queue.
    async fn delete(&self, channel: &Channel) -> Result<(), Error> {
        match self {
            Self::Exchange { name, .. } => {
                let options = ExchangeDeleteOptions::default();
                channel.exchange_delete(short(name), options).await?;
            }
            Self::Queue { name, .. } => {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(short(name), options).await?;
            }
            Self::Binding { .. } | Self::Route { .. } => {}
        }
        Ok(())
    }

    async fn ensure(&self, channel: &Channel, passive: bool) -> Result<(), Error> {
        match self {
            Self::Exchange {
                name,
                kind,
                arguments,
            } => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    ..Default::default()
                };
                channel
                    .exchange_declare(short(name), kind.clone(), options, arguments.clone())
                    .await
                    .map_err(|error| unknown_kind(error, kind))?;
            }
            Self::Queue { name, arguments } => {
                let options = QueueDeclareOptions {
                    passive,
                    durable: true,
                    ..Default::default()
                };
                channel
                    .queue_declare(short(name), options, arguments.clone())
                    .await?;
            }
            Self::Binding {
                queue,
                exchange,
                key,
            } => {
                // A binding cannot be looked for with AMQP 0-9-1.
                if !passive {
                    let options = QueueBindOptions::default();
                    let none = FieldTable::default();
                    channel
                        .queue_bind(short(queue), short(exchange), short(key), options, none)
                        .await?;
                }
            }
            Self::Route { from, to, key } => {
                if !passive {
                    let options = ExchangeBindOptions::default();
                    let none = FieldTable::default();
                    channel
                        .exchange_bind(short(to), short(from), short(key), options, none)
                        .await?;
                }
            }
        }
        Ok(())
    }

    fn line(&self) -> String {
        match self {
            Self::Exchange { name, kind, .. } => {
                let kind = match kind {
                    ExchangeKind::Custom(kind) => kind.clone(),
                    kind => format!("{kind:?}").to_lowercase(),
                };
                format!("exchange  {name}  {kind}")
            }
            Self::Queue { name, arguments } => {
                let arguments: Vec<_> = arguments
                    .inner()
                    .iter()
                    .map(|(name, value)| format!("{name}={}", argument_text(value)))
                    .collect();
                format!("queue     {name}  {}", arguments.join(" "))
            }
            Self::Binding {
                queue,
                exchange,
                key,
            } => {
                format!("binding   {exchange} --{key}--> {queue}")
            }
            Self::Route { from, to, key } => format!("binding   {from} --{key}--> {to}"),
        }
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
        Err(Error::Refused(refusal)) if refusal.code == 404 => Ok(false),
        Err(error) => Err(error),
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
/// spread over the first few.
fn shards(names: &Names, count: u16) -> Vec<Piece> {
    // The first one last: see `Topology::ensure_shards`.
    let mut pieces: Vec<_> = (0..count)
        .rev()
        .map(|number| queue(names.shard(number), shard(names)))
        .collect();
    if count == 1 {
        pieces.push(binding(names.shard(0), names.commands(), ANY));
        pieces.push(binding(names.shard(0), names.back(), ANY_SESSION));
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
    pieces.push(route(names.commands(), ANY));
    pieces.push(route(names.back(), ANY_SESSION));
    pieces
}

/// A broker without the plugin closes the connection with 503 (command invalid); RabbitMQ 4 only the
/// channel, with the 406 that it also has for an exchange of another type, and other words.
fn unknown_kind(error: lapin::Error, kind: &ExchangeKind) -> Error {
    let is_unknown = match error.kind() {
        ErrorKind::ProtocolError(reply) => {
            let text = reply.get_message().as_str();
            reply.get_id() == 503 || text.contains("unknown exchange type")
        }
        _ => false,
    };
    if is_unknown && matches!(kind, ExchangeKind::Custom(_)) {
        Error::NoSharding
    } else {
        error.into()
    }
}

fn argument_text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::Boolean(flag) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

fn quorum(delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        short("x-queue-type"),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        short("x-delivery-limit"),
        AMQPValue::LongLongInt(delivery_limit),
    );
    arguments
}

fn shard(names: &Names) -> FieldTable {
    let mut arguments = quorum(DELIVERY_LIMIT);
    arguments.insert(short("x-single-active-consumer"), AMQPValue::Boolean(true));
    // At-least-once dead-lettering needs all three; without one it silently becomes at-most-once.
    arguments.insert(short("x-dead-letter-exchange"), text(&names.dead()));
    arguments.insert(
        short("x-dead-letter-routing-key"),
        text(Names::DEAD_COMMANDS),
    );
    arguments.insert(short("x-dead-letter-strategy"), text("at-least-once"));
    arguments.insert(short("x-overflow"), text("reject-publish"));
    arguments
}

/// Where a message rests for a fixed time. One TTL for the whole queue, since only its head expires.
fn delay(names: &Names, tier: Duration) -> FieldTable {
    let mut arguments = quorum(NO_DELIVERY_LIMIT);
    let ttl = i64::try_from(tier.as_millis()).unwrap_or(i64::MAX);
    arguments.insert(short("x-message-ttl"), AMQPValue::LongLongInt(ttl));
    // The routing key stays the message's own: it says where it belongs.
    arguments.insert(short("x-dead-letter-exchange"), text(&names.back()));
    arguments.insert(short("x-dead-letter-strategy"), text("at-least-once"));
    arguments.insert(short("x-overflow"), text("reject-publish"));
    arguments
}

/// A webhook endpoint's deliveries. A delivery goes back whenever its endpoint's breaker opens, so that
/// says nothing about it.
pub(super) fn webhook_queue() -> FieldTable {
    quorum(NO_DELIVERY_LIMIT)
}

/// Commands on their way to other shards.
pub(super) fn holding_queue() -> FieldTable {
    quorum(NO_DELIVERY_LIMIT)
}

/// The exchange of what comes back. What belongs nowhere any more is caught by the alternate
/// exchange: a few dozen unroutable messages would stall an at-least-once delay queue for good.
fn back(names: &Names) -> Piece {
    let mut arguments = FieldTable::default();
    arguments.insert(short("alternate-exchange"), text(&names.orphan()));
    Piece::Exchange {
        name: names.back(),
        kind: ExchangeKind::Topic,
        arguments,
    }
}

fn exchange(name: String, kind: ExchangeKind) -> Piece {
    Piece::Exchange {
        name,
        kind,
        arguments: FieldTable::default(),
    }
}

const fn queue(name: String, arguments: FieldTable) -> Piece {
    Piece::Queue { name, arguments }
}

fn binding(queue: String, exchange: String, key: &str) -> Piece {
    Piece::Binding {
        queue,
        exchange,
        key: key.to_owned(),
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
