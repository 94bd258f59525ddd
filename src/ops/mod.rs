//! Health and metrics over HTTP: `/livez`, `/readyz`, `/startupz`, `/metrics`.
//!
//! Liveness never asks the broker: an outage there must not restart the fleet here.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::lifecycle::Lifecycle;
use crate::observability::metrics::Exposition;
use crate::store::Store;

/// What readiness depends on.
#[derive(Debug, Clone)]
pub struct Health {
    store: Store,
    consuming: watch::Receiver<bool>,
    publishing: watch::Receiver<bool>,
    lifecycle: Lifecycle,
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// Why not, one sentence each.
    problems: Vec<String>,
}

impl Health {
    /// Watches these parts of the process.
    #[must_use]
    pub fn new(
        store: Store,
        consuming: watch::Receiver<bool>,
        publishing: watch::Receiver<bool>,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            store,
            consuming,
            publishing,
            lifecycle,
        }
    }

    async fn readiness(&self) -> Readiness {
        let mut problems = Vec::new();
        if self.lifecycle.is_stopping() {
            problems.push("the process is stopping".to_owned());
        }
        if !*self.consuming.borrow() {
            problems.push("not consuming commands from the broker".to_owned());
        }
        if !*self.publishing.borrow() {
            problems.push("not connected to the broker for publishing".to_owned());
        }
        if let Err(error) = self.store.ping().await {
            problems.push(error.in_full());
        }
        Readiness {
            ready: problems.is_empty(),
            problems,
        }
    }
}

/// The media type of what Prometheus reads.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves health and metrics until the process ends.
pub async fn serve(listener: TcpListener, health: Health, metrics: Exposition) {
    let exposition =
        move || async move { ([(header::CONTENT_TYPE, EXPOSITION)], metrics.render()) };
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(startup))
        .route("/readyz", get(readiness))
        .with_state(health)
        .route("/metrics", get(exposition));
    if let Err(error) = axum::serve(listener, routes).await {
        error!(
            error = &error as &dyn std::error::Error,
            "health is not served any more"
        );
    }
}

async fn readiness(State(health): State<Health>) -> Response {
    let readiness = health.readiness().await;
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

/// Started means: the store is open and the roles are at work, which is so before this is served.
async fn startup() -> &'static str {
    "ok\n"
}
