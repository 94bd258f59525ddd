//! The transport: connections, topology, publishing with confirms, consuming with acknowledgements.
//!
//! It knows nothing of commands, and nobody else names `lapin`. Its own supervisor keeps links
//! alive (lapin's recovery stays off: it gives up, and it leaves closed consumers silent). Publishing
//! and consuming use separate connections, since a broker that is short of memory blocks whole
//! connections that publish, acknowledgements included.

mod client;
mod connection;
mod consumer;
mod error;
mod mend;
mod message;
mod properties;
mod publisher;
mod stream;
mod supervisor;
mod topology;
mod walk;

pub use client::{CallError, Caller, Client, Tailed};
pub use connection::Target;
pub use consumer::{Deliveries, Delivery, consume};
pub use error::{Error, Refusal};
pub use message::{Incoming, Outgoing, header};
pub use publisher::{Publisher, Stopped};
pub use topology::{Names, Topology};
pub use walk::{Held, Walk};
