//! ReplyConnection the broker whether it takes messages.
//!
//! RabbitMQ that is short of memory or disk says so (`connection.blocked`) to connections that publish, and
//! only once they do. One that has nothing to say would not learn of it. So each now and then publishes a
//! message in a transaction that is taken back: nobody ever gets it, and it needs no other right than what
//! is published there anyway. A connection that is blocked is answered when that is over.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection};
use tokio::sync::watch;

use crate::amqp::properties::short;

/// How often it is asked.
const EVERY: Duration = Duration::from_secs(5);

/// How long nothing is asked after the broker closed the channel over it: topic permissions may forbid the
/// routing key, and the broker logs each attempt.
const AFTER_REFUSAL: Duration = Duration::from_mins(1);

/// The routing key of what is taken back; nothing is bound to it.
const NOWHERE: &str = "~.doctor";

/// Publishes to an exchange, over a channel in a transaction, and takes it back.
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

/// Keeps asking, and says that it is connected once it is known whether the broker takes messages; never
/// ends.
pub(in crate::amqp) async fn keep_asking(
    connection: &Connection,
    exchange: &str,
    mut unblocked: watch::Receiver<bool>,
    connected: &watch::Sender<bool>,
) {
    let mut channel = None;
    loop {
        let mut pause = EVERY;
        // Both can be dropped: what a blocked connection was not asked is asked again.
        tokio::select! {
            asked = ask(connection, exchange, &mut channel) => if let Err(error) = asked {
                // Whether the connection is of use is for others to say.
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "the broker was not asked whether it takes messages");
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

async fn ask(
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
