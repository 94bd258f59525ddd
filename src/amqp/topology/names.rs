//! The names of exchanges, queues and routing keys.

use std::time::Duration;

/// The names of everything on the broker.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that begin with a prefix.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The exchange for commands; the routing key is the session.
    #[must_use]
    pub fn commands(&self) -> String {
        format!("{}.commands", self.prefix)
    }

    /// The exchange that distributes sessions over the shards.
    #[must_use]
    pub fn shards(&self) -> String {
        format!("{}.commands.shards", self.prefix)
    }

    /// The queue that each worker consumes, so that workers can be counted; nothing is published to it.
    #[must_use]
    pub fn presence(&self) -> String {
        format!("{}.presence", self.prefix)
    }

    /// The queue whose arguments hold the id of the store.
    #[must_use]
    pub fn installation(&self) -> String {
        format!("{}.installation", self.prefix)
    }

    /// The exclusive queue that locks the changing of the number of shards.
    #[must_use]
    pub fn resharding(&self) -> String {
        format!("{}.resharding", self.prefix)
    }

    /// The queue that holds new commands while the number of shards is changed.
    #[must_use]
    pub fn held(&self) -> String {
        format!("{}.resharding.held", self.prefix)
    }

    /// The queue in which the shards' commands are collected while the number of shards is changed.
    #[must_use]
    pub fn collected(&self) -> String {
        format!("{}.resharding.collected", self.prefix)
    }

    /// The prefix of every name.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether a queue belongs to this installation, or could.
    #[must_use]
    pub fn is_own(&self, queue: &str) -> bool {
        let rest = queue.strip_prefix(&self.prefix);
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    /// The queue of one shard.
    #[must_use]
    pub fn shard(&self, number: u16) -> String {
        format!("{}.commands.{number}", self.prefix)
    }

    /// The exchange for replies; routing key `<session>.<Type>.<ok|error>`.
    #[must_use]
    pub fn replies(&self) -> String {
        format!("{}.replies", self.prefix)
    }

    /// The exchange for events; routing key `<session>.<event>`.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}.events", self.prefix)
    }

    /// A delay exchange, and its delay queue with the same name.
    ///
    /// The routing key is the message's destination afterwards, on the return exchange.
    #[must_use]
    pub fn delay(&self, tier: Duration) -> String {
        format!("{}.delay.{}", self.prefix, tier_name(tier))
    }

    /// The return exchange, for messages from delay queues; topic. A command's routing key is its session,
    /// one word, and so it is routed to the session's shard at that time.
    #[must_use]
    pub fn back(&self) -> String {
        format!("{}.return", self.prefix)
    }

    /// The queue of a webhook endpoint.
    #[must_use]
    pub fn webhook(&self, endpoint: &str) -> String {
        format!("{}.webhook.{endpoint}", self.prefix)
    }

    /// The endpoint that a queue belongs to, if it is an endpoint's queue.
    #[must_use]
    pub fn endpoint_of<'a>(&self, queue: &'a str) -> Option<&'a str> {
        queue.strip_prefix(&self.webhook(""))
    }

    /// The routing key of a webhook endpoint on the return exchange.
    #[must_use]
    pub fn back_to_webhook(endpoint: &str) -> String {
        format!("webhook.{endpoint}")
    }

    /// The exchange and the queue for returned messages without a destination.
    #[must_use]
    pub fn orphan(&self) -> String {
        format!("{}.orphan", self.prefix)
    }

    /// The dead-letter exchange.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// The routing key of commands on the dead-letter exchange, and the end of their queue's name.
    pub const DEAD_COMMANDS: &'static str = "commands";

    /// The same for deliveries to webhooks.
    pub const DEAD_WEBHOOKS: &'static str = "webhooks";

    /// The queue of webhook deliveries that were given up.
    #[must_use]
    pub fn dead_webhooks(&self) -> String {
        format!("{}.dead.{}", self.prefix, Self::DEAD_WEBHOOKS)
    }

    /// The queue of commands that could not be processed.
    #[must_use]
    pub fn dead_commands(&self) -> String {
        format!("{}.dead.{}", self.prefix, Self::DEAD_COMMANDS)
    }
}

/// `5s`, `2m`, `250ms`: as in the configuration.
fn tier_name(tier: Duration) -> String {
    match (tier.as_secs(), tier.subsec_millis()) {
        (_, millis) if millis > 0 => format!("{}ms", tier.as_millis()),
        (seconds, _) if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        (seconds, _) if seconds % 60 == 0 => format!("{}m", seconds / 60),
        (seconds, _) => format!("{seconds}s"),
    }
}
