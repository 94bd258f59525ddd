//! The paths: WAHA's sixteen, the state of a command, and live events.

use axum::http::StatusCode;
use serde_json::{Value, json};
use utoipa::openapi::path::{
    Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, ParameterStyle, Paths,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{
    Content, ContentBuilder, HeaderBuilder, HttpMethod, Object, PathItem, PathsBuilder, Ref, RefOr,
    Required, Response, ResponseBuilder, Type,
};

use super::schemas::{self, Schemas};
use crate::contract::{CommandType, EventName};
use crate::gateway::answer::{FULL_REPLY, REPLAYED};
use crate::gateway::problem::MEDIA_TYPE;
use crate::gateway::routes::{self, BodyRule, ParameterKind, Route};

const JSON: &str = "application/json";

/// All paths.
pub(super) fn paths(schemas: &Schemas) -> Paths {
    let mut paths = Paths::new();
    for route in routes::all() {
        let method = match route.method {
            "POST" => HttpMethod::Post,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        paths.add_path_operation(route.path, vec![method], command(route, schemas));
    }
    let get = |operation| PathItem::new(HttpMethod::Get, operation);
    PathsBuilder::from(paths)
        .path("/api/commands/{id}", get(status()))
        .path("/api/{session}/events", get(events()))
        .build()
}

/// The headings of WAHA's "Groups" document.
const fn summary(command: CommandType) -> &'static str {
    match command {
        CommandType::CreateGroup => "Create a new group",
        CommandType::ListGroups => "Get all groups",
        CommandType::GetGroup => "Get the group",
        CommandType::DeleteGroup => "Delete the group",
        CommandType::LeaveGroup => "Leave the group",
        CommandType::SetGroupSubject => "Set group subject",
        CommandType::SetGroupDescription => "Set group description",
        CommandType::GetInfoAdminOnly => "Get who may change the group's info",
        CommandType::SetInfoAdminOnly => "Allow only admins to change the group's info",
        CommandType::GetParticipants => "Get participants",
        CommandType::AddParticipants => "Add participants",
        CommandType::RemoveParticipants => "Remove participants",
        CommandType::PromoteAdmin => "Promote to admin",
        CommandType::DemoteAdmin => "Demote to regular users",
        CommandType::GetInviteCode => "Get invite code",
        CommandType::RevokeInviteCode => "Revoke invite code",
        // They have no paths here.
        CommandType::SetWebhook
        | CommandType::RemoveWebhook
        | CommandType::ListWebhooks
        | CommandType::TestWebhook => "Webhooks",
    }
}

fn description(command: CommandType) -> String {
    let more = match command {
        CommandType::SetGroupSubject | CommandType::SetGroupDescription => {
            " Returns `true`, or `false` where the account lacks the permission."
        }
        CommandType::SetInfoAdminOnly => {
            " Without a body it means `true`. Returns `true`, or `false` where the account lacks \
             the permission."
        }
        CommandType::GetInviteCode => " The code goes behind `https://chat.whatsapp.com/`.",
        CommandType::RevokeInviteCode => " Returns the new code.",
        CommandType::DeleteGroup => {
            " The account leaves and the group is gone from its lists; the others keep it."
        }
        _ => "",
    };
    format!("The command `{}`.{more}", command.as_str())
}

fn command(route: Route, schemas: &Schemas) -> Operation {
    let mut operation = OperationBuilder::new()
        .tag("Groups")
        .operation_id(Some(route.command.as_str()))
        .summary(Some(summary(route.command)))
        .description(Some(description(route.command)))
        .parameter(in_path("session", "SessionName", "The session."));
    if route.has_group() {
        operation = operation.parameter(in_path("groupId", "GroupId", "The group."));
    }
    for parameter in route.parameters() {
        let schema = schemas.parameter(route.command, parameter.name);
        let mut query = query(parameter.name, schema.cloned().unwrap_or_default());
        if parameter.kind == ParameterKind::List {
            query = query.style(Some(ParameterStyle::Form)).explode(Some(true));
        }
        operation = operation.parameter(query);
    }
    operation = operation
        .parameter(header(
            "Idempotency-Key",
            "The id of the command; requests with the same id have one effect.",
            Ref::from_schema_name("CommandId").into(),
        ))
        .parameter(header(
            "Prefer",
            "`respond-async`, `wait=<seconds>`, or both.",
            inline(json!({ "type": "string" })),
        ))
        .request_body(body(route));
    let (status, answer) = answer(route);
    operation = operation.response(status.as_str(), answer);
    if route.changes() {
        operation = operation.response("202", accepted());
    }
    let has_body = route.body() != BodyRule::None;
    for (status, why) in PROBLEMS {
        if has_body || !BODY_PROBLEMS.contains(status) {
            operation = operation.response(status.as_str(), problem(why, true));
        }
    }
    operation.build()
}

/// The statuses of problems that only requests with a body can have.
const BODY_PROBLEMS: &[StatusCode] = &[
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
];

const PROBLEMS: &[(StatusCode, &str)] = &[
    (
        StatusCode::BAD_REQUEST,
        "The request is invalid; `details` lists the fields.",
    ),
    (StatusCode::UNAUTHORIZED, "The key is missing or unknown."),
    (
        StatusCode::FORBIDDEN,
        "The key does not authorise this, or WhatsApp does not allow it to the account.",
    ),
    (
        StatusCode::NOT_FOUND,
        "The session or group does not exist.",
    ),
    (StatusCode::REQUEST_TIMEOUT, "The body was sent too slowly."),
    (
        StatusCode::CONFLICT,
        "The `Idempotency-Key` was used for another request.",
    ),
    (
        StatusCode::GONE,
        "The command expired before it was executed.",
    ),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
    (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The `Content-Type` of the body is not JSON.",
    ),
    (
        StatusCode::UNPROCESSABLE_ENTITY,
        "The session is not ready, or WhatsApp or the engine refuses.",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "WhatsApp's or the gateway's limit is reached.",
    ),
    (StatusCode::INTERNAL_SERVER_ERROR, "groupmq itself failed."),
    (
        StatusCode::BAD_GATEWAY,
        "It is unknown whether the command took effect: read the group.",
    ),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Nothing was done: the broker or the engine cannot be reached.",
    ),
    (
        StatusCode::GATEWAY_TIMEOUT,
        "There is no reply yet. `Location` is the URL of the state of a command that changes something.",
    ),
];

