//! The transport: connections, topology, publishing with confirms, consuming with acknowledgements.
//!
//! It knows nothing of commands, and no other module names `lapin`. The supervisor keeps connections alive
//! (lapin's recovery stays off: it gives up, and it leaves closed consumers silent). Publishing and
//! consuming use separate connections, since a broker that is short of memory blocks whole connections that
//! publish, acknowledgements included.

mod admin;
mod channel;
mod consume;
mod error;
mod link;
mod message;
mod properties;
mod publish;
mod topology;
mod without_picture;

pub use admin::browse::{Browse, BrowsedMessage};
pub use admin::client::{CallError, Caller, Client, Tailed};
pub use admin::load::{Feedback, Load};
pub use admin::ping::{Arrived, Pings};
pub use admin::reshard::{CommandSource, Destination, DrainMode, Transfer};
pub use consume::broadcast::{Heard, listen};
pub use consume::consumer::{Consumer, Delivery, Window};
pub use consume::subscriptions::{Prefetched, Subscription, SubscriptionDelivery, Subscriptions};
pub use error::{Error, Refusal};
pub use link::connect::Target;
pub use link::sanitize::broker::Broker;
pub use link::session::{Session, SessionTask, keep};
pub use message::{Incoming, Outgoing, header};
pub use publish::call::{PendingCall, Progress};
pub use publish::fate::BROKER_REFUSED;
pub use publish::publisher::{Publisher, Stopped};
pub use publish::rpc::Requests;
pub use topology::comparison::Comparison;
pub use topology::names::Names;
pub use topology::{DELETION_NOTICED_WITHIN, Dependents, Doubt, Scope, Topology};
