//! The transport: connections, topology, publishing with confirms, consuming with acknowledgements.
//!
//! It knows nothing of commands, and nobody else names `lapin`. Its own supervisor keeps links
//! alive (lapin's recovery stays off: it gives up, and it leaves closed consumers silent). Publishing
//! and consuming use separate connections, since a broker that is short of memory blocks whole
//! connections that publish, acknowledgements included.

mod batch;
mod broker;
mod call;
mod client;
mod connection;
mod consumer;
mod direct;
mod error;
mod fate;
mod installation;
mod lane;
mod layout;
mod listener;
mod mend;
mod message;
mod names;
mod passage;
mod ping;
mod probe;
mod properties;
mod publisher;
mod refusing;
mod requests;
mod session;
mod stream;
mod supervisor;
mod taps;
mod topology;
mod trial;
mod walk;
mod webhooks;
mod writer;

pub use broker::Broker;
pub use call::{Call, Progress};
pub use client::{CallError, Caller, Client, Tailed};
pub use connection::Target;
pub use consumer::{Consumer, Delivery, Window};
pub use error::{Error, Refusal};
pub use fate::BROKER_REFUSED;
pub use layout::{Flow, Pour, Until, Way};
pub use listener::{Heard, listen};
pub use message::{Incoming, Outgoing, header};
pub use names::Names;
pub use ping::{Arrived, Pings};
pub use publisher::{Publisher, Stopped};
pub use requests::Requests;
pub use session::{Service, Session, keep};
pub use taps::{Tap, Tapped, Taps, Waiting};
pub use topology::{Comparison, Dependents, Doubt, Scope, TOLD_WITHIN, Topology};
pub use walk::{Held, Walk};
