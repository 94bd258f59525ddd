//! The least that a reliable worker does for a command, with lapin alone and tuned: one writer,
//! pipelined confirms, the acknowledgement after them.

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tokio::signal::unix::{SignalKind, signal};

/// Answers commands, a reply to `reply_to` and an event to a topic exchange, until SIGTERM; what is in flight
/// then ends first.
pub(crate) async fn run() {
    let setting = |name: &str| std::env::var(name).unwrap();
    let url = setting("BENCH_URL");
    let queue = setting("BENCH_QUEUE");
    let events = setting("BENCH_EVENTS");
    let in_flight: u16 = setting("BENCH_IN_FLIGHT").parse().unwrap();
    let consume = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let publish = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let source = consume.create_channel().await.unwrap();
    source
        .basic_qos(in_flight, BasicQosOptions::default())
        .await
        .unwrap();
    let channel = publish.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let mut commands = source
        .basic_consume(
            queue.into(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let mut confirming = FuturesUnordered::new();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let mut stopping = false;
    while !stopping || !confirming.is_empty() {
        tokio::select! {
            _ = terminate.recv(), if !stopping => stopping = true,
            Some(command) = commands.next(), if !stopping => {
                let command = command.unwrap();
                let reply_to = command.properties.reply_to().clone().unwrap();
                let properties = BasicProperties::default().with_delivery_mode(2);
                let options = BasicPublishOptions::default();
                let confirms = join_all([
                    channel.basic_publish(
                        ShortString::default(), reply_to, options, &command.data, properties.clone(),
                    ),
                    channel.basic_publish(
                        events.as_str().into(), "default.group.v2.update".into(), options,
                        &command.data, properties,
                    ),
                ])
                .await;
                confirming.push(async move {
                    for confirm in confirms {
                        assert!(confirm.unwrap().await.unwrap().is_ack());
                    }
                    command.delivery_tag
                });
            }
            Some(tag) = confirming.next(), if !confirming.is_empty() => {
                source.basic_ack(tag, BasicAckOptions::default()).await.unwrap();
            }
        }
    }
    // Closing waits for the acknowledgements on their way.
    consume.close(200, "".into()).await.unwrap();
}
