//! The gateway's interface as an `OpenAPI` 3.1 document: `template.json` filled in from the contract's types and
//! the routes.
//!
//! The template has all prose and fixed structure, with a row for each command. Schemas are the contract's JSON
//! Schemas, which `OpenAPI` 3.1 supports unchanged. Served at `/openapi.json`, written to `schemas/` by
//! `groupmq schemas`.

mod operations;
mod schemas;

use serde_json::{Value, json};

use crate::contract::VERSION;
use crate::contract::schema::{Document, Error};
use operations::Template;

const NAME: &str = "openapi.json";

/// The document.
///
/// # Errors
/// When it cannot be generated; a test checks that it can.
pub fn document() -> Result<Document, Error> {
    let json = |error| Error::Json(NAME.to_owned(), error);
    let template: Template = serde_json::from_str(include_str!("template.json")).map_err(json)?;
    let schemas = schemas::all()?;
    let mut document = template.document.clone();
    document["info"]["version"] = json!(VERSION.to_string());
    document["paths"] = operations::paths(&template, &schemas).map_err(json)?;
    document["components"]["schemas"] = Value::Object(schemas.components);
    let text = serde_json::to_string_pretty(&document).map_err(json)?;
    Ok(Document {
        path: NAME.to_owned(),
        text: text + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::access;
    use crate::gateway::answer::REPLAYED;
    use crate::gateway::routes::{self, Route};

    #[test]
    fn the_template_names_the_headers_that_the_gateway_reads_and_writes() {
        let document = document().unwrap();
        let document: Value = serde_json::from_str(&document.text).unwrap();
        let key = &document["components"]["securitySchemes"]["apiKey"]["name"];
        assert!(key.as_str().unwrap().eq_ignore_ascii_case(access::HEADER));
        let success = &document["paths"]["/api/{session}/groups"]["get"]["responses"]["200"];
        assert!(success["headers"][REPLAYED].is_object(), "{success}");
    }

    #[test]
    fn the_template_has_rows_for_commands_with_a_path_only() {
        let template: Template = serde_json::from_str(include_str!("template.json")).unwrap();
        let routes: Vec<_> = routes::all().map(Route::name).collect();
        for name in template.commands.keys() {
            assert!(routes.contains(name), "{name}");
        }
        assert_eq!(template.commands.len(), routes.len());
    }
}
