//! The gateway's interface as an `OpenAPI` 3.1 document, made from the contract's own types and from
//! the table of routes.
//!
//! Paths are built with `utoipa`; schemas are the contract's JSON Schemas as they are, since `OpenAPI`
//! 3.1 takes them unchanged. Served at `/openapi.json`, written to `schemas/` by `groupmq schemas`.

mod operations;
mod schemas;

use serde_json::Value;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, LicenseBuilder, OpenApiBuilder};

use super::access;
use crate::contract::VERSION;
use crate::contract::schema::{Document, Error};

const NAME: &str = "openapi.json";

/// What the security scheme is called within the document.
const API_KEY: &str = "apiKey";

const DESCRIPTION: &str = "\
WAHA's own paths for WhatsApp groups, served through groupmq's queue: each request becomes a \
command, with one effect per `Idempotency-Key` and in order within its group.

- Group ids may be written with `@` or `%40`, and a path may end in a slash. A parameter without a \
value counts as absent.
- Unknown fields beside known ones in a body are ignored; the header `Warning` names them.
- Send `Idempotency-Key` to be able to repeat a request safely: the same key gets the same answer, \
and another request under the same key gets 409. Without one, each request is a new command; \
`X-Command-Id` tells its id.
- `Prefer: respond-async` answers 202 once the command is queued; `Location` leads to what became \
of it. With `wait=<seconds>` the answer is waited for so long first.
- `Accept: application/vnd.groupmq.v1+json` gets the whole reply of the contract, errors included.
- Errors are problem details (RFC 9457). Where `Retry-After` is given, the same request may succeed \
later.";

/// The document.
///
/// # Errors
/// When it cannot be made; a test sees to it that it can.
pub fn document() -> Result<Document, Error> {
    let json = |error| Error::Json(NAME.to_owned(), error);
    let schemas = schemas::all()?;
    let key = ApiKeyValue::with_description(
        "X-Api-Key",
        "A key of `[gateway.keys]`; not needed where there are none.",
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
