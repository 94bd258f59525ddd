//! Executes a command through the queue: publishes it and waits for its reply.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::answer::{self, Accept};
use super::problem::{Fault, Problem};
use super::published::Published;
use super::request::CommandRequest;
use super::routes::Route;
use super::status;
use crate::amqp::{Incoming, Names, Outgoing, Progress, Requests};
use crate::config;
use crate::lifecycle::Lifecycle;
use crate::observability::events;
use crate::store::ledger::Key;

/// How long requests are still answered after the process began to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Publishes commands and matches replies.
#[derive(Debug)]
pub(super) struct Calls {
    requests: Requests,
    names: Names,
    pub(super) published: Arc<Published>,
    /// One permit for each request that waits.
    permits: Arc<Semaphore>,
    timeout: Duration,
    lifecycle: Lifecycle,
}

/// The end of the wait for a reply.
enum WaitEnd {
    Replied(Arc<Incoming>),
    Refused,
    /// The process stops, or the connection was lost.
    Stopped,
    TooLate,
}

impl Calls {
    pub(super) fn new(
        settings: &config::Gateway,
        requests: Requests,
        names: Names,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            requests,
            names,
            published: Arc::new(Published::new(settings.commands_kept)),
            permits: Arc::new(Semaphore::new(settings.in_flight)),
            timeout: settings.timeout,
            lifecycle,
        }
    }

    /// Publishes a command and responds with its reply, or with 202 or 504 after the client's wait.
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
        let preference = command.preference;
        // The answer to a command that only reads is not kept: only this request can return it.
        let respond_async = preference.respond_async && route.changes();
        let id = key.command_id.as_str();
        let _permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            let why =
                "The limit of waiting requests (gateway.in_flight) is reached. Nothing was done.";
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
        if route.changes()
            && let Some(removal) = self.published.add(key.clone(), call.progress())
        {
            self.lifecycle.spawn_background(removal);
        }
        // With respond-async and no wait, respond as soon as the broker has confirmed the command.
        let ended = if respond_async && preference.wait.is_none() {
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
                let why = "The command was returned as unroutable or refused by the broker. Has a worker \
                 declared the queues? See `groupmq doctor`.";
                Err(Problem::new(Fault::Unavailable, why).for_command(id))
            }
            WaitEnd::Stopped | WaitEnd::TooLate if call.withdraw() => Err(unsent().for_command(id)),
            WaitEnd::TooLate if respond_async && call.is_queued() => Ok(accepted(&key)),
            WaitEnd::Stopped | WaitEnd::TooLate => Err(no_reply(route, &key)),
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

    /// Waits for progress, until the timeout or the stop of the process.
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
                // Confirmed by the broker: enough for an asynchronous response.
                Some(Progress::Sent | Progress::Queued) => WaitEnd::TooLate,
                None => WaitEnd::Stopped,
            },
            () = tokio::time::sleep(within) => WaitEnd::TooLate,
            () = stopping => WaitEnd::Stopped,
        }
    }
}

/// 202: the command is queued, and the client does not want to wait.
fn accepted(key: &Key) -> Response {
    let applied = HeaderName::from_static("preference-applied");
    let headers = [
        (header::LOCATION, status::location(key)),
        (applied, HeaderValue::from_static("respond-async")),
    ];
    let body = status::Status::pending(key);
    (StatusCode::ACCEPTED, headers, axum::Json(body)).into_response()
}

fn no_reply(route: Route, key: &Key) -> Problem {
    let id = key.command_id.as_str();
    if !route.changes() {
        let why =
            "The command only reads, and its answer is not kept: send the same request again.";
        return Problem::new(Fault::NoReply, why).for_command(id);
    }
    let why = "The command may still be executed. Request its state at Location, or send the same \
     request again with this command id as Idempotency-Key: it has one effect.";
    Problem::new(Fault::NoReply, why)
        .for_command(id)
        .with_header(header::LOCATION, status::location(key))
}

fn unsent() -> Problem {
    let why = "The broker cannot be reached or blocks publishing. Nothing was done.";
    Problem::new(Fault::Unavailable, why)
}

/// Counts a waiting request in the metric until it is dropped.
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
