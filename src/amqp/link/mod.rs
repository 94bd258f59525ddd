//! One connection: made, kept alive, and protected from what lapin cannot read.

pub(in crate::amqp) mod connect;
pub(in crate::amqp) mod sanitize;
pub(in crate::amqp) mod session;
pub(in crate::amqp) mod supervisor;
