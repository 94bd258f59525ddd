//! What lies in a queue, looked at beside the worker.

use std::collections::BTreeMap;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

/// A message that was taken from a queue.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// A way to the broker's queues.
pub(crate) struct Queues {
    connection: Connection,
    channel: Channel,
}

impl Queues {
    pub(crate) async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await.unwrap();
        Self {
            connection,
            channel,
        }
    }

    /// Takes everything that a queue holds.
    pub(crate) async fn take(&self, queue: &str) -> Vec<Taken> {
        let options = BasicGetOptions { no_ack: true };
        let mut all = Vec::new();
        while let Some(got) = self.channel.basic_get(queue.into(), options).await.unwrap() {
            let properties = &got.delivery.properties;
            let text = |value: &Option<lapin::types::ShortString>| {
                value.as_ref().map(ToString::to_string).unwrap_or_default()
            };
            let headers = properties.headers().iter().flat_map(FieldTable::inner);
            all.push(Taken {
                id: text(properties.message_id()),
                kind: text(properties.kind()),
                headers: headers
                    .filter_map(|(name, value)| match value {
                        AMQPValue::LongString(text) => Some((name.to_string(), text.to_string())),
                        _ => None,
                    })
                    .collect(),
                body: serde_json::from_slice(&got.delivery.data).unwrap(),
            });
        }
        all
    }

    /// How many messages of a queue are in nobody's hands; none when there is no such queue.
    pub(crate) async fn ready(&self, queue: &str) -> Option<u32> {
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let found = channel.queue_declare(queue.into(), options, FieldTable::default());
        Some(found.await.ok()?.message_count())
    }

    /// Takes what a queue holds in hand, until the connection is dropped.
    pub(crate) async fn hold(&self, queue: &str, count: usize) {
        let options = BasicGetOptions { no_ack: false };
        for _ in 0..count {
            let got = self.channel.basic_get(queue.into(), options).await;
            assert!(got.unwrap().is_some(), "{queue} has less than {count}");
        }
    }

    /// Puts back what is in hand.
    pub(crate) async fn release(self) {
        self.connection.close(200, "".into()).await.unwrap();
    }

    /// Whether there is such a queue.
    pub(crate) async fn has(&self, queue: &str) -> bool {
        self.ready(queue).await.is_some()
    }

    /// Deletes a queue with what is in it.
    pub(crate) async fn delete(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        self.channel
            .queue_delete(queue.into(), options)
            .await
            .unwrap();
    }

    /// Deletes a queue, and makes one of its name that is not groupmq's: a classic one.
    pub(crate) async fn remake_as_classic(&self, queue: &str) {
        self.delete(queue).await;
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap();
    }

    /// Deletes an exchange, and makes one of its name that is of another type.
    pub(crate) async fn remake_as_headers(&self, exchange: &str) {
        self.delete_exchange(exchange).await;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let none = FieldTable::default();
        self.channel
            .exchange_declare(exchange.into(), ExchangeKind::Headers, options, none)
            .await
            .unwrap();
    }

    /// Deletes an exchange.
    pub(crate) async fn delete_exchange(&self, exchange: &str) {
        let options = ExchangeDeleteOptions::default();
        let deleted = self.channel.exchange_delete(exchange.into(), options);
        deleted.await.unwrap();
    }

    /// Publishes a message that has to reach a queue.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        (id, kind): (&str, &str),
        headers: &[(&str, &str)],
        body: &Value,
    ) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let properties = BasicProperties::default()
            .with_message_id(id.into())
            .with_type(kind.into())
            .with_delivery_mode(2)
            .with_headers(table);
        let options = BasicPublishOptions {
            mandatory: true,
            ..Default::default()
        };
        let body = body.to_string();
        let confirm = self
            .channel
            .basic_publish(
                exchange.into(),
                key.into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(
            confirm.is_ack() && confirm.take_message().is_none(),
            "{exchange} {key}"
        );
    }
}
