//! The gateway's interface as an `OpenAPI` 3.1 document, generated from the contract's types and the routes.
//!
//! Paths are built with `utoipa`; schemas are the contract's JSON Schemas, which `OpenAPI` 3.1 supports
//! unchanged. Served at `/openapi.json`, written to `schemas/` by `groupmq schemas`.

mod operations;
mod schemas;

use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApiBuilder};

use super::access;
use crate::contract::VERSION;
use crate::contract::schema::{Document, Error};

const NAME: &str = "openapi.json";

/// The name of the security scheme in the document.
const API_KEY: &str = "apiKey";

const DESCRIPTION: &str = "\
WAHA's paths for WhatsApp groups, served through groupmq's queue: each request becomes a command, \
with one effect per `Idempotency-Key` and in order within its group.

- Group ids may be written with `@` or `%40`, and a path may end in a slash. A parameter without a \
value counts as absent.
- Unknown fields in a body are ignored if there are known ones too; the header `Warning` lists them.
- Send `Idempotency-Key` to be able to repeat a request safely: the same key gets the same response, \
and another request with the same key gets 409. Without a key, each request is a new command; its id \
is in `X-Command-Id`.
- `Prefer: respond-async` responds with 202 once the command is queued; `Location` is the URL of its \
state. With `wait=<seconds>` the gateway waits for the reply for that time first. Commands that only read are \
always waited for.
- `Accept: application/vnd.groupmq.v1+json` gets the full reply of the contract, also for errors.
- Errors are problem details (RFC 9457). With `Retry-After`, the same request may succeed later.";

/// The document.
///
/// # Errors
/// When it cannot be generated; a test checks that it can.
pub fn document() -> Result<Document, Error> {
    let json = |error| Error::Json(NAME.to_owned(), error);
    let schemas = schemas::all()?;
    let key = ApiKeyValue::with_description(
        "X-Api-Key",
        "A key of `[gateway.keys]`; not needed if none are configured.",
    );
    debug_assert!(key.name.eq_ignore_ascii_case(access::HEADER));
    let mut components = Components::new();
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(key)));
    let license = LicenseBuilder::new()
        .name("MIT OR Apache-2.0")
        .identifier(Some("MIT OR Apache-2.0"));
    let info = InfoBuilder::new()
        .title("groupmq")
        .version(VERSION.to_string())
        .description(Some(DESCRIPTION))
        .license(Some(license.build()));
    let document = OpenApiBuilder::new()
        .info(info.build())
        .paths(operations::paths(&schemas))
        .components(Some(components))
        .security(Some([SecurityRequirement::new(
            API_KEY,
            Vec::<String>::new(),
        )]))
        .build();
    let mut document = serde_json::to_value(&document).map_err(json)?;
    if let Some(components) = document
        .get_mut("components")
        .and_then(Value::as_object_mut)
    {
        components.insert("schemas".to_owned(), Value::Object(schemas.components));
    }
    let text = serde_json::to_string_pretty(&document).map_err(json)?;
    Ok(Document {
        path: NAME.to_owned(),
        text: text + "\n",
    })
}
