//! What operators meet: manifests, the image's binary, the broker's users, alerts, dashboard, runbook.
//!
//! Nothing here needs a cluster or Docker. What these say is checked by the tools that read it
//! (`kubectl`, Kubernetes' schemas, `promtool`), against the settings and the metrics that exist, and,
//! for the users of the broker, on a real broker.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]
#![expect(
    clippy::print_stdout,
    reason = "measurements, to be read by a person; what is asserted is generous"
)]

mod image;
mod manifests;
mod observability;
mod permissions;
mod pipeline;
mod prometheus;
mod rights;
mod runbook;
mod tools;
