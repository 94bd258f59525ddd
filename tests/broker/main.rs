//! The real binary against a real RabbitMQ: bad input, outages, cut links, TLS, refusals, rests,
//! stops, and what a person types.
//!
//! Tests that merely use a broker share one, each with a prefix of its own; those that stop, kill or
//! configure one are in modules named `own_node`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test with the error"
)]
#![expect(
    clippy::print_stdout,
    reason = "measurements, to be read by a person; what is asserted is generous"
)]

mod accounts;
mod bad_input;
mod behaviour;
mod blocked;
mod cli;
mod cluster;
mod consumer;
mod crashes;
mod crew;
mod databases;
mod deeds;
mod doctor;
mod encrypted;
mod handovers;
mod health;
mod kills;
mod large;
mod layout;
mod links;
mod load;
mod logs;
mod lost;
mod metrics;
mod order;
mod outages;
mod panics;
mod pictures;
mod poison;
mod provoked;
mod queues;
mod refusals;
mod repeats;
mod replays;
mod restarts;
mod resting;
mod returns;
mod scene;
mod shards;
mod sharing;
mod stopping;
mod stores;
mod torture;
mod tracing;
mod versions;
mod waha;
mod webhook_commands;
mod whole;
mod world;
