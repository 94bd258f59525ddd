//! What lies on the broker, looked at with a client of our own.

use lapin::options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Map, Value, json};

use super::scene::Scene;

async fn channel(scene: &Scene) -> (Connection, Channel) {
    let connecting = Connection::connect(&scene.url, ConnectionProperties::default());
    let connection = connecting.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// How many messages wait in a queue, by the end of its name.
pub(crate) async fn queue_length(scene: &Scene, queue: &str) -> u32 {
    let (connection, channel) = channel(scene).await;
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let name = format!("{}.{queue}", scene.prefix);
    let found = channel.queue_declare(name.into(), options, FieldTable::default());
    let length = found.await.unwrap().message_count();
    connection.close(200, "".into()).await.unwrap();
    length
}

/// Deletes a queue with what is in it, by the end of its name.
pub(crate) async fn delete_queue(scene: &Scene, queue: &str) {
    let (connection, channel) = channel(scene).await;
    let name = format!("{}.{queue}", scene.prefix);
    let options = QueueDeleteOptions::default();
    channel.queue_delete(name.into(), options).await.unwrap();
    connection.close(200, "".into()).await.unwrap();
}

/// Takes what was given up: each letter's text headers, `messageId` and `body`.
pub(crate) async fn letters(scene: &Scene) -> Vec<Value> {
    let (connection, channel) = channel(scene).await;
    let queue = format!("{}.dead.webhooks", scene.prefix);
    let options = BasicGetOptions { no_ack: true };
    let mut letters = Vec::new();
    while let Some(got) = channel
        .basic_get(queue.as_str().into(), options)
        .await
        .unwrap()
    {
        let mut letter = Map::new();
        for (name, value) in got.properties.headers().iter().flat_map(FieldTable::inner) {
            if let AMQPValue::LongString(text) = value {
                letter.insert(name.to_string(), json!(text.to_string()));
            }
        }
        let id = got
            .properties
            .message_id()
            .as_ref()
            .map(ToString::to_string);
        letter.insert("messageId".to_owned(), json!(id));
        let body = String::from_utf8(got.delivery.data).unwrap();
        letter.insert("body".to_owned(), json!(body));
        letters.push(Value::Object(letter));
    }
    connection.close(200, "".into()).await.unwrap();
    letters
}

/// Whether a queue is there, by the end of its name.
pub(crate) async fn has_queue(scene: &Scene, queue: &str) -> bool {
    let (connection, channel) = channel(scene).await;
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let name = format!("{}.{queue}", scene.prefix);
    let found = channel.queue_declare(name.into(), options, FieldTable::default());
    let found = found.await.is_ok();
    connection.close(200, "".into()).await.unwrap();
    found
}
