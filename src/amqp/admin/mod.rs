//! The broker operations of the command line and `reshard`: one connection, without reconnecting.

pub(in crate::amqp) mod browse;
pub(in crate::amqp) mod client;
pub(in crate::amqp) mod load;
pub(in crate::amqp) mod ping;
pub(in crate::amqp) mod reshard;
