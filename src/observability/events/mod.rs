//! One function for each event that operators are interested in: a log line, a metric, or both.

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

/// The target of the log line of each command; `log.filter` can silence it. Documented.
const COMMANDS: &str = "groupmq::commands";
/// The same for each request to the gateway.
const REQUESTS: &str = "groupmq::requests";

/// Milliseconds as a number in JSON too; tracing writes 128-bit numbers as text.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A reply that the broker has confirmed.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredCommand<'a> {
    /// The command's id.
    pub command_id: &'a str,
    /// Its type.
    pub command_type: &'static str,
    /// The session it was for.
    pub session: &'a str,
    /// `ok`, or the error's code.
    pub outcome: &'static str,
    /// Whether it was replayed from the ledger.
    pub replayed: bool,
    /// The time since the command's turn.
    pub took: Duration,
}

/// A command was answered: one line each, with ids and outcome and none of its content.
pub fn command_answered(answer: AnsweredCommand<'_>) {
    let AnsweredCommand {
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

/// A stage of processing a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// On the broker, if the producer sets the time of publishing.
    Queue,
    /// In the worker, waiting for its turn in its lane.
    Wait,
    /// Reading or writing the ledger.
    Ledger,
    /// The engine's work; with the sandbox, its transaction with the ledger's record.
    Engine,
    /// Until the broker has confirmed the reply and the events.
    Confirm,
    /// In total, from its arrival at the worker.
    Total,
}

/// A stage of a command ended.
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

/// A command arrived at the worker.
pub fn command_arrived() {
    gauge!(name::IN_FLIGHT).increment(1.0);
}

/// A command left the worker.
pub fn command_left() {
    gauge!(name::IN_FLIGHT).decrement(1.0);
}

/// The age of the oldest command in the worker.
pub fn oldest_in_flight(age: Duration) {
    gauge!(name::OLDEST).set(age.as_secs_f64());
}

/// The number of groups whose commands wait behind a deferred one.
pub fn lanes_paused(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::PAUSED).set(count as f64);
}

/// An attempt failed and is retried at once.
pub fn command_retried() {
    counter!(name::RETRIES).increment(1);
}

/// The approximate number of commands in the ledger.
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

/// The number of log lines that were lost since the start.
pub fn log_lines_lost(total: u64) {
    counter!(name::LOG_LINES_LOST).absolute(total);
}

/// A command has been in the executor for longer than all of its deadlines allow.
pub fn command_hangs(limit: Duration) {
    error!(
        limit_ms = limit.as_millis(),
        "a command hangs, which is a fault in groupmq; /livez fails until the command ends"
    );
}

/// A role has started.
pub fn role_started(role: &'static str) {
    info!(role, "started");
    gauge!(name::ROLE, "role" => role).set(1.0);
}

/// A command was deferred.
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

/// A deferred command did not return.
pub fn deferred_command_lost(command_id: &str, command_type: &str, session: &str) {
    error!(
        command_id,
        command_type,
        session,
        "a deferred command did not return; was a delay queue deleted or purged? its group continues \
         without it; its producer may send it again with the same id"
    );
    counter!(name::LOST).increment(1);
}

/// The same for a deferred command of which only the group is known.
pub fn unknown_deferred_command_lost() {
    error!(
        "a deferred command did not return; was a delay queue purged? its group continues without it"
    );
    counter!(name::LOST).increment(1);
}

/// This worker took over a command queue.
pub fn shard_taken_over(shard: u16) {
    info!(shard, "consuming a shard");
}

/// This worker has more than its quota and hands a command queue back.
pub fn shard_handed_back(shard: u16) {
    info!(shard, "handing a shard back to other workers");
}

/// Another worker took over a command queue of this one.
pub fn shard_fenced(shard: u16) {
    warn!(
        shard,
        "another worker has taken over a shard, and executes its unfinished commands again"
    );
}

/// The broker closed the channel of a command queue; it is taken over again.
pub fn shard_channel_lost(shard: u16, error: &(dyn Error + 'static)) {
    warn!(shard, error, "the broker closed the channel of a shard");
}

/// The number of command queues that this worker consumes.
pub fn shards_held(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::SHARDS).set(count as f64);
}

/// An operation is delayed, so that its account stays within its limits.
pub fn account_limited(kind: &'static str) {
    counter!(name::LIMITED, "kind" => kind).increment(1);
}

/// WhatsApp limited an account's request rate.
pub fn account_rate_limited(session: &str, kind: &'static str, pause: Duration) {
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

/// The number of accounts that are restricted now, among those of this worker.
pub fn accounts_restricted(count: usize) {
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    gauge!(name::RESTRICTED).set(count as f64);
}

/// An account that was restricted works again.
pub fn account_unrestricted(session: &str) {
    info!(session, "the session's account works again");
}

/// An operation failed because the store cannot be used; one of many while that lasts.
pub fn store_failed(error: &(dyn Error + 'static)) {
    debug!(error, "the store cannot be used");
    counter!(name::STORE_FAILURES).increment(1);
}

/// The store cannot be used: logged when that begins, and periodically while it lasts.
pub fn store_unavailable(error: &(dyn Error + 'static), since: Duration, failures: u64) {
    let since_ms = millis(since);
    warn!(
        error,
        since_ms, failures, "the store is unavailable; commands wait until it is back"
    );
}

/// The store can be used again, after an outage that was logged.
pub fn store_available_again(after: Duration, failures: u64) {
    let after_ms = millis(after);
    info!(after_ms, failures, "the store is available again");
}

/// Spans were dropped because the buffer is full.
pub fn spans_dropped(count: u64) {
    counter!(name::SPANS_LOST).increment(count);
}

/// The collector did not accept spans; they are lost.
pub fn spans_not_sent(count: usize, error: &(dyn Error + 'static)) {
    warn!(
        error,
        count, "the OTLP collector (otlp.endpoint) did not accept spans"
    );
    counter!(name::SPANS_LOST).increment(count as u64);
}

/// The store refused an operation; it is retried.
pub fn store_refused(error: &(dyn Error + 'static)) {
    error!(
        error,
        "the store rejects a write that must not be lost; retrying"
    );
    counter!(name::STORE_FAILURES).increment(1);
}

/// The store was replaced, or is not the one of the broker's commands; the process stops.
pub fn store_lost(error: &(dyn Error + 'static)) {
    error!(
        error,
        "this is not the store of this installation; stopping"
    );
}

/// A request to the gateway that was answered.
#[derive(Debug, Clone, Copy)]
pub struct AnsweredRequest<'a> {
    /// Its method.
    pub method: &'a str,
    /// The route, with parameter names instead of values.
    pub route: &'a str,
    /// The status of the response.
    pub status: u16,
    /// The request id, of the client or of the gateway.
    pub request_id: &'a str,
    /// W3C's trace context, if the client sent one.
    pub traceparent: Option<&'a str>,
    /// The duration.
    pub took: Duration,
}

/// A request was answered: one line, without its path, query or body.
pub fn request_answered(request: AnsweredRequest<'_>) {
    let AnsweredRequest {
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
