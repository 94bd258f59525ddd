//! groupmq: WhatsApp groups, managed from a message queue.
//!
//! One module per thing (ARCHITECTURE.md has the map): [`contract`] is the wire, [`amqp`] the
//! transport, [`executor`] carries out commands on one of the [`engines`] and keeps its records in
//! the [`store`], [`worker`] is the role that joins them, [`app`] wires everything, [`cli`] is what
//! a person types.

pub mod amqp;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contract;
pub mod engines;
pub mod executor;
pub mod fanout;
pub mod gateway;
pub mod installation;
pub mod lifecycle;
pub mod observability;
pub mod ops;
pub mod outbound;
pub mod reshard;
pub mod schemas;
pub mod store;
pub mod webhooks;
pub mod worker;
