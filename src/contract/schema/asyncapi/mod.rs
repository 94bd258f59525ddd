//! The AsyncAPI 3.0 document: the broker's exchanges as channels, each command as an operation with
//! its reply, each event as a message.
//!
//! The schemas in it are those of `schemas/*.json`, in draft 07, which is what AsyncAPI's own schema
//! format extends. The names of exchanges are those of the default prefix.

use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::Error;
use crate::contract::{CommandType, EventName, NoticeName, Repeat};

mod messages;

use messages::Messages;

const BINDING: &str = "0.3.0";

/// The whole document.
pub(super) fn document() -> Result<Value, Error> {
    let Messages { messages, schemas } = messages::all()?;
    Ok(json!({
        "asyncapi": "3.0.0",
        "id": "urn:groupmq",
        "info": info(),
        "defaultContentType": "application/json",
        "servers": servers(),
        "channels": channels(),
        "operations": operations(),
        "components": {
            "messages": messages,
            "schemas": schemas,
            "securitySchemes": {
                "password": {
                    "type": "userPassword",
                    "description": "A RabbitMQ user. Topic permissions on groupmq.commands confine it to sessions, since the routing key is the session.",
                },
            },
        },
    }))
}

fn info() -> Value {
    json!({
        "title": "groupmq",
        "version": format!("{}.0.0", crate::contract::VERSION),
        "description": "\
    Manage WhatsApp groups from a RabbitMQ queue: publish a command, receive its reply and the events \
    that it caused.\n\n\
    A command has one effect per session and id, however often it is delivered: sent again, it gets the \
    stored reply with `replayed: true`. Commands of one group are carried out in the order they arrived. \
    Replies and events may arrive more than once; their `id` is then the same.\n\n\
    `id`, `type` and `session` of a command may come from the AMQP properties `message_id` and `type` \
    and from the routing key instead; where both are given they must agree. A command may also be \
    published straight to a command queue through the default exchange; then the body names the session.",
        "license": {
            "name": "MIT OR Apache-2.0",
            "url": "https://spdx.org/licenses/MIT.html",
        },
        "tags": [{ "name": "whatsapp" }, { "name": "groups" }, { "name": "rabbitmq" }],
    })
}

fn servers() -> Value {
    let server = |protocol: &str, host: &str, description: &str| {
        json!({
            "host": host,
            "pathname": "/",
            "protocol": protocol,
            "protocolVersion": "0.9.1",
            "description": description,
            "security": [{ "$ref": "#/components/securitySchemes/password" }],
        })
    };
    json!({
        "amqp": server("amqp", "localhost:5672", "RabbitMQ 3.10 or later, virtual host `/`."),
        "amqps": server("amqps", "localhost:5671", "The same over TLS."),
    })
}

fn channels() -> Value {
    json!({
        "commands": commands_channel(),
        "replyTo": {
            "address": null,
            "title": "Replies to whoever asked",
            "description": "The queue that the command's `reply_to` names (`amq.rabbitmq.reply-to` included), through the default exchange.",
            "messages": message_map(reply_names()),
            "bindings": { "amqp": {
                "is": "routingKey",
                "exchange": { "name": "", "type": "default", "vhost": "/" },
                "bindingVersion": BINDING,
            } },
        },
        "replies": replies_channel(),
        "events": events_channel(),
    })
}

fn session() -> Value {
    json!({
        "description": "One WhatsApp account, by name: 1 to 64 letters, digits, '_' or '-'.",
        "default": "default",
    })
}

fn commands_channel() -> Value {
    let names = CommandType::ALL
        .iter()
        .map(|command| command.as_str().to_owned());
    json!({
        "address": "{session}",
        "title": "Commands",
        "description": "The routing key is the session.",
        "parameters": { "session": session() },
        "messages": message_map(names),
        "bindings": exchange("groupmq.commands"),
    })
}

fn replies_channel() -> Value {
    let types = CommandType::ALL.iter().map(|command| command.as_str());
    let types: Vec<_> = types.chain(["~"]).collect();
    json!({
        "address": "{session}.{type}.{status}",
        "title": "All replies",
        "description": "Every reply, whether somebody asked for it or not. In the routing key `~` stands for a session or type that could not be read.",
        "parameters": {
            "session": session(),
            "type": { "description": "The command's type, or `~`.", "enum": types },
            "status": { "description": "Whether it was done.", "enum": ["ok", "error"] },
        },
        "messages": message_map(reply_names()),
        "bindings": exchange("groupmq.replies"),
    })
}

