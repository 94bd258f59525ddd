//! Webhooks end to end: the real binary, a real broker, and real HTTP servers as endpoints.
//!
//! Tests that stop, kill or configure a broker are in modules named `own_node`.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper may stop the test with the error"
)]
#![expect(
    clippy::print_stdout,
    reason = "measurements, to be read by a person; what is asserted is generous"
)]

mod breaker;
mod broker;
mod clocks;
mod declared;
mod delivery;
mod filters;
mod first_start;
mod isolation;
mod kills;
mod large;
mod scene;
mod verifiers;
