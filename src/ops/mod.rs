//! Health and metrics over HTTP: `/livez`, `/readyz`, `/startupz`, `/metrics`.
//!
//! Liveness never asks the broker: an outage there must not restart the fleet here. It fails where only a
//! new start helps: a command hangs. Beside them stands
//! the intake for what an engine tells of by itself (`intake`), where it is switched on.

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

/// What readiness depends on.
#[derive(Debug, Clone)]
pub struct Health {
    store: Store,
    lifecycle: Lifecycle,
    /// The engine, where it is WAHA.
    waha: Option<Arc<Waha>>,
    /// What has to be so, and the problem where it is not.
    needs: Vec<(watch::Receiver<bool>, &'static str)>,
    /// Problems in their own words, none where there is none.
    told: Vec<watch::Receiver<Option<String>>>,
    /// What has to be so for the process to be of any use.
    lives: Vec<watch::Receiver<bool>>,
}

/// The answer of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// Why not, one sentence each.
    problems: Vec<String>,
    /// What hinders only some of the work, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

impl Health {
    /// Watches the process and its store.
    #[must_use]
    pub const fn new(store: Store, lifecycle: Lifecycle) -> Self {
        Self {
            store,
            lifecycle,
            waha: None,
            needs: Vec::new(),
            told: Vec::new(),
            lives: Vec::new(),
        }
    }

    /// Watches WAHA's sessions too, and takes in what it tells.
    pub fn with_waha(&mut self, waha: Arc<Waha>) {
        self.waha = Some(waha);
    }

    /// Watches something else too; `problem` says what is wrong while it is not so.
    pub fn need(&mut self, is_so: watch::Receiver<bool>, problem: &'static str) {
        self.needs.push((is_so, problem));
    }

    /// Watches something that says itself what is wrong.
    pub fn hear(&mut self, problem: watch::Receiver<Option<String>>) {
        self.told.push(problem);
    }

    /// Has liveness depend on something.
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
        problems.extend(self.told.iter().filter_map(|it| it.borrow().clone()));
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

/// The media type of what Prometheus reads.
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
            "health is not served any more"
        );
    }
}

async fn liveness(State(health): State<Health>) -> Response {
    if health.lives.iter().all(|is_so| *is_so.borrow()) {
        "ok\n".into_response()
    } else {
        let problem = "a command hangs; this process is to be started anew\n";
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

/// Started means: the store is open and the roles are at work, which is so before this is served.
async fn startup() -> &'static str {
    "ok\n"
}
