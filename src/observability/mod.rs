//! Logs and metrics: where they go, what they may hold. Never bodies, phone numbers or secrets.

pub mod events;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod trace;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{Log, LogFormat};

/// Never logged, whatever the filter says: lapin writes returned messages out, body included, and tells
/// anew of what we report in our own words; the pool tells of each connection that an outage of the
/// store has cost.
const NEVER: &str = "lapin=off,sqlx_core::pool=warn";

/// Starts logging to stderr, so that stdout stays free for what a command prints.
///
/// # Errors
/// When `log.filter` is no filter.
pub fn init(log: &Log) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(format!("{},{NEVER}", log.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
