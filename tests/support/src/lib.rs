//! What groupmq's tests share, as a crate of its own so that it is compiled once and not once per
//! test binary:
//!
//! - [`rabbitmq::RabbitMq`]: a private RabbitMQ node, to share or to stop, kill and start again;
//! - [`postgres::Postgres`]: a private PostgreSQL server with a database for each test;
//! - [`pgbouncer::Pgbouncer`]: a private pgbouncer before such a server;
//! - [`proxy::Proxy`]: a TCP proxy that cuts, holds and refuses links on demand;
//! - [`disk::SmallDisk`]: a disk for a worker's store, to fill up and to clear;
//! - [`tls::Certificates`]: a throw-away certificate authority with a server and a client;
//! - [`waha::Waha`]: a WAHA server with three engines and what each of them gets wrong;
//! - [`worker::Worker`]: the real binary as a child process, to stop, kill and look at;
//! - [`producer::Producer`]: sends commands and collects replies and events, whatever the broker
//!   goes through meanwhile;
//! - [`announcer::Announcer`]: publishes events as a worker does, whatever the broker goes through;
//! - [`receiver::Receiver`]: a webhook endpoint that answers as it is told and keeps what it got;
//! - [`raw::Raw`]: an AMQP client that sends bytes which no client library would.
//!
//! It deliberately knows nothing of groupmq's code: what it knows of the contract stands in the
//! documents too.

pub mod announcer;
pub mod disk;
pub mod pgbouncer;
pub mod postgres;
pub mod producer;
pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod receiver;
pub mod tls;
pub mod waha;
pub mod worker;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

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

/// An address on loopback that nobody listens on, for a server that cannot be asked which port it got.
///
/// Not one that the system would choose: it hands those out to outgoing connections as well, one of which
/// may have it before the server does, or while the server is being started again. It is this process's until that
/// ends: a server may bind it late, and other tests run at the same time.
#[must_use]
pub fn free_address() -> SocketAddr {
    static MINE: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let folder = std::env::temp_dir().join("groupmq-test-ports");
    loop {
        let port = 10_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 10_000).unwrap_or(0);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let Some(lock) = locked(&folder, port) else {
            continue;
        };
        if TcpListener::bind(address).is_ok() {
            MINE.lock().push(lock);
            return address;
        }
    }
}

/// The lock file of a port, unless another process holds it.
fn locked(folder: &Path, port: u16) -> Option<File> {
    std::fs::create_dir_all(folder).ok()?;
    let file = File::create(folder.join(port.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}
