//! The gateway as its clients see it: real HTTP to the real binary, through a real RabbitMQ to the
//! sandbox and back.
//!
//! Tests that merely use a broker share one; those that stop or kill one are in modules named
//! `own_node`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper may stop the test with the error"
)]

mod access;
mod as_in_waha;
mod browser;
mod events;
mod http;
mod idempotency;
mod joining;
mod large;
mod outages;
mod scene;
mod schemathesis;
mod seed;
