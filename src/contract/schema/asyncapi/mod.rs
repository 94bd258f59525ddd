//! The AsyncAPI 3.0 document: `template.json` filled in from the contract's types. The broker's exchanges are
//! its channels, each command is an operation with its reply, each event a message.
//!
//! The schemas in it are those of `schemas/*.json`, in draft 07, which is what AsyncAPI's own schema
//! format extends. The names of exchanges are those of the default prefix.

use schemars::SchemaGenerator;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::Error;
use crate::contract::{CommandType, EventName, NoticeName, Repeat, VERSION};

mod messages;

use messages::Messages;

/// `template.json`: all prose and fixed structure, with null where a value is filled in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Template {
    document: Value,
    command_operation: Value,
    command_message: Value,
    reply_message: Value,
    event_message: Value,
}

/// The whole document.
pub(super) fn document() -> Result<Value, Error> {
    let template: Template = serde_json::from_str(include_str!("template.json")).map_err(broken)?;
    let Messages { messages, schemas } = messages::all(&template)?;
    let commands = CommandType::ALL.iter().map(|it| it.as_str());
    let types: Vec<_> = commands.clone().chain(["~"]).collect();
    let events = event_names();
    filled(
        &template.document,
        [
            ("/info/version", json!(format!("{VERSION}.0.0"))),
            (
                "/channels/commands/messages",
                message_map(commands.map(str::to_owned)),
            ),
            ("/channels/replyTo/messages", message_map(reply_names())),
            ("/channels/replies/messages", message_map(reply_names())),
            ("/channels/replies/parameters/type/enum", json!(types)),
            (
                "/channels/events/messages",
                message_map(events.iter().map(|&name| name.to_owned())),
            ),
            ("/channels/events/parameters/event/enum", json!(events)),
            ("/operations", operations(&template)?),
            ("/components/messages", Value::Object(messages)),
            ("/components/schemas", Value::Object(schemas)),
        ],
    )
}

fn broken(error: serde_json::Error) -> Error {
    Error::Json("asyncapi.yaml".to_owned(), error)
}

/// A part of the template with values at these JSON pointers.
fn filled<const N: usize>(part: &Value, values: [(&str, Value); N]) -> Result<Value, Error> {
    let mut part = part.clone();
    for (pointer, value) in values {
        let place = part.pointer_mut(pointer).ok_or_else(|| {
            broken(serde_json::Error::custom(format!(
                "no {pointer} in the template"
            )))
        })?;
        *place = value;
    }
    Ok(part)
}

fn event_names() -> Vec<&'static str> {
    let on_exchange = NoticeName::ALL.iter().filter(|it| it.is_on_the_exchange());
    let notices = on_exchange.map(|it| it.as_str());
    EventName::ALL
        .iter()
        .map(|it| it.as_str())
        .chain(notices)
        .collect()
}

fn reply_names() -> impl Iterator<Item = String> {
    let done = CommandType::ALL
        .iter()
        .map(|command| format!("{}Reply", command.as_str()));
    done.chain(["ErrorReply".to_owned()])
}

fn message_map(names: impl Iterator<Item = String>) -> Value {
    let reference = |name: String| {
        let reference = json!({ "$ref": format!("#/components/messages/{name}") });
        (name, reference)
    };
    Value::Object(names.map(reference).collect())
}

/// The commands' operations, before those of the template.
fn operations(template: &Template) -> Result<Value, Error> {
    let mut operations = Map::new();
    for &command in CommandType::ALL {
        let operation = command_operation(command, template)?;
        operations.insert(command.as_str().to_owned(), operation);
    }
    let fixed = template.document["operations"].as_object();
    operations.extend(fixed.cloned().unwrap_or_default());
    Ok(Value::Object(operations))
}

fn command_operation(command: CommandType, template: &Template) -> Result<Value, Error> {
    let name = command.as_str();
    let repeat = match command.repeat() {
        Repeat::ReadOnly => "It changes nothing.",
        Repeat::Harmless => "With a new id it may be repeated without harm.",
        Repeat::Harmful => "With a new id it has a second effect; repeat it with the same id.",
    };
    let description = match (command.endpoint(), command.own_endpoint()) {
        (Some(waha), _) => format!("`{waha}` in WAHA. {repeat}"),
        (None, Some(own)) => format!("`{own}` on the gateway; WAHA has nothing like it. {repeat}"),
        (None, None) => repeat.to_owned(),
    };
    let messages = json!([{ "$ref": format!("#/channels/commands/messages/{name}") }]);
    let replies = json!([
        { "$ref": format!("#/channels/replyTo/messages/{name}Reply") },
        { "$ref": "#/channels/replyTo/messages/ErrorReply" },
    ]);
    filled(
        &template.command_operation,
        [
            ("/title", json!(name)),
            ("/summary", json!(summary(command))),
            ("/description", json!(description)),
            ("/messages", messages),
            ("/reply/messages", replies),
        ],
    )
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
