//! The messages of the AsyncAPI document, and the schemas that they share.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{BINDING, summary};
use crate::contract::schema::{Error, event_schema, examples, notice_schema};
use crate::contract::{CommandType, Envelope, ErrorBody, ErrorCode, EventName, NoticeName, Reply};

/// What goes under `components`.
pub(super) struct Messages {
    /// All messages, by name.
    pub(super) messages: Map<String, Value>,
    /// The schemas that they refer to, by name.
    pub(super) schemas: Map<String, Value>,
}

/// Describes every command, reply and event.
pub(super) fn all() -> Result<Messages, Error> {
    let mut schemas = Schemas::new();
    let mut messages = Map::new();
    for &command in CommandType::ALL {
        let name = command.as_str();
        messages.insert(name.to_owned(), command_message(command, &mut schemas)?);
        messages.insert(
            format!("{name}Reply"),
            reply_message(command, &mut schemas)?,
        );
    }
    messages.insert("ErrorReply".to_owned(), refusal_message(&mut schemas)?);
    for &name in EventName::ALL {
        let schema = schemas.writing(|generator| event_schema(name, generator));
        let (event, example) = (name.as_str(), examples::event(name)?);
        let message = event_message(event, name.meaning(), &schema, &example);
        messages.insert(event.to_owned(), message);
    }
    for &name in NoticeName::ALL {
        if name.is_on_the_exchange() {
            let schema = schemas.writing(|generator| notice_schema(name, generator));
            let (event, example) = (name.as_str(), examples::notice(name)?);
            let message = event_message(event, name.meaning(), &schema, &example);
            messages.insert(event.to_owned(), message);
        }
    }
    let schemas = schemas.take();
    Ok(Messages { messages, schemas })
}

fn command_message(command: CommandType, schemas: &mut Schemas) -> Result<Value, Error> {
    let name = command.as_str();
    let payload = schemas.reading(|generator| command.payload_schema(generator));
    let needed = payload.get("required").is_some();
    schemas.name(&format!("{name}Payload"), payload);
    let mut envelope = schemas.reading(Envelope::json_schema).to_value();
    let named = json!({ "description": "Which command it is.", "const": name });
    set(&mut envelope, "type", named);
    let payload = json!({ "$ref": format!("#/components/schemas/{name}Payload") });
    set(&mut envelope, "payload", payload);
    if let (true, Some(fields)) = (needed, envelope.as_object_mut()) {
        fields.insert("required".to_owned(), json!(["payload"]));
    }
    Ok(json!({
        "name": name,
        "title": name,
        "summary": summary(command),
        "contentType": "application/json",
        "headers": properties(&[
            ("message_id", "Stands in for `id` of the body."),
            ("type", "Stands in for `type` of the body."),
            ("reply_to", "The queue for the reply."),
            ("correlation_id", "Repeated in the reply."),
        ]),
        "correlationId": {
            "description": "The reply bears the same.",
            "location": "$message.header#/correlation_id",
        },
        "payload": envelope,
        "bindings": { "amqp": { "messageType": name, "bindingVersion": BINDING } },
        "examples": [{
            "name": name,
            "summary": examples::description(command)?,
            "headers": { "reply_to": "amq.rabbitmq.reply-to", "correlation_id": "1" },
            "payload": examples::command(command)?,
        }],
    }))
}

/// AMQP properties, which AsyncAPI has no other place for.
fn properties(list: &[(&str, &str)]) -> Value {
    let describe = |&(name, description): &(&str, &str)| {
        let schema = json!({ "type": "string", "description": description });
        (name.to_owned(), schema)
    };
    json!({
        "type": "object",
        "description": "AMQP properties (not entries of the `headers` table).",
        "properties": list.iter().map(describe).collect::<Map<_, _>>(),
    })
}

fn reply_message(command: CommandType, schemas: &mut Schemas) -> Result<Value, Error> {
    let name = command.as_str();
    let mut schema = reply_schema("ok", "result", "error", schemas);
    set(&mut schema, "type", json!({ "const": name }));
    let result = schemas.writing(|generator| command.result_schema(generator));
    set(&mut schema, "result", result.to_value());
    let example = examples::reply(command)?;
    Ok(reply_like(
        &format!("{name}Reply"),
        &format!("{name} was done"),
        "`result` says what it came to.",
        &schema,
        [json!({ "name": "done", "payload": example })],
    ))
}

