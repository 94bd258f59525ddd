//! Steps over an AMQP channel that several modules need: publishing with confirms, a queue of one's own,
//! consuming.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer, PublisherConfirm};

use super::Error;
use super::message::Outgoing;
use super::properties::{outgoing, short};

/// How the messages of a consumer are acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) enum AckMode {
    /// By hand; at most so many are unacknowledged.
    Manual { prefetch: u16 },
    /// By the broker when it sends them.
    Automatic,
}

/// A channel on which the broker confirms what is published.
pub(super) async fn confirming(connection: &Connection) -> Result<Channel, Error> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

/// Writes a message; what it returns resolves with the confirm.
pub(super) async fn publish(
    channel: &Channel,
    message: &Outgoing,
) -> Result<PublisherConfirm, lapin::Error> {
    let options = BasicPublishOptions {
        mandatory: message.mandatory,
        ..Default::default()
    };
    let exchange = short(&message.exchange);
    let key = short(&message.routing_key);
    channel
        .basic_publish(exchange, key, options, &message.body, outgoing(message))
        .await
}

/// Declares an exclusive queue, which is deleted with its consumer or the connection; returns its name.
pub(super) async fn own_queue(channel: &Channel) -> Result<String, Error> {
    let options = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare(ShortString::default(), options, FieldTable::default())
        .await?;
    Ok(queue.name().to_string())
}

/// Begins to consume a queue; with an empty tag the broker chooses one.
pub(super) async fn consume(
    channel: &Channel,
    queue: &str,
    tag: &str,
    mode: AckMode,
) -> Result<Consumer, Error> {
    let mut options = BasicConsumeOptions::default();
    match mode {
        AckMode::Manual { prefetch } => {
            channel
                .basic_qos(prefetch, BasicQosOptions::default())
                .await?;
        }
        AckMode::Automatic => options.no_ack = true,
    }
    let none = FieldTable::default();
    Ok(channel
        .basic_consume(short(queue), short(tag), options, none)
        .await?)
}