fn body(route: Route) -> Option<RequestBody> {
    let required = match route.body() {
        BodyRule::None => return None,
        BodyRule::Optional => Required::False,
        BodyRule::Required => Required::True,
    };
    let content = content(&schemas::body_name(route));
    let body = RequestBodyBuilder::new()
        .content(JSON, content)
        .required(Some(required));
    Some(body.build())
}

fn answer(route: Route) -> (StatusCode, Response) {
    let command = route.command;
    let is_code = matches!(
        command,
        CommandType::GetInviteCode | CommandType::RevokeInviteCode
    );
    let mut answer = ResponseBuilder::new().description("The result.");
    if is_code {
        let code = || {
            let schema = json!({ "type": "string", "examples": ["FSnPcdqjkcv3N1zVBZxQGT"] });
            ContentBuilder::new().schema(Some(inline(schema))).build()
        };
        answer = answer.content("text/plain", code()).content(JSON, code());
    } else {
        answer = answer.content(JSON, content(&schemas::result_name(route)));
    }
    let answer = answer
        .content(FULL_REPLY, content("Reply"))
        .header("X-Command-Id", text_header("The command's id."))
        .header(
            "Warning",
            text_header("Lists the unknown fields of the body, which were ignored."),
        )
        .header(REPLAYED, text_header("`true` if the reply is a replay."));
    (route.success(), answer.build())
}

fn accepted() -> Response {
    ResponseBuilder::new()
        .description("The command is queued (with `Prefer: respond-async`).")
        .content(JSON, content("Status"))
        .header("Location", text_header("The URL of the command's state."))
        .build()
}

