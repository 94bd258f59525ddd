//! The contract as documents: JSON Schemas and an AsyncAPI description, made from the types.
//!
//! Everything in `schemas/` but the examples is written from here, and a test compares. The decoder
//! checks payloads against the very same schemas. It reads and writes no files.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{CommandType, Envelope, Event, EventName, NoticeName, Reply, VERSION, WebhookNotice};

mod asyncapi;
mod examples;

/// A generated document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Where it belongs below the folder `schemas`, with `/` between the names.
    pub path: String,
    /// What it says, with a line break at the end.
    pub text: String,
}

/// A document that cannot be made; a bug in the contract's types or examples.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An embedded example is not JSON.
    #[error("an example of {0} is not JSON")]
    Example(&'static str, #[source] serde_json::Error),
    /// A document cannot be written as JSON.
    #[error("{0} cannot be written as JSON")]
    Json(String, #[source] serde_json::Error),
    /// The AsyncAPI document cannot be written as YAML.
    #[error("the AsyncAPI document cannot be written as YAML")]
    Yaml(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Every document, in the order of their paths' meaning: commands, results, replies, events, all.
///
/// # Errors
/// When one cannot be made; a test sees to it that they all can.
pub fn documents() -> Result<Vec<Document>, Error> {
    let mut documents = vec![json_document("command", &envelope()?)?];
    for &command in CommandType::ALL {
        let name = command.as_str();
        let payload = with_examples(payload(command), [examples::payload(command)?]);
        documents.push(json_document(&format!("commands/{name}"), &payload)?);
        documents.push(json_document(
            &format!("results/{name}"),
            &result(command)?,
        )?);
    }
    documents.push(json_document("reply", &reply()?)?);
    documents.push(json_document("event", &any_event()?)?);
    for &name in EventName::ALL {
        documents.push(json_document(
            &format!("events/{}", name.as_str()),
            &event(name)?,
        )?);
    }
    for &name in NoticeName::ALL {
        documents.push(json_document(
            &format!("events/{}", name.as_str()),
            &notice(name)?,
        )?);
    }
    documents.push(Document {
        path: "asyncapi.yaml".to_owned(),
        text: serde_saphyr::to_string(&asyncapi::document()?)
            .map_err(|error| Error::Yaml(Box::new(error)))?,
    });
    Ok(documents)
}

/// The JSON Schema of a command's payload, complete in itself.
#[must_use]
pub fn payload(command: CommandType) -> Value {
    let mut generator = reading().into_generator();
    let schema = command.payload_schema(&mut generator);
    let name = command.as_str();
    let title = format!("Payload of {name}");
    complete(&format!("commands:{name}"), &title, schema, generator)
}

/// What the documents show of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// A payload.
    pub payload: Value,
    /// What it came to.
    pub result: Value,
}

/// The examples of a command, for other documents than those here.
///
/// # Errors
/// When an example is not JSON; a test sees to it that they all are.
pub fn shown(command: CommandType) -> Result<Shown, Error> {
    Ok(Shown {
        payload: examples::payload(command)?,
        result: examples::result(command)?,
    })
}

/// What producers write is described as it is read: whatever has a default may be absent.
fn reading() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_deserialize()
}

/// What consumers read is described as it is written: what is always there is required.
fn writing() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_serialize()
}

fn envelope() -> Result<Value, Error> {
    let mut generator = reading().into_generator();
    let schema = Envelope::json_schema(&mut generator);
    let document = complete("command", "Command", schema, generator);
    let mut shown = Vec::new();
    for &command in CommandType::ALL {
        shown.push(examples::command(command)?);
    }
    Ok(with_examples(document, shown))
}

fn result(command: CommandType) -> Result<Value, Error> {
    let mut generator = writing().into_generator();
    let schema = command.result_schema(&mut generator);
    let name = command.as_str();
    let title = format!("Result of {name}");
    let document = complete(&format!("results:{name}"), &title, schema, generator);
    Ok(with_examples(document, [examples::result(command)?]))
}

fn reply() -> Result<Value, Error> {
    let mut generator = writing().into_generator();
    let schema = Reply::json_schema(&mut generator);
    let document = complete("reply", "Reply", schema, generator);
    let shown = [
        examples::reply(CommandType::PromoteAdmin)?,
        examples::refusal(super::ErrorCode::InvalidPayload)?,
    ];
    Ok(with_examples(document, shown))
}

