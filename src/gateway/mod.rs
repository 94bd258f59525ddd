//! The gateway role: serves WAHA's REST paths for groups through the queue.
//!
//! A request is published as a command to the commands exchange, and the response is built from the command's
//! reply; nothing is executed here. Clients can also listen to events. `/docs` shows the interface. TLS is left
//! to a proxy. Wired by `app`.

mod access;
mod answer;
mod calls;
mod docs;
mod fields;
mod live;
mod middleware;
pub mod openapi;
mod pictures;
mod problem;
mod published;
mod query;
mod request;
mod routes;
mod serve;
mod shared;
mod status;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::amqp::{Heard, Names, Requests};
use crate::config::{self, Access};
use crate::contract::CommandType;
use crate::executor::decode::Decoder;
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::observability::trace::Tracer;
use crate::store::Store;

use access::Keys;
use answer::Accept;
use calls::Calls;
use live::hub::Hub;
use problem::{Fault, Problem};
use routes::Route;
use shared::{Shared, path};

/// The gateway, ready to serve.
#[derive(Debug)]
pub struct Gateway {
    settings: config::Gateway,
    shared: Arc<Shared>,
    feed: mpsc::Receiver<Heard>,
    lifecycle: Lifecycle,
}

/// The dependencies of a gateway.
#[derive(Debug)]
pub struct Deps {
    /// `[gateway]`
    pub settings: config::Gateway,
    /// The names of exchanges and queues.
    pub names: Names,
    /// Publishes commands and receives replies.
    pub requests: Requests,
    /// The events that listeners get.
    pub feed: mpsc::Receiver<Heard>,
    /// Validates commands as the worker does.
    pub decoder: Decoder,
    /// Holds the ledger.
    pub store: Store,
    /// When to stop.
    pub lifecycle: Lifecycle,
    /// Records spans.
    pub tracer: Tracer,
}

impl Gateway {
    /// Creates a gateway.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        let Deps {
            settings,
            names,
            requests,
            feed,
            decoder,
            store,
            lifecycle,
            tracer,
        } = deps;
        let calls = Calls::new(&settings, requests, names, lifecycle.clone());
        let shared = Arc::new(Shared {
            keys: Keys::new(settings.keys.values().cloned(), settings.open),
            calls,
            ledger: store.ledger(),
            decoder,
            hub: Arc::new(Hub::new(settings.events_kept)),
            client_timeout: settings.client_timeout,
            lifecycle: lifecycle.clone(),
            tracer,
        });
        Self {
            settings,
            shared,
            feed,
            lifecycle,
        }
    }

    /// Serves until the process stops, then finishes the requests in flight.
    pub async fn serve(self, listener: TcpListener) {
        let Self {
            settings,
            shared,
            mut feed,
            lifecycle,
        } = self;
        let hub = Arc::clone(&shared.hub);
        lifecycle.spawn_background(async move {
            while let Some(message) = feed.recv().await {
                hub.add(message);
            }
        });
        if let Ok(address) = listener.local_addr() {
            events::gateway_listens(address, shared.keys.are_none());
        }
        let router = router(shared, settings.body_max);
        serve::run(listener, router, &settings, &lifecycle).await;
    }
}

fn router(shared: Arc<Shared>, body_max: usize) -> Router {
    let mut router = Router::new();
    let tracer = shared.tracer.clone();
    for route in routes::all() {
        let filter = MethodFilter::try_from(route.method()).unwrap_or(MethodFilter::TRACE);
        let handle = move |State(shared): State<Arc<Shared>>, request: Request| async move {
            let (parts, body) = request.into_parts();
            command(&shared, route, parts, body).await
        };
        let mut methods = on(filter, handle);
        if route.command == CommandType::SetGroupPicture {
            let most = body_max.max(pictures::BODY_MAX);
            methods = methods.layer(DefaultBodyLimit::max(most));
        }
        router = add_route(router, route.path, methods);
    }
    let router = add_route(router, "/api/{session}/events", get(live::session_events));
    let router = add_route(router, "/ws", get(live::waha_socket));
    add_route(router, "/api/commands/{id}", get(status_of))
        .with_state(shared)
        .merge(docs::router())
        .fallback(|| async {
            let why = "GET /docs lists the paths.";
            Problem::new(Fault::NotFound, why).into_response()
        })
        .method_not_allowed_fallback(|| async {
            let why = "The header Allow lists the methods of this path.";
            Problem::new(Fault::MethodNotAllowed, why).into_response()
        })
        .layer(DefaultBodyLimit::max(body_max))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(CompressionLayer::new())
        .layer(from_fn_with_state(tracer, middleware::observe))
}

/// Adds a path with and without a trailing slash, as in WAHA.
fn add_route(
    router: Router<Arc<Shared>>,
    path: &str,
    methods: MethodRouter<Arc<Shared>>,
) -> Router<Arc<Shared>> {
    router
        .route(&format!("{path}/"), methods.clone())
        .route(path, methods)
}

/// Handles a request to one of WAHA's paths.
async fn command(
    shared: &Shared,
    route: Route,
    mut parts: Parts,
    body: axum::body::Body,
) -> Response {
    let accept = Accept::from_headers(&parts.headers);
    let answer = async {
        let grant = shared.keys.authenticate(&parts)?;
        let path = path(&mut parts).await?;
        let part = |name: &str| path.get(name).map(String::as_str);
        let session = part("session").unwrap_or_default();
        let needed = if route.changes() {
            Access::Write
        } else {
            Access::Read
        };
        grant.authorize(session, needed)?;
        let body = request::body(route, &parts, body, shared.client_timeout).await?;
        let fields = route.fields(part, &parts.uri);
        let decoder = &shared.decoder;
        let command = request::command(decoder, route, session, &fields, &parts, &body)?;
        let id = command.accepted.id.to_string();
        let warning = request::warning(&command.ignored);
        let answered = shared.calls.execute(route, command, accept).await;
        let mut response = answered.unwrap_or_else(Problem::into_response);
        let warning = warning.map(|warning| (header::WARNING, warning));
        response.headers_mut().extend(warning);
        Ok((id, response))
    };
    match answer.await {
        Ok((id, mut response)) => {
            if let Ok(id) = id.try_into() {
                response.headers_mut().insert(answer::COMMAND_ID, id);
            }
            // The response depends on Accept and must not be cached.
            let headers = response.headers_mut();
            headers.append(header::VARY, header::ACCEPT.into());
            headers.insert(
                header::CACHE_CONTROL,
                header::HeaderValue::from_static("no-store"),
            );
            response
        }
        Err(problem) => Problem::into_response(problem),
    }
}

async fn status_of(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let answer = async {
        let grant = shared.keys.authenticate(&parts)?;
        let path = path(&mut parts).await?;
        let id = path.get("id").map(String::as_str).unwrap_or_default();
        status::respond(
            &shared.calls.published,
            &shared.ledger,
            &grant,
            id,
            &parts.uri,
        )
        .await
    };
    answer.await.unwrap_or_else(Problem::into_response)
}