/// A problem. Errors of the contract are full replies for clients that accept them.
fn problem(why: &str, of_contract: bool) -> Response {
    let mut problem = ResponseBuilder::new()
        .description(why)
        .content(MEDIA_TYPE, content("Problem"));
    if of_contract {
        problem = problem.content(FULL_REPLY, content("Reply"));
    }
    problem.build()
}

fn status() -> Operation {
    let operation = OperationBuilder::new()
        .tag("Commands")
        .operation_id(Some("GetCommand"))
        .summary(Some("Get the state of a command"))
        .description(Some(
            "Commands that change something are known for as long as the ledger keeps them, and those \
             that this gateway has published are pending until their reply. Answers of commands that only \
             read are not kept.",
        ))
        .parameter(in_path("id", "CommandId", "The command's id."))
        .parameter(
            ParameterBuilder::new()
                .name("session")
                .parameter_in(ParameterIn::Query)
                .required(Required::True)
                .description(Some("The command's session."))
                .schema(Some(Ref::from_schema_name("SessionName"))),
        )
        .response(
            "200",
            ResponseBuilder::new()
                .description("Pending, or the reply.")
                .content(JSON, content("Status")),
        );
    let problems = ["400", "401", "403", "404", "500", "503"];
    with_problems(operation, &problems).build()
}

fn events() -> Operation {
    let names: Vec<_> = EventName::ALL.iter().map(|it| it.as_str()).collect();
    let text = inline(json!({ "type": "string" }));
    let events = json!({ "type": "array", "items": { "type": "string", "examples": names } });
    let operation = OperationBuilder::new()
        .tag("Events")
        .operation_id(Some("ListenToEvents"))
        .summary(Some("Listen to events"))
        .description(Some(
            "Server-Sent Events, or a WebSocket for clients that request an upgrade: `id` and `event` \
             are those of the event, `data` is the whole event. `groupmq.gap` means that events may \
             have been missed. The session `*` means all that the key covers. WAHA's path `/ws` serves \
             the same over WebSocket.",
        ))
        .parameter(
            ParameterBuilder::new()
                .name("session")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The session, or `*`."))
                .schema(Some(text.clone())),
        )
        .parameter(
            query("events", events)
                .description(Some(
                    "Only these events; a name may end in `*`. Several are given by repetition or commas.",
                ))
                .style(Some(ParameterStyle::Form))
                .explode(Some(true)),
        )
        .parameter(query("lastEventId", json!({ "type": "string" })).description(Some(
            "The same as `Last-Event-ID`, for clients that cannot set headers.",
        )))
        .parameter(header(
            "Last-Event-ID",
            "The last event that the client has seen: later events are sent first.",
            text.clone(),
        ))
        .response(
            "200",
            ResponseBuilder::new()
                .description("Events, as they happen.")
                .content("text/event-stream", Content::new(Some(text))),
        );
    with_problems(operation, &["400", "401", "403", "500"]).build()
}

fn with_problems(mut operation: OperationBuilder, statuses: &[&str]) -> OperationBuilder {
    for (status, why) in PROBLEMS {
        if statuses.contains(&status.as_str()) {
            operation = operation.response(status.as_str(), problem(why, false));
        }
    }
    operation
}

fn content(schema: &str) -> Content {
    Content::new(Some(Ref::from_schema_name(schema)))
}

fn text_header(description: &str) -> utoipa::openapi::Header {
    HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::String)))
        .description(Some(description))
        .build()
}

fn in_path(name: &str, schema: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(Ref::from_schema_name(schema)))
        .build()
}

fn header(name: &str, description: &str, schema: RefOr<Schema>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

fn query(name: &str, schema: Value) -> ParameterBuilder {
    let description = schema.get("description").and_then(Value::as_str);
    let description = description.map(str::to_owned);
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(description)
        .schema(Some(inline(schema)))
}

/// An inline schema; larger ones are components.
fn inline(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).unwrap_or_else(|_| RefOr::T(Schema::default()))
}
