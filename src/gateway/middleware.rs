//! Middleware for all requests: the request id, the log line, the metrics and the span.

use std::any::Any;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::problem::{Fault, Problem};
use super::request;
use crate::observability::describe::panic_text;
use crate::observability::events;
use crate::observability::trace::{self, Span, SpanKind, Tracer};

/// The header with the request's id.
const REQUEST_ID: &str = "x-request-id";

/// Assigns the request id, and records the response.
pub(super) async fn observe(
    State(tracer): State<Tracer>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let trace = request::traceparent(request.headers()).map(str::to_owned);
    let route = request.extensions().get::<MatchedPath>().cloned();
    let path = route.as_ref().map_or("none", |route| label(route.as_str()));
    let mut span = span(&tracer, &mut request);
    let mut response = next.run(request).await;
    if span.is_recorded() {
        span.rename(format!("{method} {path}"));
        span.set("http.request.method", method.to_string());
        span.set("http.route", path.to_owned());
        let status = response.status();
        span.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.fail(status.as_str().to_owned());
        }
    }
    drop(span);
    events::request_answered(events::AnsweredRequest {
        method: method.as_str(),
        route: path,
        status: response.status().as_u16(),
        request_id: &id,
        traceparent: trace.as_deref(),
        took: begun.elapsed(),
    });
    let headers = response.headers_mut();
    for (name, text) in [(REQUEST_ID, Some(id)), ("traceparent", trace)] {
        if let Some(value) = text.and_then(|it| HeaderValue::try_from(it).ok()) {
            headers.insert(name, value);
        }
    }
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert("x-content-type-options", nosniff);
    response
}

/// The route as a label: the same with and without a trailing slash.
fn label(route: &str) -> &str {
    let without = route.strip_suffix('/');
    without
        .filter(|it| it.starts_with("/api/") || *it == "/ws")
        .unwrap_or(route)
}

/// Starts the request's span, and makes it the parent of the spans that follow.
fn span(tracer: &Tracer, request: &mut Request) -> Span {
    let state = request.headers().get(trace::STATE);
    let state = state.and_then(|it| it.to_str().ok());
    let parent = request::traceparent(request.headers());
    let span = tracer
        .continued(parent, state)
        .span(SpanKind::Server, "HTTP");
    for (name, value) in span.trace().headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            request.headers_mut().insert(name, value);
        }
    }
    span
}

/// The client's request id if it is safe to log, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|it| it.to_str().ok());
    let fits =
        |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    given
        .filter(fits)
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

/// The response after a panic in a handler.
#[expect(clippy::needless_pass_by_value, reason = "as the layer hands it over")]
pub(super) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    events::request_panicked(panic_text(panic.as_ref()));
    Problem::new(Fault::Panicked, "Report it with the request id.").into_response()
}