fn events_channel() -> Value {
    let notices = NoticeName::ALL
        .iter()
        .filter(|notice| notice.is_on_the_exchange())
        .map(|notice| notice.as_str());
    let names: Vec<_> = EventName::ALL
        .iter()
        .map(|event| event.as_str())
        .chain(notices)
        .collect();
    json!({
        "address": "{session}.{event}",
        "title": "Events",
        "description": "Every change in a group, and what becomes of webhook endpoints; there, `~` stands for the session of an endpoint that belongs to none. Bind with `default.group.#` for all of a session, or `*.group.join` for one kind of all.",
        "parameters": {
            "session": session(),
            "event": { "description": "What happened.", "enum": names },
        },
        "messages": message_map(names.iter().map(|&name| name.to_owned())),
        "bindings": exchange("groupmq.events"),
    })
}

fn reply_names() -> impl Iterator<Item = String> {
    let done = CommandType::ALL
        .iter()
        .map(|command| format!("{}Reply", command.as_str()));
    done.chain(["ErrorReply".to_owned()])
}

fn message_map(names: impl Iterator<Item = String>) -> Map<String, Value> {
    names
        .map(|name| {
            let reference = json!({ "$ref": format!("#/components/messages/{name}") });
            (name, reference)
        })
        .collect()
}

fn exchange(name: &str) -> Value {
    json!({ "amqp": {
        "is": "routingKey",
        "exchange": {
            "name": name, "type": "topic", "durable": true, "autoDelete": false, "vhost": "/",
        },
        "bindingVersion": BINDING,
    } })
}

fn operations() -> Map<String, Value> {
    let mut operations: Map<String, Value> = CommandType::ALL
        .iter()
        .map(|&command| (command.as_str().to_owned(), command_operation(command)))
        .collect();
    let send = |channel: &str, summary: &str| {
        json!({
            "action": "send",
            "channel": { "$ref": format!("#/channels/{channel}") },
            "title": summary,
            "summary": summary,
            "bindings": { "amqp": { "deliveryMode": 2, "bindingVersion": BINDING } },
        })
    };
    operations.insert(
        "publishReplies".to_owned(),
        send("replies", "Publishes every reply"),
    );
    operations.insert(
        "publishEvents".to_owned(),
        send("events", "Publishes what happens in groups"),
    );
    operations
}

fn command_operation(command: CommandType) -> Value {
    let name = command.as_str();
    let repeat = match command.repeat() {
        Repeat::ReadOnly => "It changes nothing.",
        Repeat::Harmless => "With a new id it may be repeated without harm.",
        Repeat::Harmful => "With a new id it has a second effect; repeat it with the same id.",
    };
    json!({
        "action": "receive",
        "channel": { "$ref": "#/channels/commands" },
        "title": name,
        "summary": summary(command),
        "description": command
            .endpoint()
            .map_or_else(|| repeat.to_owned(), |waha| format!("`{waha}` in WAHA. {repeat}")),
        "messages": [{ "$ref": format!("#/channels/commands/messages/{name}") }],
        "bindings": { "amqp": { "deliveryMode": 2, "ack": true, "bindingVersion": BINDING } },
        "reply": {
            "address": {
                "description": "The AMQP property reply_to, if the producer wants the reply.",
                "location": "$message.header#/reply_to",
            },
            "channel": { "$ref": "#/channels/replyTo" },
            "messages": [
                { "$ref": format!("#/channels/replyTo/messages/{name}Reply") },
                { "$ref": "#/channels/replyTo/messages/ErrorReply" },
            ],
        },
    })
}

/// What a command does, from the first line of its payload's documentation.
fn summary(command: CommandType) -> String {
    let schema = command.payload_schema(&mut SchemaGenerator::default());
    let text = schema.get("description").and_then(Value::as_str);
    let text = text
        .and_then(|text| text.lines().next())
        .unwrap_or_default();
    let text = text.split_once(": ").map_or(text, |(_, said)| said);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}
