//! How each engine puts it that something went wrong, as in the captured data.

use serde_json::{Value, json};

use super::Personality;
use super::model::Refusal;

/// Why a request comes to nothing.
pub(super) enum Error {
    /// `WhatsApp` refuses with a code.
    WhatsApp(u16),
    /// whatsmeow's own sentence, without a code.
    Sentence(&'static str),
    /// NOWEB looked through its list, in vain.
    NotListed(String),
    /// The engine's code throws a `TypeError`, perhaps with a code.
    Thrown(Option<&'static str>, String),
    /// A status and a body, by `NestJS`.
    Status(u16, Value),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::WhatsApp(refusal.code())
    }
}

/// What whatsmeow says of a group that it reads.
pub(super) const fn whatsmeow_reads(refusal: Refusal) -> Error {
    let sentence = match refusal {
        Refusal::Unknown => "that group does not exist",
        Refusal::Outside => "you're not participating in that group",
        Refusal::NoAdmin(_) => "you don't have the permission to get the group's invite link",
        Refusal::Invalid(410) => "that group invite link has been revoked",
        Refusal::Invalid(406) => "that group invite link is not valid",
        Refusal::Invalid(code) => return Error::WhatsApp(code),
    };
    Error::Sentence(sentence)
}

/// A field that is missing, which nothing checks.
pub(super) fn no_list() -> Error {
    let message = "Cannot read properties of undefined (reading 'map')";
    Error::Thrown(None, message.to_owned())
}

/// `NestJS` finds no such route.
pub(super) fn no_route(method: &str, path: &str) -> Error {
    let message = format!("Cannot {method} {path}");
    Error::Status(
        404,
        json!({"message": message, "error": "Not Found", "statusCode": 404}),
    )
}

/// What an engine cannot do.
pub(super) fn not_implemented(personality: Personality) -> Error {
    let name = personality.name();
    let message = format!(
        "The method is not implemented by '{name}' engine. Check the docs and try another engine: https://waha.devlike.pro/"
    );
    Error::Status(
        501,
        json!({"message": message, "error": "Not Implemented", "statusCode": 501}),
    )
}

/// A body that is no JSON.
pub(super) fn no_json() -> Value {
    json!({"message": "Unexpected end of JSON input", "error": "Bad Request", "statusCode": 400})
}

const fn name_of(code: u16) -> &'static str {
    match code {
        400 => "bad-request",
        401 => "not-authorized",
        403 => "forbidden",
        404 => "item-not-found",
        405 => "not-allowed",
        406 => "not-acceptable",
        410 => "gone",
        419 => "resource-limit",
        429 => "rate-overlimit",
        463 => "account_reachout_restricted",
        _ => "internal-server-error",
    }
}

fn grpc(details: &str) -> Value {
    json!({
        "message": format!("2 UNKNOWN: {details}"), "code": 2, "details": details, "metadata": {},
        "name": "Error", "stack": format!("Error: 2 UNKNOWN: {details}\n    at [cut]"),
    })
}

/// The `exception` of a 500, or the status and body of anything else.
pub(super) fn exception(personality: Personality, error: Error) -> Result<Value, (u16, Value)> {
    let exception = match error {
        Error::Status(status, body) => return Err((status, body)),
        Error::Sentence(words) => grpc(words),
        Error::NotListed(group) => {
            let message = format!("Group with id '{group}' not found");
            json!({"message": message, "name": "Error", "stack": format!("Error: {message}\n    at [cut]")})
        }
        Error::Thrown(code, message) => {
            let mut exception = json!({
                "message": message, "name": "TypeError", "stack": format!("TypeError: {message}\n    at [cut]"),
            });
            if let Some(code) = code {
                exception["code"] = json!(code);
            }
            exception
        }
        Error::WhatsApp(code) => whatsapp(personality, code),
    };
    Ok(exception)
}

fn whatsapp(personality: Personality, code: u16) -> Value {
    let name = name_of(code);
    match personality {
        Personality::Noweb => json!({
            "message": name, "data": code, "isBoom": true, "isServer": true, "output": {},
            "name": "Error", "stack": format!("Error: {name}\n    at [cut]"),
        }),
        Personality::Gows => grpc(&format!("info query returned status {code}: {name}")),
        Personality::Webjs => {
            let message =
                format!("Evaluation failed: ServerStatusCodeError: {name}, error code {code}");
            json!({"message": message, "name": "Error", "stack": format!("Error: {message}\n    at [cut]")})
        }
    }
}
