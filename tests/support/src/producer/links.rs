//! The producer's queues, and the tasks that listen to them.

use std::sync::Arc;

use anyhow::Result;
use futures_util::stream::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use super::{REST, Seen, connect_to_any};

/// The end of the name of the queue that is given as `reply_to`.
pub(super) const REPLY_TO: &str = "reply-to";
pub(super) const REPLIES: &str = "replies";
pub(super) const EVENTS: &str = "events";

/// The ends of the names of all queues.
const SOURCES: [&str; 3] = [REPLY_TO, REPLIES, EVENTS];

/// A queue of the producer. Outside the prefix, since replies are not sent to queues within it.
pub(super) fn queue(prefix: &str, source: &str) -> String {
    format!("test.{prefix}.{source}")
}

pub(super) async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}

pub(super) async fn declare(channel: &Channel, prefix: &str) -> Result<()> {
    let mut quorum = FieldTable::default();
    quorum.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    // Without a limit, RabbitMQ 3.10 returns what a lost connection leaves behind to the end of the queue.
    quorum.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(1_000_000));
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    for source in SOURCES {
        let name = queue(prefix, source);
        channel
            .queue_declare(name.into(), options, quorum.clone())
            .await?;
    }
    let options = ExchangeDeclareOptions {
        durable: true,
        ..Default::default()
    };
    for (exchange, source) in [("replies", REPLIES), ("events", EVENTS)] {
        let exchange = format!("{prefix}.{exchange}");
        let none = FieldTable::default();
        channel
            .exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Topic,
                options,
                none.clone(),
            )
            .await?;
        let queue = queue(prefix, source);
        let all = QueueBindOptions::default();
        channel
            .queue_bind(queue.into(), exchange.into(), "#".into(), all, none)
            .await?;
    }
    Ok(())
}

/// Records what comes on a queue, over as many connections as it takes.
pub(super) async fn listen(urls: Vec<String>, queue: String, seen: Arc<Seen>) {
    loop {
        // However it ended: the broker is away, and comes back.
        record(&urls, &queue, &seen).await.ok();
        tokio::time::sleep(REST).await;
    }
}

async fn record(urls: &[String], queue: &str, seen: &Seen) -> Result<()> {
    let connection = connect_to_any(urls).await?;
    let channel = connection.create_channel().await?;
    let mut messages = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        let tag = message.delivery_tag;
        if queue.ends_with(EVENTS) {
            seen.event(&message);
        } else {
            seen.reply(&message, queue.ends_with(REPLY_TO));
        }
        channel.basic_ack(tag, BasicAckOptions::default()).await?;
    }
    Ok(())
}
