//! The queues of a run: commands that wait in them, and the replies to them.

use futures_util::StreamExt;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::GROUPS;

/// What the commands of a run do.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `SetGroupSubject`, each with a new subject.
    Change,
    /// `GetGroup`.
    Read,
}

/// Outside the prefix, since replies are not sent to queues within it.
fn reply_queue(prefix: &str) -> String {
    format!("bench-replies.{prefix}")
}

/// The bench's own connection to the broker, which sends commands and reads replies.
pub(crate) struct Broker {
    channel: Channel,
}

impl Broker {
    pub(crate) async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        Self { channel }
    }

    async fn queue(&self, name: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(name.into(), options, arguments)
            .await
            .unwrap();
    }

    async fn consume(&self, queue: &str) -> lapin::Consumer {
        let options = BasicConsumeOptions {
            no_ack: true,
            ..Default::default()
        };
        let (tag, none) = (ShortString::default(), FieldTable::default());
        self.channel
            .basic_consume(queue.into(), tag, options, none)
            .await
            .unwrap()
    }

    /// The queue that commands name in `reply_to`.
    pub(crate) async fn replies(&self, prefix: &str) -> lapin::Consumer {
        let queue = reply_queue(prefix);
        self.queue(&queue).await;
        // A reply that came twice must not start the clock of the next run.
        let purge = QueuePurgeOptions::default();
        self.channel
            .queue_purge(queue.as_str().into(), purge)
            .await
            .unwrap();
        self.consume(&queue).await
    }

    /// Ends what [`Self::replies`] began.
    pub(crate) async fn cancel(&self, replies: &lapin::Consumer) {
        self.channel
            .basic_cancel(replies.tag(), BasicCancelOptions::default())
            .await
            .unwrap();
    }

    /// The queue that the peers read, with an exchange in front as groupmq's has.
    pub(crate) async fn declare_peers(&self, prefix: &str) {
        let exchange = format!("{prefix}.bare");
        let queue = format!("{prefix}.bare-commands");
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let none = FieldTable::default;
        let kind = ExchangeKind::Topic;
        self.channel
            .exchange_declare(exchange.as_str().into(), kind, durable, none())
            .await
            .unwrap();
        self.queue(&queue).await;
        let (bind, key) = (QueueBindOptions::default(), "#".into());
        self.channel
            .queue_bind(queue.into(), exchange.into(), key, bind, none())
            .await
            .unwrap();
    }

    pub(crate) async fn create_groups(&self, prefix: &str) -> Vec<String> {
        let mut replies = self.replies(prefix).await;
        for number in 0..GROUPS {
            let body = json!({
                "id": format!("create-{number}"), "type": "CreateGroup", "session": "default",
                "payload": { "name": format!("Group {number}"), "participants": [] },
            });
            self.publish(prefix, &format!("{prefix}.commands"), body.to_string())
                .await;
        }
        let mut groups = Vec::with_capacity(GROUPS);
        while groups.len() < GROUPS {
            let reply = replies.next().await.unwrap().unwrap();
            let reply: Value = serde_json::from_slice(&reply.data).unwrap();
            if let Some(id) = reply["result"]["id"].as_str() {
                groups.push(id.to_owned());
            }
        }
        self.cancel(&replies).await;
        groups
    }

    /// Queues commands, so that they wait when the clock starts.
    pub(crate) async fn fill(
        &self,
        prefix: &str,
        exchange: &str,
        groups: &[String],
        kind: Kind,
        count: usize,
        body: fn(&Value) -> String,
    ) {
        let mut confirms = Vec::with_capacity(count);
        for number in 0..count {
            let group = &groups[number % groups.len()];
            let body = body(&command(kind, group, number));
            confirms.push(self.publish(prefix, exchange, body).await);
        }
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }

    pub(crate) async fn publish(
        &self,
        prefix: &str,
        exchange: &str,
        body: String,
    ) -> lapin::PublisherConfirm {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_reply_to(reply_queue(prefix).into())
            .with_correlation_id("bench".into());
        let options = BasicPublishOptions::default();
        let key = "default".into();
        self.channel
            .basic_publish(exchange.into(), key, options, body.as_bytes(), properties)
            .await
            .unwrap()
    }

    pub(crate) async fn clean_up(&self, prefix: &str) {
        let own = ["bare-commands", "commands.0", "dead.commands"];
        let own = own.map(|queue| format!("{prefix}.{queue}"));
        for name in own.into_iter().chain([reply_queue(prefix)]) {
            self.channel
                .queue_delete(name.into(), QueueDeleteOptions::default())
                .await
                .unwrap();
        }
        for exchange in ["bare", "commands", "replies", "events", "dead"] {
            let name = format!("{prefix}.{exchange}");
            let options = ExchangeDeleteOptions::default();
            self.channel
                .exchange_delete(name.into(), options)
                .await
                .unwrap();
        }
    }
}

pub(crate) fn command(kind: Kind, group: &str, number: usize) -> Value {
    let (name, payload) = match kind {
        Kind::Change => {
            let subject = format!("Subject {number} {}", Uuid::new_v4());
            (
                "SetGroupSubject",
                json!({ "groupId": group, "subject": subject }),
            )
        }
        Kind::Read => ("GetGroup", json!({ "groupId": group })),
    };
    json!({ "id": Uuid::now_v7(), "type": name, "session": "default", "payload": payload })
}
