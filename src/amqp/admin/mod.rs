//! What the command line and `reshard` do on the broker: one connection, no second try.

pub(in crate::amqp) mod browse;
pub(in crate::amqp) mod client;
pub(in crate::amqp) mod ping;
pub(in crate::amqp) mod reshard;
