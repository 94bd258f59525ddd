//! Metrics: their names, units and labels, and the exporter.
//!
//! The functions in [`super::events`] record them, together with the corresponding log lines. Labels hold
//! neither sessions nor phone numbers nor ids, so their number is bounded.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only increases, from 0 at the start of the process.
    Counter,
    /// A current value.
    Gauge,
    /// A distribution of seconds.
    Seconds,
}

/// A metric as operators see it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// Its description.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $constant:ident = $name:literal, $kind:ident $labels:tt;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: MetricKind::$kind,
            labels: &$labels,
            help: concat!($($help),+).trim_ascii(),
        }),*];
    };
}

metrics! {
    /// Commands answered, by type and by outcome: ok, or the error's code
    COMMANDS = "groupmq_commands_total", Counter ["type", "outcome"];
    /// Replies that were replayed from the ledger
    REPLAYS = "groupmq_commands_replayed_total", Counter [];
    /// Time from a command's turn to its confirmed reply
    COMMAND_SECONDS = "groupmq_command_duration_seconds", Seconds ["type"];
    /// Duration of each stage of a command: queue (on the broker, in whole seconds, if the producer sets
    /// the property timestamp), wait (in the worker, for its turn), ledger, engine, confirm (by the
    /// broker), total (from its arrival at the worker)
    STAGES = "groupmq_command_stage_duration_seconds", Seconds ["stage"];
    /// Commands in the worker that are not acknowledged yet
    IN_FLIGHT = "groupmq_commands_in_flight", Gauge [];
    /// Age of the oldest of these commands, in seconds
    OLDEST = "groupmq_oldest_command_in_flight_seconds", Gauge [];
    /// Groups whose commands wait because one of them is deferred
    PAUSED = "groupmq_lanes_paused", Gauge [];
    /// Attempts that were repeated at once, before a command was deferred
    RETRIES = "groupmq_command_retries_total", Counter [];
    /// Commands in the ledger, approximately
    LEDGER = "groupmq_ledger_commands", Gauge [];
    /// Messages that the broker has confirmed
    CONFIRMED = "groupmq_messages_confirmed_total", Counter [];
    /// Messages that the broker refused at first (basic.nack); they are published again
    REFUSED = "groupmq_messages_refused_total", Counter [];
    /// Replies whose queue did not exist, or was one of groupmq's own; they are on the replies exchange
    /// only
    RETURNED = "groupmq_replies_returned_total", Counter [];
    /// Messages that were given up because the broker closed the connection over them, by kind and by
    /// AMQP's reply code; replies that their queue refuses, with `nack`
    GIVEN_UP = "groupmq_messages_given_up_total", Counter ["kind", "code"];
    /// Seconds in which the broker blocked publishing
    BLOCKED_SECONDS = "groupmq_broker_blocked_seconds_total", Counter [];
    /// Spans that did not reach the OTLP collector
    SPANS_LOST = "groupmq_spans_lost_total", Counter [];
    /// Deferrals of commands, by the code of the reason
    DEFERRED = "groupmq_commands_deferred_total", Counter ["reason"];
    /// Messages kept as dead letters, by the code of the reason
    DEAD_LETTERS = "groupmq_dead_letters_total", Counter ["reason"];
    /// Deferred commands that did not return
    LOST = "groupmq_resting_commands_lost_total", Counter [];
    /// Command queues that this worker consumes now
    SHARDS = "groupmq_shards_held", Gauge [];
    /// Operations that had to wait for an account's limit, by the kind of the limit
    LIMITED = "groupmq_account_limited_total", Counter ["kind"];
    /// Rate-limit responses from WhatsApp, by the kind of operation
    PATIENCE = "groupmq_account_patience_total", Counter ["kind"];
    /// Times that an account was reported restricted or banned
    RESTRICTIONS = "groupmq_account_restrictions_total", Counter [];
    /// Accounts that are restricted or banned now, so that their commands are deferred
    RESTRICTED = "groupmq_accounts_restricted", Gauge [];
    /// Panics in the process
    PANICS = "groupmq_engine_panics_total", Counter [];
    /// Log lines that were dropped because stderr was not read fast enough or is closed
    LOG_LINES_LOST = "groupmq_log_lines_lost_total", Counter [];
    /// Requests to WAHA, by outcome: ok, refused, failed, unreadable, no-answer, not-sent
    WAHA_REQUESTS = "groupmq_waha_requests_total", Counter ["outcome"];
    /// Time from a request to WAHA to the end of its answer
    WAHA_REQUEST_SECONDS = "groupmq_waha_request_duration_seconds", Seconds ["outcome"];
    /// Sessions in WAHA, by status
    WAHA_SESSIONS = "groupmq_waha_sessions", Gauge ["status"];
    /// Events from WAHA (webhook, socket) and changes found by comparisons, by outcome
    WAHA_EVENTS = "groupmq_waha_events_total", Counter ["source", "outcome"];
    /// Lists of groups or members from WAHA that were unreliable: no-groups (all or most are missing),
    /// incomplete (members are missing), failed (a group could not be read)
    WAHA_DOUBTFUL_LOOKS = "groupmq_waha_doubtful_looks_total", Counter ["reason"];
    /// Open WebSockets to WAHA
    WAHA_SOCKETS = "groupmq_waha_sockets", Gauge [];
    /// Events of an engine that wait for the broker
    PENDING_EVENTS = "groupmq_pending_events", Gauge [];
    /// Events of an engine that the broker has confirmed
    PUBLISHED_EVENTS = "groupmq_pending_events_published_total", Counter [];
    /// Failed operations on the store
    STORE_FAILURES = "groupmq_store_failures_total", Counter [];
    /// Attempts to deliver an event to a webhook endpoint, by outcome
    WEBHOOK_ATTEMPTS = "groupmq_webhook_attempts_total", Counter ["outcome"];
    /// Duration of attempts to deliver an event to a webhook endpoint, by outcome
    WEBHOOK_SECONDS = "groupmq_webhook_attempt_duration_seconds", Seconds ["outcome"];
    /// Webhook deliveries given up and kept as dead letters
    WEBHOOK_DEAD = "groupmq_webhook_dead_letters_total", Counter [];
    /// Queues of webhook endpoints that were deleted and recreated; the events in them are lost
    WEBHOOK_QUEUES_REMADE = "groupmq_webhook_queues_remade_total", Counter [];
    /// Webhook endpoints
    WEBHOOKS = "groupmq_webhooks", Gauge [];
    /// Webhook endpoints whose breaker is open, so their deliveries wait
    WEBHOOKS_FAILING = "groupmq_webhooks_failing", Gauge [];
    /// State changes of webhook endpoints: failing, recovered, disabled or removed
    WEBHOOK_CHANGES = "groupmq_webhook_changes_total", Counter ["change"];
    /// Attempts left out of the delivery log because the store was unavailable or slow
    WEBHOOK_LOG_SKIPPED = "groupmq_webhook_log_skipped_total", Counter [];
    /// Requests to the gateway, by route and status
    GATEWAY_REQUESTS = "groupmq_gateway_requests_total", Counter ["route", "status"];
    /// Duration of gateway requests until the response headers
    GATEWAY_SECONDS = "groupmq_gateway_request_duration_seconds", Seconds ["route"];
    /// Gateway requests that wait for a reply
    GATEWAY_IN_FLIGHT = "groupmq_gateway_in_flight", Gauge [];
    /// Clients that listen to live events
    GATEWAY_LISTENERS = "groupmq_gateway_listeners", Gauge [];
    /// 1 while the broker blocks publishing (connection.blocked), else 0
    BLOCKED = "groupmq_broker_blocked", Gauge [];
    /// Connections to the broker that were opened, by purpose
    CONNECTIONS = "groupmq_broker_connections_total", Counter ["purpose"];
    /// Connections to the broker that failed or broke, by purpose
    DISCONNECTIONS = "groupmq_broker_disconnections_total", Counter ["purpose"];
    /// Exchanges and queues that were deleted and declared again
    TOPOLOGY_REPAIRS = "groupmq_topology_repairs_total", Counter [];
    /// Exchanges, queues and webhook endpoints that were missing on the broker at the last check and could
    /// not be declared
    TOPOLOGY_MISSING = "groupmq_topology_missing", Gauge [];
    /// 1 for each role that the process has started
    ROLE = "groupmq_role", Gauge ["role"];
}

/// The bounds of a histogram's buckets, in seconds.
const BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// How often measurements are put into buckets while there is no scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// The exporter of the metrics as text.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exposition")
    }
}

/// Installs the metrics recorder of the process.
///
/// # Errors
/// When a recorder is installed already.
pub fn install() -> Result<Exposition, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(BOUNDS)?
        .install_recorder()?;
    for metric in ALL {
        let alone = metric.labels.is_empty();
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Seconds => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
        // Initialised at the start, so that an alert on a change sees the first one.
        match metric.kind {
            MetricKind::Counter if alone => metrics::counter!(metric.name).absolute(0),
            MetricKind::Gauge if alone => metrics::gauge!(metric.name).set(0.0),
            _ => {}
        }
    }
    Ok(Exposition(handle))
}

impl Exposition {
    /// The metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the memory of measurements small while there is no scrape; never ends.
    pub async fn upkeep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}
