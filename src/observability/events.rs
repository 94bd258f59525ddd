//! One function for each thing worth telling an operator: a log line, a metric, or both.

mod broker;
mod topology;
mod waha;
mod webhooks;

use std::error::Error;
use std::time::Duration;

use ::metrics::{counter, gauge, histogram};
use tracing::{debug, error, info, warn};

use super::metrics as name;

pub use broker::*;
pub use topology::*;
pub use waha::*;
pub use webhooks::*;

/// The target of the line that each command has; `log.filter` can silence it. Documented.
const COMMANDS: &str = "groupmq::commands";
/// The same for each request to the gateway.
const REQUESTS: &str = "groupmq::requests";

/// Milliseconds as a number in JSON too, where tracing makes a text of 128 bits.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that the broker has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The command's id.
    pub command_id: &'a str,
    /// Its type.
    pub command_type: &'static str,
    /// The session it was for.
    pub session: &'a str,
    /// `ok`, or the error's code.
    pub outcome: &'static str,
    /// Whether it came from the ledger.
    pub replayed: bool,
    /// How long it took from the command's turn on.
    pub took: Duration,
}

/// A command was answered: one line for each, with ids and outcome and nothing of its content.
pub fn command_answered(answer: Answer<'_>) {
    let Answer {
        command_id,
        command_type,
        session,
        outcome,
        replayed,
        took,
    } = answer;
    let duration_ms = millis(took);
    info!(
        target: COMMANDS,
        command_id,
        command_type, session, outcome, replayed, duration_ms, "command answered"
    );
    counter!(name::COMMANDS, "type" => command_type, "outcome" => outcome).increment(1);
    histogram!(name::COMMAND_SECONDS, "type" => command_type).record(took);
    if replayed {
        counter!(name::REPLAYS).increment(1);
    }
}

/// Syncing the bindings of a webhook endpoint with its command failed; it is retried.
pub fn bindings_failed(error: &(dyn Error + 'static)) {
    warn!(
        error,
        "cannot sync the queue of a webhook endpoint with its settings; retrying"
    );
}

/// A part of what is done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On the broker, where the producer says when it published.
    Queue,
    /// In the worker, for its turn in its lane.
    Wait,
    /// Asking the ledger, or telling it.
    Ledger,
    /// The engine's work; with the sandbox, its transaction with the ledger's record.
    Engine,
    /// Until the broker has confirmed what came of it.
    Confirm,
    /// All of it, from its arrival at the worker.
    Total,
}

/// A stage of a command has passed.
pub fn stage_passed(stage: Stage, took: Duration) {
    let stage = match stage {
        Stage::Queue => "queue",
        Stage::Wait => "wait",
        Stage::Ledger => "ledger",
        Stage::Engine => "engine",
        Stage::Confirm => "confirm",
        Stage::Total => "total",
    };
    histogram!(name::STAGES, "stage" => stage).record(took);
}

/// A command has come into the worker's hands.
pub fn command_arrived() {
    gauge!(name::IN_FLIGHT).increment(1.0);
}

/// A command is out of the worker's hands.
pub fn command_left() {
    gauge!(name::IN_FLIGHT).decrement(1.0);
}

/// How long the worker has had the oldest command in hand.
pub fn oldest_in_flight(age: Duration) {
    gauge!(name::OLDEST).set(age.as_secs_f64());
}

/// In how many groups commands wait behind one that rests.
pub fn lanes_paused(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::PAUSED).set(count as f64);
}

/// An attempt failed and is repeated at once.
pub fn command_retried() {
    counter!(name::RETRIES).increment(1);
}

/// About how many commands the ledger remembers.
pub fn ledger_measured(size: u64) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::LEDGER).set(size as f64);
}

/// A message went to the dead-letter queue.
pub fn dead_lettered(command_id: &str, code: &'static str, reason: &str) {
    warn!(command_id, code, reason, "message dead-lettered");
    counter!(name::DEAD_LETTERS, "reason" => code).increment(1);
}

/// An engine panicked while executing a command.
pub fn engine_panicked(command_type: &str, text: &str) {
    error!(command_type, text, "the engine panicked");
}

/// A thread panicked, at this place in the code.
pub fn panicked(place: &str, text: &str) {
    error!(
        place,
        text, "a panic, which is a fault in groupmq: please report it"
    );
    counter!(name::PANICS).increment(1);
}

/// So many log lines have been lost since the start.
pub fn log_lines_lost(total: u64) {
    counter!(name::LOG_LINES_LOST).absolute(total);
}

/// The executor has had a command for longer than any of its deadlines allows.
pub fn command_hangs(limit: Duration) {
    error!(
        limit_ms = limit.as_millis(),
        "a command hangs, which is a fault in groupmq; /livez fails until it is over"
    );
}

/// A role is at work.
pub fn role_started(role: &'static str) {
    info!(role, "started");
    gauge!(name::ROLE, "role" => role).set(1.0);
}

/// A command cannot be done now and rests.
pub fn command_deferred(
    command_id: &str,
    command_type: &str,
    code: &'static str,
    reason: &str,
    tier: Duration,
) {
    let tier_ms = millis(tier);
    info!(
        command_id,
        command_type, code, reason, tier_ms, "command deferred"
    );
    counter!(name::DEFERRED, "reason" => code).increment(1);
}

/// A command that rested did not come back.
pub fn resting_command_lost(command_id: &str, command_type: &str, session: &str) {
    error!(
        command_id,
        command_type,
        session,
        "a resting command did not come back; was a delay queue deleted or emptied? its group goes on \
         without it; its producer may send it again with the same id"
    );
    counter!(name::LOST).increment(1);
}

