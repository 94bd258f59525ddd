//! One exchange, queue or binding: declaring, checking and deleting it.

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind};

use crate::amqp::Error;
use crate::amqp::properties::short;

/// An exchange, a queue, or a binding, as it should be.
#[derive(Debug, Clone)]
pub(super) enum Piece {
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

impl Piece {
    /// Deletes it; a piece that does not exist counts as deleted. Bindings go with their queue.
    pub(super) async fn delete(&self, channel: &Channel) -> Result<(), Error> {
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

    /// Declares it, or checks that it exists: the broker closes the channel if it does not.
    pub(super) async fn ensure(&self, channel: &Channel, passive: bool) -> Result<(), Error> {
        self.request(channel, passive, false).await
    }

    /// The same, but does not wait for the answer: if the broker refuses, it closes the channel.
    pub(super) async fn ensure_unanswered(
        &self,
        channel: &Channel,
        passive: bool,
    ) -> Result<(), Error> {
        self.request(channel, passive, true).await
    }

    async fn request(&self, channel: &Channel, passive: bool, nowait: bool) -> Result<(), Error> {
        match self {
            Self::Exchange {
                name,
                kind,
                arguments,
            } => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    nowait,
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
                    nowait,
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
                // AMQP 0-9-1 cannot query bindings.
                if !passive {
                    let options = QueueBindOptions { nowait };
                    let none = FieldTable::default();
                    channel
                        .queue_bind(short(queue), short(exchange), short(key), options, none)
                        .await?;
                }
            }
            Self::Route { from, to, key } => {
                if !passive {
                    let options = ExchangeBindOptions { nowait };
                    let none = FieldTable::default();
                    channel
                        .exchange_bind(short(to), short(from), short(key), options, none)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Whether it is the same exchange or queue.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exchange { name, .. }, Self::Exchange { name: other, .. })
            | (Self::Queue { name, .. }, Self::Queue { name: other, .. }) => name == other,
            _ => false,
        }
    }

    /// Its kind and its name.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Exchange { name, .. } => format!("exchange {name}"),
            Self::Queue { name, .. } => format!("queue {name}"),
            Self::Binding { .. } | Self::Route { .. } => self.line(),
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
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

/// A broker without the plugin closes the connection with 503 (command invalid); RabbitMQ 4 closes only the
/// channel, with the 406 that it also has for an exchange of another type, but another text.
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

pub(super) fn exchange(name: String, kind: ExchangeKind) -> Piece {
    Piece::Exchange {
        name,
        kind,
        arguments: FieldTable::default(),
    }
}

pub(super) const fn queue(name: String, arguments: FieldTable) -> Piece {
    Piece::Queue { name, arguments }
}

pub(super) fn binding(queue: String, exchange: String, key: &str) -> Piece {
    Piece::Binding {
        queue,
        exchange,
        key: key.to_owned(),
    }
}
