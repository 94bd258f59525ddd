//! `roles`, `[executor]`, `[ops]`, `[shutdown]`, `[log]`: the process itself.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::read::{Section, duration, number, parsed, text};

const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_hours(1);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Execute commands from the queue.
    Commands,
    /// Deliver events to webhook endpoints.
    Webhooks,
    /// Take commands over HTTP and put them into the queue.
    Gateway,
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "commands" => Ok(Self::Commands),
            "webhooks" => Ok(Self::Webhooks),
            "gateway" => Ok(Self::Gateway),
            _ => Err("must name commands, webhooks or gateway"),
        }
    }
}

/// `[executor]`
#[derive(Debug, Clone, Copy)]
pub struct Executor {
    /// Commands executed at the same time.
    pub concurrency: usize,
    /// How long one attempt may take.
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
    /// How long attempts are repeated before the command rests.
    pub within: Duration,
    /// How long a command that only reads is repeated before it is answered with the failure.
    pub reads: Duration,
    /// So many rests at most for an engine that fails.
    pub attempts: u32,
    /// When a command is given up.
    pub max_age: Duration,
    /// How long a command that rested and could be nowhere any more is waited for.
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
    /// Where health is served.
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
    /// How long finishing may take.
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
    /// tracing's filter.
    pub filter: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be text or json"),
        }
    }
}

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
