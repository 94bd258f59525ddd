//! Conversion between our messages and AMQP's properties.

use std::time::{SystemTime, UNIX_EPOCH};

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::message::{Incoming, Outgoing};

/// AMQP's delivery mode 2: stored on disk.
const PERSISTENT: u8 = 2;

/// A short string (at most 255 bytes); a longer text is cut at a character boundary.
///
/// lapin's own conversion panics instead. Our own values are always shorter; forwarded ones were short
/// strings before.
pub(super) fn short(text: &str) -> ShortString {
    let end = text.floor_char_boundary(255);
    ShortString::try_new(text.get(..end).unwrap_or_default()).unwrap_or_default()
}

pub(super) fn outgoing(message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(short(name), AMQPValue::LongString(value.as_str().into()));
    }
    let content_type = message.content_type.as_deref();
    let mut properties = BasicProperties::default()
        .with_content_type(short(content_type.unwrap_or("application/json")))
        .with_delivery_mode(PERSISTENT)
        .with_app_id(short("groupmq"))
        .with_timestamp(message.published_at.unwrap_or_else(seconds_since_1970));
    if !message.headers.is_empty() {
        properties = properties.with_headers(headers);
    }
    // Empty values are omitted, since an empty string is a value too.
    if !message.message_id.is_empty() {
        properties = properties.with_message_id(short(&message.message_id));
    }
    if !message.message_type.is_empty() {
        properties = properties.with_type(short(&message.message_type));
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(short(id));
    }
    if let Some(encoding) = &message.content_encoding {
        properties = properties.with_content_encoding(short(encoding));
    }
    if let Some(queue) = &message.reply_to {
        properties = properties.with_reply_to(short(queue));
    }
    properties
}

#[expect(
    clippy::disallowed_methods,
    reason = "AMQP's timestamp is about the wire, not about us"
)]
pub(super) fn seconds_since_1970() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

pub(super) fn incoming(delivery: Delivery) -> Incoming {
    let properties = &delivery.properties;
    let text = |field: &Option<ShortString>| field.as_ref().map(ToString::to_string);
    let headers = properties
        .headers()
        .iter()
        .flat_map(FieldTable::inner)
        .filter_map(|(name, value)| Some((name.to_string(), header_text(value)?)))
        .collect();
    Incoming {
        exchange: delivery.exchange.to_string(),
        routing_key: delivery.routing_key.to_string(),
        message_id: text(properties.message_id()),
        message_type: text(properties.kind()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        published_at: *properties.timestamp(),
        headers,
        redelivered: delivery.redelivered,
        body: delivery.data,
    }
}

fn header_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        AMQPValue::LongLongInt(number) => Some(number.to_string()),
        AMQPValue::LongUInt(number) => Some(number.to_string()),
        AMQPValue::ShortInt(number) => Some(number.to_string()),
        AMQPValue::Boolean(flag) => Some(flag.to_string()),
        AMQPValue::Timestamp(seconds) => Some(seconds.to_string()),
        _ => None,
    }
}
