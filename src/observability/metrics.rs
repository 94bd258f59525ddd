//! Metrics: their names, units and labels, and how they are shown.
//!
//! Nothing is counted here: [`super::events`] does that, beside the log line that tells the same.
//! Labels hold neither sessions nor phone numbers nor ids, so their number is bounded.

use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// How something stands now.
    Gauge,
    /// A distribution of seconds.
    Seconds,
}

/// A metric as operators meet it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The labels of each of its series.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $constant:ident = $name:literal, $kind:ident $labels:tt;)*) => {
        $(pub(super) const $constant: &str = $name;)*

        /// Every metric there is.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &$labels,
            help: concat!($($help),+).trim_ascii(),
        }),*];
    };
}

metrics! {
    /// Commands answered, by type and by outcome: ok, or the error's code
    COMMANDS = "groupmq_commands_total", Counter ["type", "outcome"];
    /// Answers that were repeated from the ledger
    REPLAYS = "groupmq_commands_replayed_total", Counter [];
    /// From a command's turn to its confirmed answer
    COMMAND_SECONDS = "groupmq_command_duration_seconds", Seconds ["type"];
    /// Commands that could not be done and went to rest, by the code of the reason
    DEFERRED = "groupmq_commands_deferred_total", Counter ["reason"];
    /// Messages kept as dead letters, by the code of the reason
    DEAD_LETTERS = "groupmq_dead_letters_total", Counter ["reason"];
    /// Resting commands that did not come back
    LOST = "groupmq_resting_commands_lost_total", Counter [];
    /// Operations that had to wait for an account's limit, by the kind of the limit
    LIMITED = "groupmq_account_limited_total", Counter ["kind"];
    /// Times that WhatsApp asked an account for patience, by the kind of operation
    PATIENCE = "groupmq_account_patience_total", Counter ["kind"];
    /// Times that an account was reported restricted or banned
    RESTRICTIONS = "groupmq_account_restrictions_total", Counter [];
    /// Accounts that are restricted or banned now, so that their commands wait
    RESTRICTED = "groupmq_accounts_restricted", Gauge [];
    /// Panics in the engine
    PANICS = "groupmq_engine_panics_total", Counter [];
    /// Uses of the store that failed
    STORE_FAILURES = "groupmq_store_failures_total", Counter [];
    /// 1 while the broker takes no messages (connection.blocked), else 0
    BLOCKED = "groupmq_broker_blocked", Gauge [];
    /// Connections to the broker that were made, by purpose
    CONNECTIONS = "groupmq_broker_connections_total", Counter ["purpose"];
    /// Connections to the broker that failed or broke, by purpose
    DISCONNECTIONS = "groupmq_broker_disconnections_total", Counter ["purpose"];
}

/// The bounds of a distribution's buckets, in seconds.
const BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// How often what has been measured is put into its buckets when nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// What has been counted, as text.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exposition")
    }
}

/// Begins to count, for the whole process.
///
/// # Errors
/// When something counts already.
pub fn install() -> Result<Exposition, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(BOUNDS)?
        .install_recorder()?;
    for metric in ALL {
        let alone = metric.labels.is_empty();
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Seconds => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
        // There from the start, so that an alert on a change sees the first one.
        match metric.kind {
            Kind::Counter if alone => metrics::counter!(metric.name).absolute(0),
            Kind::Gauge if alone => metrics::gauge!(metric.name).set(0.0),
            _ => {}
        }
    }
    Ok(Exposition(handle))
}

impl Exposition {
    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the memory of measurements small while nobody asks for them; never ends.
    pub async fn upkeep(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}
