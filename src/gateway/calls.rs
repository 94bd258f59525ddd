//! From a command to its answer: into the queue, and back from its reply.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::answer::{self, Accept};
use super::problem::{Fault, Problem};
use super::recent::Recent;
use super::request::CommandRequest;
use super::routes::Route;
use super::status;
use crate::amqp::{Incoming, Names, Outgoing, Progress, Requests};
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::ledger::{Key, Ledger};

/// So long a request is still answered once the process stops.
const GRACE: Duration = Duration::from_secs(5);

/// The way into the queue and back.
#[derive(Debug)]
pub(super) struct Calls {
    requests: Requests,
    names: Names,
    pub(super) recent: Arc<Recent>,
    pub(super) ledger: Ledger,
    /// One for each request that waits.
    permits: Arc<Semaphore>,
    timeout: Duration,
    lifecycle: Lifecycle,
}

/// How the waiting for a reply ended.
enum WaitEnd {
    Replied(Arc<Incoming>),
    Refused,
    /// Not for lack of time.
    Stopped,
    TooLate,
}

impl Calls {
    pub(super) fn new(
        settings: &config::Gateway,
        requests: Requests,
        names: Names,
        ledger: Ledger,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            requests,
            names,
            recent: Arc::new(Recent::new(settings.commands_kept)),
            ledger,
            permits: Arc::new(Semaphore::new(settings.in_flight)),
            timeout: settings.timeout,
            lifecycle,
        }
    }

    /// Keeps what is remembered within bounds, as long as replies can come. It holds nothing that keeps
    /// the way of requests open.
    pub(super) fn limit_memory(&self) -> impl Future<Output = ()> + Send + 'static {
        let (recent, answered) = (Arc::clone(&self.recent), self.requests.answered_bytes());
        async move { recent.enforce_limit(answered).await }
    }

    /// Carries a command out, as far as the client wants to wait.
    pub(super) async fn execute(
        &self,
        route: Route,
        command: CommandRequest,
        accept: Accept,
    ) -> Result<Response, Problem> {
        let key = Key {
            session: command.accepted.session.clone(),
            command_id: command.accepted.id.clone(),
        };
        let (preference, fingerprint) = (command.preference, command.accepted.fingerprint);
        let id = key.command_id.as_str();
        let _permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            let why = "gateway.in_flight requests wait for their reply. Nothing was done.";
            Problem::new(Fault::TooManyRequests, why).for_command(id)
        })?;
        let _counted = WaitingGauge::new();
        let within = preference
            .wait
            .map_or(self.timeout, |it| it.min(self.timeout));
        let call = self.requests.send(self.message(route, &key, command));
        let Ok(call) = tokio::time::timeout(within, call).await else {
            return Err(unsent().for_command(id));
        };
        let mut call = call.ok_or_else(|| unsent().for_command(id))?;
        if route.changes() || preference.respond_async {
            self.recent.insert(&key, fingerprint, call.progress());
        }
        // Without a time to wait, the answer is given once the broker has the command.
        let ended = if preference.respond_async && preference.wait.is_none() {
            match self.wait_for(call.queued(), within).await {
                WaitEnd::Replied(_) => WaitEnd::TooLate,
                other => other,
            }
        } else {
            self.wait_for(call.settled(), within).await
        };
        match ended {
            WaitEnd::Replied(reply) => Ok(answer::from_reply(
                route,
                &key.session,
                &key.command_id,
                accept,
                &reply.body,
            )),
            WaitEnd::Refused => {
                let why = "No queue takes the command, or the broker refuses it: is a worker set up? \
                           See `groupmq doctor`.";
                Err(Problem::new(Fault::Unavailable, why).for_command(id))
            }
            WaitEnd::Stopped | WaitEnd::TooLate if call.withdraw() => Err(unsent().for_command(id)),
            WaitEnd::TooLate if preference.respond_async && call.is_queued() => Ok(accepted(&key)),
            WaitEnd::Stopped | WaitEnd::TooLate => {
                // What only reads is remembered from now on.
                self.recent.insert(&key, fingerprint, call.progress());
                Err(no_reply(&key))
            }
        }
    }

    fn message(&self, route: Route, key: &Key, command: CommandRequest) -> Outgoing {
        Outgoing {
            exchange: self.names.commands(),
            routing_key: key.session.to_string(),
            message_id: key.command_id.to_string(),
            message_type: route.command.as_str().to_owned(),
            headers: command.headers,
            body: command.body,
            ..Outgoing::default()
        }
    }

    /// Waits for progress, within the time and while the process lives.
    async fn wait_for(
        &self,
        progress: impl Future<Output = Option<Progress>>,
        within: Duration,
    ) -> WaitEnd {
        let stopping = async {
            self.lifecycle.stopping().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            progress = progress => match progress {
                Some(Progress::Replied(reply)) => WaitEnd::Replied(reply),
                Some(Progress::Refused) => WaitEnd::Refused,
                // The broker has it: as far as an asynchronous answer goes.
                Some(Progress::Sent | Progress::Queued) => WaitEnd::TooLate,
                None => WaitEnd::Stopped,
            },
            () = tokio::time::sleep(within) => WaitEnd::TooLate,
            () = stopping => WaitEnd::Stopped,
        }
    }
}

/// 202: the broker has it, and the client does not want to wait.
fn accepted(key: &Key) -> Response {
    let applied = HeaderName::from_static("preference-applied");
    let headers = [
        (header::LOCATION, status::location(key)),
        (applied, HeaderValue::from_static("respond-async")),
    ];
    let body = status::Status::pending(key);
    (StatusCode::ACCEPTED, headers, axum::Json(body)).into_response()
}

fn no_reply(key: &Key) -> Problem {
    let why = "The command may still be carried out. Ask for it at Location, or send the same \
               request again with this command id as Idempotency-Key: it has one effect.";
    Problem::new(Fault::NoReply, why)
        .for_command(key.command_id.as_str())
        .with_header(header::LOCATION, status::location(key))
}

fn unsent() -> Problem {
    let why = "The broker cannot be reached, or takes nothing for now. Nothing was done.";
    Problem::new(Fault::Unavailable, why)
}

/// WaitingGauge among those that wait, for as long as it lives.
struct WaitingGauge;

impl WaitingGauge {
    fn new() -> Self {
        events::requests_waiting(1.0);
        Self
    }
}

impl Drop for WaitingGauge {
    fn drop(&mut self) {
        events::requests_waiting(-1.0);
    }
}
