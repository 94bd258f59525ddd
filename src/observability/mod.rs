//! Logs, metrics and traces. They never hold bodies, phone numbers or secrets.

pub mod describe;
pub mod events;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod repeats;
pub mod trace;