fn any_event() -> Result<Value, Error> {
    let mut generator = writing().into_generator();
    let schema = Event::json_schema(&mut generator);
    let document = complete("event", "Event", schema, generator);
    Ok(with_examples(
        document,
        [examples::event(EventName::GroupJoin)?],
    ))
}

fn event(name: EventName) -> Result<Value, Error> {
    let mut generator = writing().into_generator();
    let schema = event_schema(name, &mut generator);
    let document = complete(
        &format!("events:{}", name.as_str()),
        &format!("Event {}", name.as_str()),
        schema,
        generator,
    );
    Ok(with_examples(document, [examples::event(name)?]))
}

fn notice(name: NoticeName) -> Result<Value, Error> {
    let mut generator = writing().into_generator();
    let schema = notice_schema(name, &mut generator);
    let document = complete(
        &format!("events:{}", name.as_str()),
        &format!("Event {}", name.as_str()),
        schema,
        generator,
    );
    Ok(with_examples(document, [examples::notice(name)?]))
}

/// The schema of what is told of webhook endpoints by one name.
fn notice_schema(name: NoticeName, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = WebhookNotice::json_schema(generator);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let named = json!({ "description": "What happened.", "const": name.as_str() });
        properties.insert("event".to_owned(), named);
    }
    schema
}

/// The schema of the events of one name: that name, and the payload that goes with it.
fn event_schema(name: EventName, generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Event::json_schema(generator);
    let payload = name.payload_schema(generator);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let named = json!({ "description": "What happened.", "const": name.as_str() });
        properties.insert("event".to_owned(), named);
        properties.insert("payload".to_owned(), payload.to_value());
    }
    schema
}

/// Puts the heading before a schema, and after it those definitions that it refers to.
fn complete(id: &str, title: &str, schema: Schema, mut generator: SchemaGenerator) -> Value {
    let definitions = generator.take_definitions(true);
    let mut document = Map::new();
    document.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    document.insert(
        "$id".to_owned(),
        json!(format!("urn:groupmq:schema:v{VERSION}:{id}")),
    );
    document.insert("title".to_owned(), json!(title));
    if let Value::Object(schema) = schema.to_value() {
        document.extend(schema.into_iter().filter(|(key, _)| key != "title"));
    }
    let used = used_definitions(&Value::Object(document.clone()), &definitions);
    if !used.is_empty() {
        document.insert("$defs".to_owned(), Value::Object(used));
    }
    Value::Object(document)
}

/// The definitions that a schema refers to, directly or through others, in their given order.
fn used_definitions(schema: &Value, definitions: &Map<String, Value>) -> Map<String, Value> {
    let mut names = Vec::new();
    let mut unread = vec![schema];
    while let Some(value) = unread.pop() {
        match value {
            Value::Array(values) => unread.extend(values),
            Value::Object(fields) => {
                unread.extend(fields.values());
                let reference = fields.get("$ref").and_then(Value::as_str);
                let name = reference.and_then(|to| to.rsplit('/').next());
                if let Some((name, definition)) =
                    name.and_then(|name| definitions.get_key_value(name))
                    && !names.contains(&name)
                {
                    names.push(name);
                    unread.push(definition);
                }
            }
            _ => {}
        }
    }
    let used = definitions.iter().filter(|(name, _)| names.contains(name));
    used.map(|(name, definition)| (name.clone(), definition.clone()))
        .collect()
}

fn with_examples(mut document: Value, shown: impl IntoIterator<Item = Value>) -> Value {
    if let Some(fields) = document.as_object_mut() {
        // The definitions stay last, where they disturb nobody who reads the document.
        let definitions = fields.shift_remove_entry("$defs");
        fields.insert("examples".to_owned(), shown.into_iter().collect());
        fields.extend(definitions);
    }
    document
}

fn json_document(name: &str, document: &Value) -> Result<Document, Error> {
    let path = format!("{name}.json");
    match serde_json::to_string_pretty(document) {
        Ok(text) => Ok(Document {
            path,
            text: text + "\n",
        }),
        Err(error) => Err(Error::Json(path, error)),
    }
}
