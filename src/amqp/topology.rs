//! The exchanges and queues: their names, their arguments, and declaring them.
//!
//! What decides about loss (queue type, single active consumer, delivery limit, dead-lettering) is
//! an argument, since a client cannot set policies; what operators tune is left to policies.

use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};

use crate::config::{self, TopologyMode};

use super::Error;
use super::properties::short;

/// A delivery that failed so often is dead-lettered: it crashes whoever takes it. Explicit, since
/// the default differs (none on 3.10, 20 on 4.x), and without one 3.10 requeues to the back.
const DELIVERY_LIMIT: i64 = 200;

/// Dead letters are looked at again and again and must never vanish: as good as no limit. (-1 is
/// "unlimited" on 4.x, but 3.10 drops the message at its first return.)
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The names of everything on the broker.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that begin with a prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The exchange for commands; the routing key is the session.
    #[must_use]
    pub fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, number: u16) -> String {
        format!("{}.commands.{number}", self.prefix)
    }

    /// The exchange for replies; routing key `<session>.<Type>.<ok|error>`.
    #[must_use]
    pub fn replies(&self) -> String {
        format!("{}.replies", self.prefix)
    }

    /// The exchange for events; routing key `<session>.<event>`.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// The exchange, and the queue, in which a message rests for a fixed time.
    ///
    /// The routing key says where it goes afterwards, on the return exchange.
    #[must_use]
    pub fn delay(&self, tier: Duration) -> String {
        format!("{}.delay.{}", self.prefix, tier_name(tier))
    }

    /// The exchange over which what has rested comes back; direct.
    #[must_use]
    pub fn back(&self) -> String {
        format!("{}.return", self.prefix)
    }

    /// The routing key, on that exchange, of a shard.
    #[must_use]
    pub fn back_to_shard(number: u16) -> String {
        format!("commands.{number}")
    }

    /// The exchange and the queue of what came back and belongs nowhere any more.
    #[must_use]
    pub fn orphan(&self) -> String {
        format!("{}.orphan", self.prefix)
    }

    /// The exchange for what could not be handled.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The routing key, on that exchange, and the end of the queue's name, for commands.
    pub const DEAD_COMMANDS: &'static str = "commands";

    /// The queue of commands that could not be handled.
    #[must_use]
    pub fn dead_commands(&self) -> String {
        format!("{}.dead.{}", self.prefix, Self::DEAD_COMMANDS)
    }
}

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
}

/// Everything that should be on the broker.
#[derive(Debug, Clone)]
pub struct Topology {
    mode: TopologyMode,
    pieces: Vec<Piece>,
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
            exchange(names.orphan(), ExchangeKind::Fanout),
            queue(names.orphan(), quorum(NO_DELIVERY_LIMIT)),
            binding(names.orphan(), names.orphan(), ""),
            back(&names),
        ];
        for tier in &settings.delay_tiers {
            let name = names.delay(*tier);
            pieces.push(exchange(name.clone(), ExchangeKind::Fanout));
            pieces.push(queue(name.clone(), delay(&names, *tier)));
            pieces.push(binding(name.clone(), name, ""));
        }
        for number in 0..settings.shards {
            let name = names.shard(number);
            pieces.push(queue(name.clone(), shard(&names)));
            pieces.push(binding(name.clone(), names.commands(), "#"));
            pieces.push(binding(name, names.back(), &Names::back_to_shard(number)));
        }
        Self {
            mode: settings.mode,
            pieces,
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

    /// One line for each piece, for people.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.pieces.iter().map(Piece::line)
    }

    /// Creates what is missing, or looks whether it is there, as the mode says.
    ///
    /// Runs on a channel of its own, since a refusal closes the channel.
    pub(super) async fn ensure(&self, connection: &Connection) -> Result<(), Error> {
        if self.mode == TopologyMode::Off {
            return Ok(());
        }
        let channel = connection.create_channel().await?;
        for piece in &self.pieces {
            piece
                .ensure(&channel, self.mode == TopologyMode::Passive)
                .await?;
        }
        channel.close(200, ShortString::default()).await?;
        Ok(())
    }

    /// Deletes every piece, with whatever is in it.
    pub(super) async fn delete(&self, connection: &Connection) -> Result<(), Error> {
        let channel = connection.create_channel().await?;
        for piece in &self.pieces {
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
            Self::Binding { .. } => {}
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
                    .await?;
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
        }
        Ok(())
    }

    fn line(&self) -> String {
        match self {
            Self::Exchange { name, kind, .. } => {
                format!("exchange  {name}  {}", format!("{kind:?}").to_lowercase())
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
        }
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

/// The exchange of what comes back. What belongs nowhere any more is caught by the alternate
/// exchange: a few dozen unroutable messages would stall an at-least-once delay queue for good.
fn back(names: &Names) -> Piece {
    let mut arguments = FieldTable::default();
    arguments.insert(short("alternate-exchange"), text(&names.orphan()));
    Piece::Exchange {
        name: names.back(),
        kind: ExchangeKind::Direct,
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

/// `5s`, `2m`, `250ms`: as in the configuration.
fn tier_name(tier: Duration) -> String {
    match (tier.as_secs(), tier.subsec_millis()) {
        (_, millis) if millis > 0 => format!("{}ms", tier.as_millis()),
        (seconds, _) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, _) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, _) => format!("{seconds}s"),
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
