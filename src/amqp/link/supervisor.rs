//! Keeps a connection to the broker alive: connect, serve, and connect again, forever, with jitter.
//!
//! Refusals (403, 404, 406, 530, wrong certificates …) end it with the reason: at once if no connection
//! ever worked, else after a grace period, since a broker that starts up may refuse what it has not loaded
//! yet, and an operator may be declaring something again. A refusal to connect has the grace period if any
//! connection of the process was accepted before. A connection that the broker closes over a message is
//! renewed at once: see `trial`.

use std::future::Future;
use std::time::Duration;

use lapin::Connection;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::config;
use crate::lifecycle::Lifecycle;
use crate::observability::events;

use crate::amqp::{Error, Target};

/// A task that is served over one connection after the other.
pub(in crate::amqp) trait ConnectionTask: Send {
    /// The purpose of the connection, in logs and in the broker's list of connections.
    fn purpose(&self) -> &'static str;

    /// Whether it had worked before it began: then a refusal has its grace period at once.
    fn has_worked(&self) -> bool {
        false
    }

    /// Works until the connection breaks (an error) or the work is over. Once everything is set up, its
    /// errors are those of [`Error::while_serving`].
    fn serve(&mut self, connection: &Connection) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A connection that served this long worked; the backoff restarts after it.
const WORKED: Duration = Duration::from_secs(5);

/// Serves the task until its work is over.
///
/// # Errors
/// When the broker refuses permanently, or the settings cannot be used.
pub(in crate::amqp) async fn keep(
    target: &Target,
    lifecycle: &Lifecycle,
    link: &mut impl ConnectionTask,
) -> Result<(), Error> {
    let settings = target.settings();
    let mut has_worked = link.has_worked();
    // Since when the broker has refused without interruption.
    let mut refused_since = None;
    let mut attempt = 0;
    // A node that accepts the connection may still be unusable, so the next attempt begins with the next
    // node.
    let mut turn = 0_usize;
    loop {
        // A stop needs no broker: it redelivers what was not acknowledged.
        let connection = tokio::select! {
            connected = target.connect(link.purpose(), turn) => connected,
            () = lifecycle.stopping() => return Ok(()),
        };
        let begun = Instant::now();
        let was_accepted = target.broker().is_some();
        let (served, may_wait) = match connection {
            Ok(connection) => (serve(connection, link).await, false),
            Err(error) => (Err(error), was_accepted),
        };
        let Err(error) = served else {
            return Ok(());
        };
        if begun.elapsed() >= WORKED {
            has_worked = true;
            refused_since = None;
            attempt = 0;
        }
        if error.is_final() {
            return Err(error);
        }
        if error.is_lasting() {
            let since = *refused_since.get_or_insert_with(Instant::now);
            let is_over = error.outlasts_grace() && since.elapsed() >= settings.refusal_grace;
            if is_over || !(has_worked || may_wait) {
                return Err(error);
            }
        } else {
            refused_since = None;
        }
        events::broker_lost(link.purpose());
        if let Error::Provoked(_) = error {
            // The message that caused it has been set aside, so there is no reason to wait.
            attempt = 0;
            info!(
                link = link.purpose(),
                error = &error as &dyn std::error::Error,
                "reconnecting; messages in flight are offered again one by one"
            );
            continue;
        }
        let wait = backoff(settings, attempt);
        attempt = attempt.saturating_add(1);
        turn = turn.wrapping_add(1);
        warn!(
            link = link.purpose(),
            error = &error as &dyn std::error::Error,
            attempt,
            wait_ms = wait.as_millis(),
            "the link to the broker is down; reconnecting"
        );
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = lifecycle.stopping() => return Ok(()),
        }
    }
}

async fn serve(connection: Connection, link: &mut impl ConnectionTask) -> Result<(), Error> {
    info!(link = link.purpose(), "connected to the broker");
    events::broker_connected(link.purpose());
    let served = link.serve(&connection).await;
    // Closing is a courtesy; a dead connection must not delay the next one.
    let close = connection.close(200, lapin::types::ShortString::default());
    if let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(1), close).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "closing the connection failed"
        );
    }
    served
}

/// The wait before the next attempt: exponential, capped, with jitter over its upper half.
fn backoff(settings: &config::Amqp, attempt: u32) -> Duration {
    let longest = settings
        .reconnect_min
        .saturating_mul(2_u32.saturating_pow(attempt.min(20)))
        .min(settings.reconnect_max);
    longest.mul_f64(rand::random_range(0.5..=1.0))
}
