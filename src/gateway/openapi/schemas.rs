//! The schemas that the paths refer to: the contract's, and two of the gateway.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::contract::schema::{self, Error};
use crate::contract::{CommandId, CommandType, Event, GroupId, Reply, SessionName};
use crate::gateway::pictures;
use crate::gateway::problem::ProblemDetails;
use crate::gateway::routes::{self, BodyRule, ParameterKind, Route};
use crate::gateway::status::Status;

/// The location of schemas in the document.
const PLACE: &str = "/components/schemas";

/// The schemas of the document.
#[derive(Debug)]
pub(super) struct Schemas {
    /// Components, by name.
    pub(super) components: Map<String, Value>,
    /// Fields of payloads that are query parameters, by command and name.
    parameters: Map<String, Value>,
}

impl Schemas {
    /// The schema of a parameter.
    pub(super) fn parameter(&self, command: CommandType, name: &str) -> Option<&Value> {
        self.parameters.get(command.as_str())?.get(name)
    }
}

/// The name of the schema of a command's body.
pub(super) fn body_name(route: Route) -> String {
    format!("{}Request", route.command.as_str())
}

/// The name of the schema of a command's result.
pub(super) fn result_name(route: Route) -> String {
    format!("{}Result", route.command.as_str())
}

/// Generates all schemas.
pub(super) fn all() -> Result<Schemas, Error> {
    let at_place = |settings: SchemaSettings| {
        let settings = settings.with(|it| it.definitions_path = PLACE.into());
        settings.into_generator()
    };
    let mut reading = at_place(SchemaSettings::draft2020_12().for_deserialize());
    let mut writing = at_place(SchemaSettings::draft2020_12().for_serialize());
    let mut components = Map::new();
    let mut parameters = Map::new();
    for route in routes::all() {
        let command = route.command;
        let examples = schema::shown(command)?;
        let payload = command.payload_schema(&mut reading).to_value();
        parameters.insert(command.as_str().to_owned(), query(route, &payload));
        if route.body() != BodyRule::None {
            let body = body(route, payload, &examples.payload);
            components.insert(body_name(route), body);
        }
        let result = command.result_schema(&mut writing).to_value();
        let result = with_example(result, &examples.result);
        components.insert(result_name(route), result);
    }
    writing.subschema_for::<Reply>();
    writing.subschema_for::<Event>();
    writing.subschema_for::<Status>();
    writing.subschema_for::<ProblemDetails>();
    writing.subschema_for::<SessionName>();
    writing.subschema_for::<GroupId>();
    writing.subschema_for::<CommandId>();
    // A name means the same in both: only payloads differ between reading and writing, and these are not
    // definitions.
    components.extend(definitions(reading));
    components.extend(definitions(writing));
    Ok(Schemas {
        components,
        parameters,
    })
}

fn definitions(mut generator: SchemaGenerator) -> Map<String, Value> {
    generator.take_definitions(true)
}

/// The payload without the fields of path and query. Additional fields are allowed where the path is WAHA's,
/// as the requests are read: WAHA ignores what it does not know.
fn body(route: Route, mut payload: Value, example: &Value) -> Value {
    if let Some(payload) = payload.as_object_mut()
        && route.command.endpoint().is_some()
    {
        payload.shift_remove("additionalProperties");
    }
    let mut example = example.clone();
    pictures::schema_in_waha(route.command, &mut payload, &mut example);
    let not_group = |name: &Value| name != "groupId";
    if let Some(fields) = payload.get_mut("properties").and_then(Value::as_object_mut) {
        fields.shift_remove("groupId");
    }
    if let Some(required) = payload.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(not_group);
    }
    if payload.get("required") == Some(&json!([]))
        && let Some(payload) = payload.as_object_mut()
    {
        payload.shift_remove("required");
    }
    // A body of unknown fields only is refused.
    if route.body() == BodyRule::Optional
        && let Some(payload) = payload.as_object_mut()
        && let Some(fields) = payload.get("properties").and_then(Value::as_object)
    {
        let none = std::iter::once(json!({ "maxProperties": 0 }));
        let known = fields.keys().map(|name| json!({ "required": [name] }));
        let either = none.chain(known).collect();
        payload.insert("anyOf".to_owned(), Value::Array(either));
    }
    if let Some(fields) = example.as_object_mut() {
        fields.shift_remove("groupId");
    }
    with_example(payload, &example)
}

fn query(route: Route, payload: &Value) -> Value {
    let in_path = ["lid", "phone"].into_iter().filter_map(|name| {
        let schema = payload.get("properties")?.get(name)?;
        Some((name.to_owned(), schema.clone()))
    });
    let fields = route.parameters().iter().filter_map(|parameter| {
        let schema = payload.get("properties")?.get(parameter.name)?;
        let mut schema = never_null(schema.clone());
        if parameter.kind == ParameterKind::Bound
            && let Some(schema) = schema.as_object_mut()
        {
            let words = json!("Maximum number of groups; absent or 0 means all.");
            schema.insert("minimum".to_owned(), json!(0));
            schema.insert("description".to_owned(), words);
        }
        Some((parameter.name.to_owned(), schema))
    });
    Value::Object(in_path.chain(fields).collect())
}

/// Removes null from the type: a parameter is absent, never null.
fn never_null(mut schema: Value) -> Value {
    let null = |kind: &Value| kind == "null";
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| !null(kind));
        if let [kind] = kinds.as_slice() {
            let kind = kind.clone();
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("type".to_owned(), kind);
            }
        }
    }
    schema
}

fn with_example(mut schema: Value, example: &Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("examples".to_owned(), json!([example]));
    }
    schema
}
