//! Finds out whether the broker blocks publishing.
//!
//! A RabbitMQ that is short of memory or disk reports that (`connection.blocked`) to connections that
//! publish, and only once they do; an idle connection would not learn of it. So each connection
//! periodically publishes a message in a transaction that it rolls back: the message reaches no queue, and
//! the right to publish to an exchange that the connection uses anyway is enough. A blocked connection gets
//! the answer when it is unblocked.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::watch;

use crate::amqp::properties::short;

/// The interval of the probes.
const EVERY: Duration = Duration::from_secs(5);

/// The pause after the broker closed the channel over a probe: topic permissions may forbid the routing
/// key, and the broker logs each attempt.
const AFTER_REFUSAL: Duration = Duration::from_mins(1);

/// The routing key of the probe; nothing is bound to it.
const NOWHERE: &str = "~.doctor";

/// Publishes to an exchange over a transactional channel, and rolls back.
pub(in crate::amqp) async fn publish_nothing(
    channel: &Channel,
    exchange: &str,
) -> Result<(), lapin::Error> {
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel
        .basic_publish(short(exchange), short(NOWHERE), options, &[], properties)
        .await?
        .await?;
    channel.tx_rollback().await
}

/// Probes periodically, and sets `connected` once it is known whether the broker accepts messages; never
/// ends.
pub(in crate::amqp) async fn keep_probing(
    connection: &Connection,
    exchange: &str,
    mut unblocked: watch::Receiver<bool>,
    connected: &watch::Sender<bool>,
) {
    let mut channel = None;
    loop {
        let mut pause = EVERY;
        // Both branches are cancel-safe: a probe that a blocked connection dropped is repeated.
        tokio::select! {
            probed = probe(connection, exchange, &mut channel) => if let Err(error) = probed {
                // The connection's own task decides whether the connection is usable.
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "probing whether the broker blocks publishing failed");
                channel = None;
                pause = AFTER_REFUSAL;
            },
            _ = unblocked.wait_for(|unblocked| !unblocked) => channel = None,
        }
        connected.send_replace(true);
        tokio::time::sleep(pause).await;
        // Ends with the connection.
        if unblocked.wait_for(|unblocked| *unblocked).await.is_err() {
            return std::future::pending().await;
        }
    }
}

async fn probe(
    connection: &Connection,
    exchange: &str,
    open: &mut Option<Channel>,
) -> Result<(), lapin::Error> {
    let channel = if let Some(channel) = open {
        channel
    } else {
        let channel = connection.create_channel().await?;
        channel.tx_select().await?;
        open.insert(channel)
    };
    publish_nothing(channel, exchange).await
}
