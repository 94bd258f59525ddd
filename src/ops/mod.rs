//! Health and metrics over HTTP: `/livez`, `/readyz`, `/startupz`, `/metrics`.
//!
//! Liveness does not depend on the broker: an outage there must not restart the fleet here. It fails only
//! where a restart helps: when a command hangs. The webhook intake of an engine (`intake`) is served at the
//! same address, if it is enabled.

mod intake;
pub mod outbox;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::error;

use crate::engines::waha::Waha;
use crate::lifecycle::Lifecycle;
use crate::observability::metrics::Exposition;
use crate::store::Store;

/// The conditions of readiness.
#[derive(Debug, Clone)]
pub struct Health {
    store: Store,
    lifecycle: Lifecycle,
    /// The engine, if it is WAHA.
    waha: Option<Arc<Waha>>,
    /// Conditions, each with the problem that is reported while it does not hold.
    needs: Vec<(watch::Receiver<bool>, &'static str)>,
    /// Sources that report their own problem; none while there is none.
    reported: Vec<watch::Receiver<Option<String>>>,
    /// The conditions of liveness.
    lives: Vec<watch::Receiver<bool>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// The problems, one sentence each.
    problems: Vec<String>,
    /// Problems that affect only some of the work, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Health {
    /// Checks the process and its store.
    #[must_use]
    pub const fn new(store: Store, lifecycle: Lifecycle) -> Self {
        Self {
            store,
            lifecycle,
            waha: None,
            needs: Vec::new(),
            reported: Vec::new(),
            lives: Vec::new(),
        }
    }

    /// Adds WAHA's sessions to readiness, and serves the intake of its webhooks.
    pub fn with_waha(&mut self, waha: Arc<Waha>) {
        self.waha = Some(waha);
    }

    /// Adds a condition; `problem` is reported while it does not hold.
    pub fn need(&mut self, is_so: watch::Receiver<bool>, problem: &'static str) {
        self.needs.push((is_so, problem));
    }

    /// Adds a source that reports its own problem.
    pub fn report(&mut self, problem: watch::Receiver<Option<String>>) {
        self.reported.push(problem);
    }

    /// Adds a condition of liveness.
    pub fn need_to_live(&mut self, is_so: watch::Receiver<bool>) {
        self.lives.push(is_so);
    }

    async fn readiness(&self) -> Readiness {
        let mut problems = Vec::new();
        if self.lifecycle.is_stopping() {
            problems.push("the process is stopping".to_owned());
        }
        let unmet = self.needs.iter().filter(|(is_so, _)| !*is_so.borrow());
        problems.extend(unmet.map(|(_, problem)| (*problem).to_owned()));
        problems.extend(self.reported.iter().filter_map(|it| it.borrow().clone()));
        if let Err(error) = self.store.ping().await {
            problems.push(error.in_full());
        }
        let mut notes = Vec::new();
        if let Some(waha) = &self.waha {
            problems.extend(waha.problems());
            notes.extend(waha.notes());
        }
        Readiness {
            ready: problems.is_empty(),
            problems,
            notes,
        }
    }
}

/// The media type of Prometheus' text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves health and metrics until the process ends.
pub async fn serve(listener: TcpListener, health: Health, metrics: Exposition) {
    let exposition =
        move || async move { ([(header::CONTENT_TYPE, EXPOSITION)], metrics.render()) };
    let events = health.waha.clone().and_then(intake::route);
    let routes = Router::new()
        .route("/livez", get(liveness))
        .route("/startupz", get(startup))
        .route("/readyz", get(readiness))
        .with_state(health)
        .route("/metrics", get(exposition))
        .merge(events.unwrap_or_default());
    if let Err(error) = axum::serve(listener, routes).await {
        error!(
            error = &error as &dyn std::error::Error,
            "serving health and metrics ended"
        );
    }
}

async fn liveness(State(health): State<Health>) -> Response {
    if health.lives.iter().all(|is_so| *is_so.borrow()) {
        "ok\n".into_response()
    } else {
        let problem = "a command hangs; restart this process\n";
        (StatusCode::SERVICE_UNAVAILABLE, problem).into_response()
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

/// Succeeds at once: health is served only after the store is open and the roles have started.
async fn startup() -> &'static str {
    "ok\n"
}
