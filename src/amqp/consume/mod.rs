//! Consuming: deliveries out, acknowledgements back in batches.

pub(in crate::amqp) mod acks;
pub(in crate::amqp) mod broadcast;
pub(in crate::amqp) mod consumer;
pub(in crate::amqp) mod subscriptions;
