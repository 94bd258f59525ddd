//! Protects lapin from the broker's bytes.
//!
//! It is here for faults of lapin 4.12: short strings must be UTF-8, though AMQP 0-9-1 does not say so; tables
//! nest without a bound; header frames above an internal size are refused; a returned message is handed to the
//! wrong confirm. It can go when lapin reads, or skips, whatever a broker may pass on.

pub(in crate::amqp) mod broker;
pub(in crate::amqp) mod sanitizer;
pub(in crate::amqp) mod stream;
