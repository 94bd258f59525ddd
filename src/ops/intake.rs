//! `POST /engines/waha/events`: WAHA's webhooks.
//!
//! WAHA retries after any status but 2xx. So the answer is 200 only once the event is in the store, and 503
//! when the store cannot be used. The broker is not involved: see [`super::outbox`]. The engine decides
//! which events are accepted.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::Semaphore;

use crate::engines::waha::Waha;
use crate::engines::waha::intake::IntakeError;
use crate::observability::describe::with_causes;
use crate::observability::events;

/// The maximum number of posts that are read concurrently; others wait. Together with the limit of a body
/// this bounds the memory.
const AT_ONCE: usize = 64;

/// The time limit for receiving a post.
const PATIENCE: Duration = Duration::from_secs(15);

/// WAHA's HMAC-SHA512 of the raw body, in hex.
const SIGNATURE: &str = "x-webhook-hmac";

#[derive(Debug, Clone)]
struct Intake {
    waha: Arc<Waha>,
    permits: Arc<Semaphore>,
    limit: usize,
}

/// The route, if the configuration enables it.
pub(super) fn route(waha: Arc<Waha>) -> Option<Router> {
    let limit = waha.intake_limit()?;
    let intake = Intake {
        waha,
        permits: Arc::new(Semaphore::new(AT_ONCE)),
        limit,
    };
    Some(
        Router::new()
            .route("/engines/waha/events", post(take))
            .with_state(intake),
    )
}

async fn take(State(intake): State<Intake>, request: Request) -> Response {
    // Never closed: it lives as long as the route.
    let _permit = intake.permits.acquire().await;
    let (parts, body) = request.into_parts();
    let signature = parts.headers.get(SIGNATURE);
    let signature = signature.and_then(|value| value.to_str().ok());
    let announced = parts.headers.get(axum::http::header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > intake.limit) {
        return too_large();
    }
    let read = tokio::time::timeout(PATIENCE, to_bytes(body, intake.limit));
    let body = match read.await {
        Ok(Ok(body)) => body,
        // axum distinguishes a body that is too large from one that broke off only by the source of the
        // error.
        Ok(Err(error)) if is_limit(&error) => return too_large(),
        Ok(Err(_)) | Err(_) => {
            events::waha_event("webhook", "broken");
            return (StatusCode::BAD_REQUEST, "the body did not arrive\n").into_response();
        }
    };
    match intake.waha.take_webhook(&body, signature).await {
        Ok(()) => (StatusCode::OK, "ok\n").into_response(),
        Err(refused) => (status(&refused), format!("{refused}\n")).into_response(),
    }
}

fn too_large() -> Response {
    events::waha_event("webhook", "oversized");
    let words = "the event is larger than engine.waha.intake.body_limit\n";
    (StatusCode::PAYLOAD_TOO_LARGE, words).into_response()
}

fn is_limit(error: &axum::Error) -> bool {
    with_causes(error).contains("length limit")
}

const fn status(refused: &IntakeError) -> StatusCode {
    match refused {
        IntakeError::InvalidSignature => StatusCode::UNAUTHORIZED,
        IntakeError::OutsideWindow | IntakeError::Malformed(_) => StatusCode::BAD_REQUEST,
        IntakeError::NotStored(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
