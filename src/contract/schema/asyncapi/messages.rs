//! The messages of the AsyncAPI document, and the schemas that they share.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{Template, filled, summary};
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
pub(super) fn all(template: &Template) -> Result<Messages, Error> {
    let mut schemas = Schemas::new();
    let mut messages = Map::new();
    for &command in CommandType::ALL {
        let name = command.as_str();
        messages.insert(
            name.to_owned(),
            command_message(command, template, &mut schemas)?,
        );
        messages.insert(
            format!("{name}Reply"),
            reply_message(command, template, &mut schemas)?,
        );
    }
    messages.insert(
        "ErrorReply".to_owned(),
        refusal_message(template, &mut schemas)?,
    );
    for &name in EventName::ALL {
        let schema = schemas.writing(|generator| event_schema(name, generator));
        let (event, example) = (name.as_str(), examples::event(name)?);
        let message = event_message(event, name.meaning(), &schema, example, template)?;
        messages.insert(event.to_owned(), message);
    }
    for &name in NoticeName::ALL {
        if name.is_on_the_exchange() {
            let schema = schemas.writing(|generator| notice_schema(name, generator));
            let (event, example) = (name.as_str(), examples::notice(name)?);
            let message = event_message(event, name.meaning(), &schema, example, template)?;
            messages.insert(event.to_owned(), message);
        }
    }
    let schemas = schemas.take();
    Ok(Messages { messages, schemas })
}

fn command_message(
    command: CommandType,
    template: &Template,
    schemas: &mut Schemas,
) -> Result<Value, Error> {
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
    filled(
        &template.command_message,
        [
            ("/name", json!(name)),
            ("/title", json!(name)),
            ("/summary", json!(summary(command))),
            ("/payload", envelope),
            ("/bindings/amqp/messageType", json!(name)),
            ("/examples/0/name", json!(name)),
            (
                "/examples/0/summary",
                json!(examples::description(command)?),
            ),
            ("/examples/0/payload", examples::command(command)?),
        ],
    )
}

fn reply_message(
    command: CommandType,
    template: &Template,
    schemas: &mut Schemas,
) -> Result<Value, Error> {
    let name = command.as_str();
    let mut schema = reply_schema("ok", "result", "error", schemas);
    set(&mut schema, "type", json!({ "const": name }));
    let result = schemas.writing(|generator| command.result_schema(generator));
    set(&mut schema, "result", result.to_value());
    let example = examples::reply(command)?;
    let title = format!("{name} was done");
    let shown = json!([{ "name": "done", "payload": example }]);
    filled(
        &template.reply_message,
        [
            ("/name", json!(format!("{name}Reply"))),
            ("/title", json!(title)),
            ("/description", json!("`result` says what it came to.")),
            ("/payload", schema),
            ("/examples", shown),
        ],
    )
}

fn refusal_message(template: &Template, schemas: &mut Schemas) -> Result<Value, Error> {
    let mut schema = reply_schema("error", "error", "result", schemas);
    let error = schemas.writing(SchemaGenerator::subschema_for::<ErrorBody>);
    set(&mut schema, "error", error.to_value());
    let mut shown = Vec::new();
    for &code in ErrorCode::ALL {
        shown.push(json!({ "name": code.as_str(), "payload": examples::refusal(code)? }));
    }
    filled(
        &template.reply_message,
        [
            ("/name", json!("ErrorReply")),
            ("/title", json!("A command was not done")),
            ("/description", json!(codes())),
            ("/payload", schema),
            ("/examples", json!(shown)),
        ],
    )
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

fn event_message(
    event: &str,
    meaning: &str,
    schema: &Schema,
    example: Value,
    template: &Template,
) -> Result<Value, Error> {
    filled(
        &template.event_message,
        [
            ("/name", json!(event)),
            ("/title", json!(event)),
            ("/summary", json!(meaning)),
            ("/payload", schema.as_value().clone()),
            ("/bindings/amqp/messageType", json!(event)),
            ("/examples/0/name", json!(event)),
            ("/examples/0/payload", example),
        ],
    )
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
