//! `roles`, `[executor]`, `[retry]`, `[ops]`, `[shutdown]`, `[log]`: the process.

use std::net::SocketAddr;
use std::time::Duration;

use super::read::{Section, duration, from_words, number, parsed, text};

const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

/// A role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Execute commands from the queue.
    Commands,
    /// Deliver events to webhook endpoints.
    Webhooks,
    /// Accept commands over HTTP and publish them to the queue.
    Gateway,
}

from_words!(
    Role,
    "must be commands, webhooks or gateway",
    "commands" => Commands,
    "webhooks" => Webhooks,
    "gateway" => Gateway
);

/// `[executor]`
#[derive(Debug, Clone, Copy)]
pub struct Executor {
    /// Maximum number of commands executed at the same time.
    pub concurrency: usize,
    /// Timeout of one attempt.
    pub timeout: Duration,
}

impl Executor {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let executor = Self {
            concurrency: section.required("concurrency", number(1..=10_000)),
            timeout: section.required("timeout", duration(MOMENT..=HOUR)),
        };
        section.finish();
        executor
    }
}

/// `[retry]`
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// The first wait before an attempt is repeated.
    pub first: Duration,
    /// How long attempts are repeated before the command is deferred.
    pub within: Duration,
    /// How long a command that only reads is retried before it is answered with the error.
    pub reads: Duration,
    /// Maximum number of deferrals caused by engine failures.
    pub attempts: u32,
    /// The age at which a command is given up.
    pub max_age: Duration,
    /// How long to wait for a deferred command that is due and in no queue, before it counts as lost.
    pub lost_after: Duration,
}

impl Retry {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let retry = Self {
            first: section.required("first", duration(MOMENT..=HOUR)),
            within: section.required("within", duration(Duration::ZERO..=HOUR)),
            reads: section.required("reads", duration(Duration::ZERO..=HOUR)),
            attempts: section.required("attempts", number(0..=1_000)),
            max_age: section.required("max_age", duration(MOMENT..=24 * 365 * HOUR)),
            lost_after: section.required("lost_after", duration(MOMENT..=24 * HOUR)),
        };
        section.finish();
        retry
    }
}

/// `[ops]`
#[derive(Debug, Clone, Copy)]
pub struct Ops {
    /// The address of health checks and metrics.
    pub listen: SocketAddr,
}

impl Ops {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = section.optional("listen", |value| {
            text(value)?
                .parse()
                .map_err(|_| "must be an address and a port, such as 127.0.0.1:9464".to_owned())
        });
        let ops = Self {
            listen: listen.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
        };
        section.finish();
        ops
    }
}

/// `[shutdown]`
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    /// Maximum time to finish work in flight.
    pub deadline: Duration,
}

impl Shutdown {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let range = Duration::from_millis(100)..=Duration::from_hours(1);
        let shutdown = Self {
            deadline: section.required("deadline", duration(range)),
        };
        section.finish();
        shutdown
    }
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// The filter of `tracing`.
    pub filter: String,
    /// The format of log lines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Plain text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

from_words!(LogFormat, "must be text or json", "text" => Text, "json" => Json);

impl Log {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let log = Self {
            filter: section.required("filter", text),
            format: section.required("format", parsed),
        };
        section.finish();
        log
    }
}
