//! The contract's documents and examples: current, valid, and read by the decoder as they say.

#![expect(clippy::unwrap_used, reason = "a test helper may stop the test")]

mod accepted;
mod documents;
mod example;
mod outgoing;
mod properties;
mod rejected;
