//! Configuration: merged from its sources, validated, and provided as plain values.
//!
//! `config.default.toml` contains every default and is the reference. No other module reads the environment.
//! Each section has a file with its type and its parser.

mod amqp;
mod delivery;
mod egress;
mod engine;
mod environment;
mod gateway;
mod load;
mod otlp;
mod process;
mod read;
mod safety;
mod store;
mod topology;
mod waha;
mod webhooks;

use std::path::PathBuf;

pub use amqp::{Amqp, Host, Tls};
pub use delivery::{Delivery, DeliveryCrash};
pub use egress::{DnsServer, Egress, EgressTls, Network};
pub use engine::{CrashPoint, Engine, Fault, Sandbox};
pub use gateway::{Access, ApiKey, Gateway, KeyName};
pub use load::{DEFAULTS, Sources};
pub use otlp::Otlp;
pub use process::{Executor, Log, LogFormat, Ops, Retry, Role, Shutdown};
pub use safety::{Bucket, Limits, Safety};
pub use store::{Ledger, Store};
pub use topology::{Topology, TopologyMode};
pub use waha::{Waha, WahaIntake, WahaPlaces, WahaServer};
pub use webhooks::DeclaredWebhook;

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The roles of this process.
    pub roles: Vec<Role>,
    /// `[amqp]`
    pub amqp: Amqp,
    /// `[topology]`
    pub topology: Topology,
    /// `[store]`
    pub store: Store,
    /// `[ledger]`
    pub ledger: Ledger,
    /// `[engine]`
    pub engine: Engine,
    /// `[executor]`
    pub executor: Executor,
    /// `[retry]`
    pub retry: Retry,
    /// `[safety]`
    pub safety: Safety,
    /// `[egress]`
    pub egress: Egress,
    /// `[[webhooks]]`
    pub webhooks: Vec<DeclaredWebhook>,
    /// `[delivery]`
    pub delivery: Delivery,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[ops]`
    pub ops: Ops,
    /// `[shutdown]`
    pub shutdown: Shutdown,
    /// `[otlp]`
    pub otlp: Otlp,
    /// `[log]`
    pub log: Log,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A source is not TOML.
    #[error("the configuration is not TOML: {0}")]
    Malformed(String),
    /// Settings are invalid; lists all of them, by key.
    #[error("the configuration is invalid:\n{}", .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<String>),
}
