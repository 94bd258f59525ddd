//! Publishing with confirms: one writer per connection, many unconfirmed messages, republished until
//! confirmed.

mod batch;
pub(in crate::amqp) mod call;
mod channel;
mod direct;
pub(in crate::amqp) mod fate;
mod nacks;
mod pipeline;
pub(in crate::amqp) mod probe;
pub(in crate::amqp) mod publisher;
mod refusing;
pub(in crate::amqp) mod rpc;
mod trial;
mod writer;