fn refusal_message(schemas: &mut Schemas) -> Result<Value, Error> {
    let mut schema = reply_schema("error", "error", "result", schemas);
    let error = schemas.writing(SchemaGenerator::subschema_for::<ErrorBody>);
    set(&mut schema, "error", error.to_value());
    let mut shown = Vec::new();
    for &code in ErrorCode::ALL {
        shown.push(json!({ "name": code.as_str(), "payload": examples::refusal(code)? }));
    }
    Ok(reply_like(
        "ErrorReply",
        "A command was not done",
        &codes(),
        &schema,
        shown,
    ))
}

/// The error codes as a table.
fn codes() -> String {
    let head = "| code | again? | cause | what to do |\n|---|---|---|---|\n";
    let row = |code: &ErrorCode| {
        let again = if code.retryable() { "later" } else { "no" };
        let (name, cause, remedy) = (code.as_str(), code.cause(), code.remedy());
        format!("| `{name}` | {again} | {cause} | {remedy} |\n")
    };
    head.to_owned() + &ErrorCode::ALL.iter().map(row).collect::<String>()
}

/// The reply's schema for one status: without the field that belongs to the other.
fn reply_schema(status: &str, with: &str, without: &str, schemas: &mut Schemas) -> Value {
    let mut schema = schemas.writing(Reply::json_schema).to_value();
    set(&mut schema, "status", json!({ "const": status }));
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("oneOf");
        if let Some(required) = fields.get_mut("required").and_then(Value::as_array_mut) {
            required.push(json!(with));
        }
        if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
            properties.shift_remove(without);
        }
    }
    schema
}

fn reply_like(
    name: &str,
    title: &str,
    description: &str,
    payload: &Value,
    examples: impl IntoIterator<Item = Value>,
) -> Value {
    json!({
        "name": name,
        "title": title,
        "description": description,
        "contentType": "application/json",
        "headers": properties(&[
            ("message_id", "The reply's id."),
            ("type", "The command's type."),
            ("correlation_id", "The command's own."),
        ]),
        "correlationId": {
            "description": "The command's own.",
            "location": "$message.header#/correlation_id",
        },
        "payload": payload,
        "bindings": { "amqp": { "bindingVersion": BINDING } },
        "examples": examples.into_iter().collect::<Value>(),
    })
}

fn event_message(event: &str, meaning: &str, schema: &Schema, example: &Value) -> Value {
    json!({
        "name": event,
        "title": event,
        "summary": meaning,
        "contentType": "application/json",
        "headers": properties(&[
            ("message_id", "The event's id."),
            ("type", "The event's name."),
        ]),
        "payload": schema.as_value(),
        "bindings": { "amqp": { "messageType": event, "bindingVersion": BINDING } },
        "examples": [{ "name": event, "payload": example }],
    })
}

/// Replaces the schema of one property.
fn set(schema: &mut Value, property: &str, with: Value) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(property.to_owned(), with);
    }
}

/// Makes schemas that share `#/components/schemas`.
///
/// What producers write and what consumers read are described by two generators (as in the schema
/// files); the definitions that both need are texts, and the same in both.
struct Schemas {
    reading: SchemaGenerator,
    writing: SchemaGenerator,
    named: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft07().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self {
            reading: settings.clone().for_deserialize().into_generator(),
            writing: settings.for_serialize().into_generator(),
            named: Map::new(),
        }
    }

    fn reading(&mut self, make: impl FnOnce(&mut SchemaGenerator) -> Schema) -> Schema {
        made(&mut self.reading, make)
    }

    fn writing(&mut self, make: impl FnOnce(&mut SchemaGenerator) -> Schema) -> Schema {
        made(&mut self.writing, make)
    }

    fn name(&mut self, name: &str, schema: Schema) {
        self.named.insert(name.to_owned(), schema.to_value());
    }

    /// All that were named, and all that the generators collected on the way.
    fn take(mut self) -> Map<String, Value> {
        let mut schemas = self.named;
        schemas.extend(self.reading.take_definitions(true));
        schemas.extend(self.writing.take_definitions(true));
        schemas
    }
}

fn made(
    generator: &mut SchemaGenerator,
    make: impl FnOnce(&mut SchemaGenerator) -> Schema,
) -> Schema {
    let mut schema = make(generator);
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    schema
}
