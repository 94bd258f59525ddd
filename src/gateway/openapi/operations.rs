//! The paths: one operation for each route, and those that stand in the template.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value, json};

use super::schemas::{self, Schemas};
use crate::contract::EventName;
use crate::gateway::answer::FULL_REPLY;
use crate::gateway::problem::MEDIA_TYPE;
use crate::gateway::routes::{self, BodyRule, ParameterKind, Route};

const JSON: &str = "application/json";

/// The statuses of problems that only requests with a body can have.
const BODY_PROBLEMS: &[&str] = &["408", "413", "415"];

/// `template.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Template {
    /// The document without the paths of commands; a response that is null is the problem of its status.
    pub(super) document: Value,
    /// One row for each command that has a route.
    pub(super) commands: HashMap<String, Row>,
    session: Value,
    group_id: Value,
    headers: Vec<Value>,
    success: Value,
    accepted: Value,
    /// What each status means.
    problems: Map<String, Value>,
}

/// What the document says of a command, beyond its route and schemas.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    summary: String,
    description: Option<String>,
    /// In place of the result as JSON.
    content: Option<Value>,
}

/// All paths.
pub(super) fn paths(template: &Template, schemas: &Schemas) -> serde_json::Result<Value> {
    let mut paths = json!({});
    for route in routes::all() {
        paths[route.path][route.method.to_lowercase()] = command(route, template, schemas)?;
    }
    let fixed = template.document["paths"].as_object();
    for (path, item) in fixed.into_iter().flatten() {
        let mut item = item.clone();
        let responses = item["get"]["responses"].as_object_mut();
        for (status, response) in responses.into_iter().flatten() {
            if response.is_null() {
                *response = problem(&template.problems[status]);
            }
        }
        paths[path] = item;
    }
    let names: Vec<_> = EventName::ALL.iter().map(|it| it.as_str()).collect();
    let listening = paths["/api/{session}/events"]["get"]["parameters"].as_array_mut();
    let mut parameters = listening.into_iter().flatten();
    let events = parameters.find(|it| it["name"] == "events");
    let events = events.ok_or_else(|| serde_json::Error::custom("no parameter `events`"))?;
    events["schema"]["items"]["examples"] = json!(names);
    Ok(paths)
}

fn command(route: Route, template: &Template, schemas: &Schemas) -> serde_json::Result<Value> {
    let name = route.name();
    let row = template.commands.get(&name);
    let row = row
        .ok_or_else(|| serde_json::Error::custom(format!("template.json has no row for {name}")))?;
    let more = row.description.iter().map(|more| format!(" {more}"));
    let command = route.command.as_str();
    let description = format!("The command `{command}`.{}", more.collect::<String>());
    let mut operation = json!({
        "tags": [if route.path.contains("/lids") { "Lids" } else { "Groups" }],
        "summary": row.summary,
        "description": description,
        "operationId": name,
        "parameters": parameters(route, template, schemas),
    });
    if route.body() != BodyRule::None {
        operation["requestBody"] = json!({
            "content": { JSON: content(&schemas::body_name(route)) },
            "required": route.body() == BodyRule::Required,
        });
    }
    operation["responses"] = responses(route, row, template);
    Ok(operation)
}

fn parameters(route: Route, template: &Template, schemas: &Schemas) -> Vec<Value> {
    let mut parameters = vec![template.session.clone()];
    if route.has("groupId") {
        parameters.push(template.group_id.clone());
    }
    for name in ["lid", "phone"] {
        if route.has(name) {
            let schema = schemas.parameter(route.command, name);
            parameters.push(json!({
                "name": name,
                "in": "path",
                "description": schema.and_then(|schema| schema.get("description")),
                "required": true,
                "schema": schema,
            }));
        }
    }
    for parameter in route.parameters() {
        let schema = schemas.parameter(route.command, parameter.name);
        let mut query = json!({
            "name": parameter.name,
            "in": "query",
            "description": schema.and_then(|schema| schema.get("description")),
            "required": parameter.required,
            "schema": schema,
        });
        if parameter.kind == ParameterKind::List {
            query["style"] = json!("form");
            query["explode"] = json!(true);
        }
        parameters.push(query);
    }
    parameters.extend(template.headers.iter().cloned());
    parameters
}

fn responses(route: Route, row: &Row, template: &Template) -> Value {
    let mut success = template.success.clone();
    let result = || json!({ JSON: content(&schemas::result_name(route)) });
    success["content"] = row.content.clone().unwrap_or_else(result);
    success["content"][FULL_REPLY] = content("Reply");
    let mut responses = json!({ route.success().as_str(): success });
    if route.changes() {
        responses["202"] = template.accepted.clone();
    }
    let has_body = route.body() != BodyRule::None;
    for (status, why) in &template.problems {
        if has_body || !BODY_PROBLEMS.contains(&status.as_str()) {
            responses[status] = problem(why);
            // Errors of the contract are full replies for clients that accept them.
            responses[status]["content"][FULL_REPLY] = content("Reply");
        }
    }
    responses
}

fn problem(why: &Value) -> Value {
    json!({ "description": why, "content": { MEDIA_TYPE: content("Problem") } })
}

fn content(schema: &str) -> Value {
    json!({ "schema": { "$ref": format!("#/components/schemas/{schema}") } })
}
