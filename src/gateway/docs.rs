//! Serves the `OpenAPI` document at `/openapi.json` and Swagger UI at `/docs`. All files are embedded in the
//! binary; the page loads nothing from other servers.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use super::openapi;
use super::problem::{Fault, Problem};

/// Allows only our own files, and the inline styles of Swagger UI.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      frame-ancestors 'none'; base-uri 'none'";

pub(super) fn router() -> Router {
    let config = Config::from("/openapi.json")
        .persist_authorization(false)
        .display_request_duration(true)
        .validator_url("none");
    let config = Arc::new(config);
    // Built once; a test checks that this succeeds.
    let text = openapi::document().map(|document| document.text);
    let text = Bytes::from(text.unwrap_or_default());
    let description = ([(header::CONTENT_TYPE, "application/json")], text);
    let page = move |path: Option<Path<String>>| {
        let config = Arc::clone(&config);
        async move { file(path.as_deref().map_or("", String::as_str), config) }
    };
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs") }))
        .route("/docs", get(|| async { Redirect::permanent("/docs/") }))
        .route("/docs/", get(page.clone()))
        .route("/docs/{*path}", get(page))
        .route("/openapi.json", get(|| async { description }))
}

fn file(path: &str, config: Arc<Config<'static>>) -> Response {
    let name = if path.is_empty() { "index.html" } else { path };
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, config) else {
        return Problem::new(Fault::NotFound, "The file does not exist.").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
    ];
    (headers, file.bytes.into_owned()).into_response()
}
