//! From a command to its answer: into the queue, and back from its reply.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::answer::{self, Accept};
use super::ask::Ask;
use super::problem::{Fault, Problem};
use super::recent::Recent;
use super::routes::Endpoint;
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
    places: Arc<Semaphore>,
    timeout: Duration,
    lifecycle: Lifecycle,
}

/// How the waiting for a reply ended.
enum Ended {
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
            places: Arc::new(Semaphore::new(settings.in_flight)),
            timeout: settings.timeout,
            lifecycle,
        }
    }

    /// Keeps what is remembered within bounds, as long as replies can come. It holds nothing that keeps
    /// the way of requests open.
    pub(super) fn bound_memory(&self) -> impl Future<Output = ()> + Send + 'static {
        let (recent, answered) = (Arc::clone(&self.recent), self.requests.answered_bytes());
        async move { recent.stay_within_room(answered).await }
    }

    /// Carries a command out, as far as the client wants to wait.
    pub(super) async fn carry_out(
        &self,
        endpoint: Endpoint,
        ask: Ask,
        accept: Accept,
    ) -> Result<Response, Problem> {
        let key = Key {
            session: ask.accepted.session.clone(),
            command_id: ask.accepted.id.clone(),
        };
        let (preference, fingerprint) = (ask.preference, ask.accepted.fingerprint);
        let id = key.command_id.as_str();
        let _place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let why = "gateway.in_flight requests wait for their reply. Nothing was done.";
            Problem::of(Fault::TooManyRequests, why).about(id)
        })?;
        let _counted = Counted::new();
        let within = preference
            .wait
            .map_or(self.timeout, |it| it.min(self.timeout));
        let call = self.requests.send(self.message(endpoint, &key, ask));
        let Ok(call) = tokio::time::timeout(within, call).await else {
            return Err(unsent().about(id));
        };
        let mut call = call.ok_or_else(|| unsent().about(id))?;
        if endpoint.changes() || preference.respond_async {
            self.recent.keep(&key, fingerprint, call.progress());
        }
        // Without a time to wait, the answer is given once the broker has the command.
        let ended = if preference.respond_async && preference.wait.is_none() {
            match self.first(call.queued(), within).await {
                Ended::Replied(_) => Ended::TooLate,
                other => other,
            }
        } else {
            self.first(call.settled(), within).await
        };
        match ended {
            Ended::Replied(reply) => Ok(answer::of(
                endpoint,
                &key.session,
                &key.command_id,
                accept,
                &reply.body,
            )),
            Ended::Refused => {
                let why = "No queue takes the command, or the broker refuses it: is a worker set up? \
                           See `groupmq doctor`.";
                Err(Problem::of(Fault::Unavailable, why).about(id))
            }
            Ended::Stopped | Ended::TooLate if call.withdraw() => Err(unsent().about(id)),
            Ended::TooLate if preference.respond_async && call.is_queued() => Ok(accepted(&key)),
            Ended::Stopped | Ended::TooLate => {
                // What only reads is remembered from now on.
                self.recent.keep(&key, fingerprint, call.progress());
                Err(no_reply(&key))
            }
        }
    }

    fn message(&self, endpoint: Endpoint, key: &Key, ask: Ask) -> Outgoing {
        Outgoing {
            exchange: self.names.commands(),
            routing_key: key.session.to_string(),
            message_id: key.command_id.to_string(),
            message_type: endpoint.command.as_str().to_owned(),
            headers: ask.headers,
            body: ask.body,
            ..Outgoing::default()
        }
    }

    /// Waits for progress, within the time and while the process lives.
    async fn first(
        &self,
        progress: impl Future<Output = Option<Progress>>,
        within: Duration,
    ) -> Ended {
        let stopping = async {
            self.lifecycle.stopping().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            progress = progress => match progress {
                Some(Progress::Replied(reply)) => Ended::Replied(reply),
                Some(Progress::Refused) => Ended::Refused,
                // The broker has it: as far as an asynchronous answer goes.
                Some(Progress::Sent | Progress::Queued) => Ended::TooLate,
                None => Ended::Stopped,
            },
            () = tokio::time::sleep(within) => Ended::TooLate,
            () = stopping => Ended::Stopped,
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
    Problem::of(Fault::NoReply, why)
        .about(key.command_id.as_str())
        .with(header::LOCATION, status::location(key))
}

fn unsent() -> Problem {
    let why = "The broker cannot be reached, or takes nothing for now. Nothing was done.";
    Problem::of(Fault::Unavailable, why)
}

/// Counted among those that wait, for as long as it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        events::requests_waiting(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        events::requests_waiting(-1.0);
    }
}
