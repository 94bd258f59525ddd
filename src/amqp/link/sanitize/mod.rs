//! Protects lapin from the broker's bytes.
//!
//! It works around faults of lapin 4.12: short strings must be UTF-8, which AMQP 0-9-1 does not require;
//! the nesting of tables is unbounded; header frames above an internal size are refused; a returned message
//! is attributed to the wrong confirm. It can go when lapin reads or skips everything that a broker may
//! pass on.

pub(in crate::amqp) mod broker;
pub(in crate::amqp) mod sanitizer;
pub(in crate::amqp) mod stream;
