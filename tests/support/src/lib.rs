//! What groupmq's tests share, as a crate of its own so that it is compiled once and not once per
//! test binary:
//!
//! - [`rabbitmq::RabbitMq`]: a private RabbitMQ node, to share or to stop, kill and start again;
//! - [`postgres::Postgres`]: a private PostgreSQL server with a database for each test;
//! - [`proxy::Proxy`]: a TCP proxy that cuts, holds and refuses links on demand;
//! - [`disk::SmallDisk`]: a disk for a worker's store, to fill up and to clear;
//! - [`tls::Certificates`]: a throw-away certificate authority with a server and a client;
//! - [`worker::Worker`]: the real binary as a child process, to stop, kill and look at;
//! - [`producer::Producer`]: sends commands and collects replies and events, whatever the broker
//!   goes through meanwhile;
//! - [`raw::Raw`]: an AMQP client that sends bytes which no client library would.
//!
//! It deliberately knows nothing of groupmq's code: what it knows of the contract stands in the
//! README too.

pub mod disk;
pub mod postgres;
pub mod producer;
pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod tls;
pub mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A topology prefix that no other test uses.
#[must_use]
pub fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    #[expect(clippy::disallowed_methods, reason = "a name, not a time")]
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() % 1_000_000_000);
    format!(
        "t{}-{now}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