/// The same of one of which nothing is known but its group.
pub fn unknown_resting_command_lost() {
    error!(
        "a resting command did not come back; was a delay queue emptied? its group goes on without \
         it"
    );
    counter!(name::LOST).increment(1);
}

/// This worker has taken a command queue over.
pub fn shard_taken_over(shard: u16) {
    info!(shard, "consuming a shard");
}

/// This worker has more than its part and gives a command queue to others.
pub fn shard_handed_back(shard: u16) {
    info!(shard, "handing a shard back to other workers");
}

/// Another worker has a command queue that this one worked on.
pub fn shard_fenced(shard: u16) {
    warn!(
        shard,
        "another worker has taken over a shard, and executes again what was not finished here"
    );
}

/// The broker closed the channel of one command queue; it is taken over anew.
pub fn shard_channel_lost(shard: u16, error: &(dyn Error + 'static)) {
    warn!(shard, error, "the broker closed the channel of a shard");
}

/// How many command queues this worker has.
pub fn shards_held(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::SHARDS).set(count as f64);
}

/// An operation has to wait, so that its account stays within its limits.
pub fn account_limited(kind: &'static str) {
    counter!(name::LIMITED, "kind" => kind).increment(1);
}

/// WhatsApp limited an account's request rate.
pub fn account_asked_for_patience(session: &str, kind: &'static str, pause: Duration) {
    let pause_ms = millis(pause);
    warn!(
        session,
        kind,
        pause_ms,
        "WhatsApp limits the account's request rate; operations of this kind are deferred"
    );
    counter!(name::PATIENCE, "kind" => kind).increment(1);
}

/// An account was reported restricted or banned.
pub fn account_restricted(session: &str, pause: Duration) {
    let pause_ms = millis(pause);
    error!(
        session,
        pause_ms, "the session's account is restricted or banned; its commands are deferred"
    );
    counter!(name::RESTRICTIONS).increment(1);
}

/// How many accounts are restricted now, of those that this worker acts for.
pub fn accounts_restricted(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::RESTRICTED).set(count as f64);
}

/// An account that was restricted works again.
pub fn account_unrestricted(session: &str) {
    info!(session, "the session's account works again");
}

/// Something failed because the store cannot be used; one of many while that lasts.
pub fn store_failed(error: &(dyn Error + 'static)) {
    debug!(error, "the store cannot be used");
    counter!(name::STORE_FAILURES).increment(1);
}

/// The store cannot be used: told when that begins, and now and then while it lasts.
pub fn store_unavailable(error: &(dyn Error + 'static), since: Duration, failures: u64) {
    let since_ms = millis(since);
    warn!(
        error,
        since_ms, failures, "the store is unavailable; commands wait until it is back"
    );
}

/// The store can be used again, after an outage that was told of.
pub fn store_available_again(after: Duration, failures: u64) {
    let after_ms = millis(after);
    info!(after_ms, failures, "the store is available again");
}

/// Spans were not recorded, since those before them are not sent yet.
pub fn spans_dropped(count: u64) {
    counter!(name::SPANS_LOST).increment(count);
}

/// The collector did not take spans; they are gone.
pub fn spans_not_sent(count: usize, error: &(dyn Error + 'static)) {
    warn!(
        error,
        count, "the OTLP collector (otlp.endpoint) did not accept spans"
    );
    counter!(name::SPANS_LOST).increment(count as u64);
}

/// The store answered that it will not do something; asking goes on.
pub fn store_refused(error: &(dyn Error + 'static)) {
    error!(
        error,
        "the store rejects a write that must not be lost; retrying"
    );
    counter!(name::STORE_FAILURES).increment(1);
}

/// The store was replaced, or is not the broker's; the process stops.
pub fn store_lost(error: &(dyn Error + 'static)) {
    error!(
        error,
        "this is not the store that this installation works with; stopping"
    );
}

/// A request to the gateway, answered.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a str,
    /// The route, with names in place of values.
    pub route: &'a str,
    /// The status of the answer.
    pub status: u16,
    /// What the client, or we, call it.
    pub request_id: &'a str,
    /// W3C's trace context, where the client sent one.
    pub traceparent: Option<&'a str>,
    /// How long it took.
    pub took: Duration,
}

/// A request was answered: one line, without its path, its query or its body.
pub fn request_answered(request: Request<'_>) {
    let Request {
        method,
        route,
        status,
        request_id,
        traceparent,
        took,
    } = request;
    let duration_ms = millis(took);
    info!(
        target: REQUESTS,
        method,
        route, status, request_id, traceparent, duration_ms, "request answered"
    );
    let labels = [("route", route.to_owned()), ("status", status.to_string())];
    counter!(name::GATEWAY_REQUESTS, &labels).increment(1);
    histogram!(name::GATEWAY_SECONDS, "route" => route.to_owned()).record(took);
}

/// A request handler panicked.
pub fn request_panicked(text: &str) {
    error!(text, "a request handler of the gateway panicked");
}

/// The gateway accepts fewer connections than `gateway.connections` allows.
pub fn fewer_connections(most: usize) {
    warn!(
        most,
        "the limit of open files (ulimit -n) is too low for gateway.connections; the gateway accepts \
         at most this many connections"
    );
}

/// Changes the number of requests that wait for a reply.
pub fn requests_waiting(change: f64) {
    gauge!(name::GATEWAY_IN_FLIGHT).increment(change);
}

/// Changes the number of clients that listen to events.
pub fn listeners(change: f64) {
    gauge!(name::GATEWAY_LISTENERS).increment(change);
}

/// The gateway accepts requests.
pub fn gateway_listens(address: std::net::SocketAddr, open: bool) {
    if open {
        warn!(
            %address,
            "gateway listening without keys: anyone who can reach it is authorised for everything"
        );
    } else {
        info!(%address, "gateway listening");
    }
}
