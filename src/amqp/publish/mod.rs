//! Publishing with confirms: one writer a channel, many messages unconfirmed at once, nothing forgotten.

mod batch;
pub(in crate::amqp) mod call;
mod channel;
mod direct;
pub(in crate::amqp) mod fate;
mod pipeline;
pub(in crate::amqp) mod probe;
pub(in crate::amqp) mod publisher;
mod refusing;
pub(in crate::amqp) mod rpc;
mod trial;
mod writer;
