//! Logs, metrics and traces: where they go, what they may hold. Never bodies, phone numbers or secrets.

pub mod describe;
pub mod events;
pub mod log;
pub mod metrics;
#[cfg(feature = "otlp")]
pub mod otlp;
mod repeats;
pub mod trace;
