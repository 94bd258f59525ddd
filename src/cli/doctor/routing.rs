//! Whether messages are routed to the right queues: publishes a ping (`amqp::ping`) to each exchange.
//!
//! If the queue has a consumer, the consumer reports the arrival of the ping. Otherwise the broker reports whether
//! the ping was routed to a queue, where it expires at once. No ping reaches an engine or a webhook endpoint, but
//! other consumers of `groupmq.events` may receive one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::amqp::{self, Client, Names, Pings, Target};
use crate::config::Config;
use crate::contract::WebhookState;
use crate::fanout;
use crate::store::endpoints::Endpoint;

use super::with_causes;

/// The timeout for arrivals; a ping arrives within milliseconds if its queue is empty.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The expiration of a ping that may end up in the orphan queue; a worker consumes it sooner.
const ORPHAN_TTL: Duration = Duration::from_mins(1);

/// Stands for a session; it is not a valid session name.
const NO_SESSION: &str = "~";

/// The number of pings per shard. With 256 shards, the probability that one gets none is below 10⁻⁶.
const PINGS_PER_SHARD: u16 = 20;

/// The state of a check.
struct RoutingCheck<'a> {
    client: &'a Client,
    pings: Pings<'a>,
    names: Names,
    /// Pings that have not arrived, by id, with the problem that this would mean.
    pending: BTreeMap<String, String>,
    missing: BTreeSet<String>,
    skipped: Vec<String>,
}

/// Checks the routing of commands, deferred commands, dead letters and orphans.
pub(super) async fn commands(config: &Config) -> Result<String, String> {
    with_connection(config, async |client, names| {
        let mut check = RoutingCheck::open(client, names).await?;
        check.ping_kept_queues().await?;
        if check.client.queue(&check.names.presence()).await?.1 == 0 {
            let nobody =
                "the command queues, since no worker is running that could report arrivals";
            check.skipped.push(nobody.to_owned());
        } else {
            check.ping_command_queues(config).await?;
        }
        let found =
            "commands, deferred commands, dead letters and orphans are routed to their queues";
        Ok(check.into_finding(found))
    })
    .await
}

/// Checks the routing of events to endpoints whose queues have a consumer.
pub(super) async fn events(config: &Config, endpoints: &[Endpoint]) -> Result<String, String> {
    with_connection(config, async |client, names| {
        let mut check = RoutingCheck::open(client, names).await?;
        let mut tried = 0;
        let mut keys = BTreeSet::new();
        for endpoint in endpoints.iter().filter(|it| collects(it)) {
            let queue = check.names.webhook(&endpoint.name);
            let (waiting, consumers) = check.client.queue(&queue).await?;
            let key = fanout::binding_keys(endpoint).into_iter().next();
            if let (0, 1.., Some(key)) = (waiting, consumers, key) {
                keys.insert(key.replacen('*', NO_SESSION, 1));
                let problem = format!("events do not reach the queue of {}", endpoint.name);
                check.pending.insert(queue, problem);
                tried += 1;
            }
        }
        for key in &keys {
            let exchange = check.names.events();
            // It expires, so that it does not stay in queues of other consumers.
            check.pings.send(&exchange, key, key, Some(TIMEOUT)).await?;
        }
        check.await_arrivals(|arrived| arrived.queue).await?;
        let others = endpoints.len() - tried;
        if others > 0 {
            let what = format!("{others}, whose queues have no consumer or are not empty");
            check.skipped.push(what);
        }
        Ok(check.into_finding(&format!("events reach the queues of {tried} endpoints")))
    })
    .await
}

/// Uses its own connection, since a refusal closes the channel.
async fn with_connection(
    config: &Config,
    check: impl AsyncFnOnce(&Client, Names) -> Result<Result<String, String>, amqp::Error>,
) -> Result<String, String> {
    let client = Client::connect(&Target::new(config.amqp.clone())).await;
    let client = client.map_err(with_causes)?;
    let found = check(&client, Names::new(&config.topology.prefix)).await;
    client.close().await;
    match found {
        Ok(found) => found,
        Err(amqp::Error::Refused(refusal)) if refusal.code == 403 => Ok(format!(
            "not checked: this user has no permission to consume the arrivals ({})",
            refusal.text
        )),
        Err(error) => Err(with_causes(error)),
    }
}

impl<'a> RoutingCheck<'a> {
    async fn open(client: &'a Client, names: Names) -> Result<Self, amqp::Error> {
        Ok(Self {
            client,
            pings: client.pings(&names).await?,
            names,
            pending: BTreeMap::new(),
            missing: BTreeSet::new(),
            skipped: Vec::new(),
        })
    }

    /// Pings the queues that an operator reads. A ping must not stay there: it expires at once if the queue is
    /// empty.
    async fn ping_kept_queues(&mut self) -> Result<(), amqp::Error> {
        let (dead, orphan, back) = (self.names.dead(), self.names.orphan(), self.names.back());
        // A routing key without a binding: the alternate exchange must accept it.
        let unknown = format!("{NO_SESSION}.{NO_SESSION}");
        let mut full = BTreeSet::new();
        let kept = [
            self.names.dead_commands(),
            self.names.dead_webhooks(),
            self.names.orphan(),
        ];
        // Before the first ping, since a ping takes a moment to expire.
        for queue in kept {
            if self.client.queue(&queue).await?.0 > 0 {
                full.insert(queue);
            }
        }
        for (exchange, key, queue) in [
            (&dead, Names::DEAD_COMMANDS, self.names.dead_commands()),
            (&dead, Names::DEAD_WEBHOOKS, self.names.dead_webhooks()),
            (&orphan, NO_SESSION, self.names.orphan()),
            (&back, unknown.as_str(), self.names.orphan()),
        ] {
            let at_once = Some(Duration::ZERO);
            if !full.contains(&queue) && !self.pings.send(exchange, key, "", at_once).await? {
                let way =
                    format!("messages to {exchange} with the routing key {key} reach no queue");
                self.missing.insert(way);
            }
        }
        let full = full.into_iter();
        self.skipped
            .extend(full.map(|it| format!("{it}, which is not empty")));
        Ok(())
    }

    /// Pings the command queues: directly, as a returning deferred command, and through each delay queue.
    async fn ping_command_queues(&mut self, config: &Config) -> Result<(), amqp::Error> {
        let shards = config.topology.shards;
        let mut queues: BTreeSet<_> = (0..shards).map(|it| self.names.shard(it)).collect();
        for queue in &queues {
            let waiting = self.client.queue(queue).await?.0;
            if waiting > 0 {
                let what = format!("the command queues, which are not empty ({queue}: {waiting})");
                self.skipped.push(what);
                return Ok(());
            }
        }
        let (commands, back) = (self.names.commands(), self.names.back());
        for number in 0..shards * if shards == 1 { 1 } else { PINGS_PER_SHARD } {
            let key = format!("{NO_SESSION}{number}");
            self.send(&commands, &key, None).await?;
        }
        // Expires, since without a binding it would stay in the orphan queue.
        self.send(&back, NO_SESSION, Some(ORPHAN_TTL)).await?;
        self.await_arrivals(|arrived| {
            if arrived.exchange == commands {
                queues.remove(&arrived.queue);
            }
            arrived.id
        })
        .await?;
        if !self.missing.is_empty() {
            return Ok(());
        }
        let none = queues.iter().map(|it| format!("no command reaches {it}"));
        self.missing.extend(none);
        for tier in &config.topology.tiers {
            let delay = self.names.delay(*tier);
            if self.client.queue(&delay).await?.0 > 0 {
                self.skipped.push(format!("{delay}, which is not empty"));
            } else {
                self.send(&delay, NO_SESSION, Some(Duration::ZERO)).await?;
            }
        }
        self.await_arrivals(|arrived| arrived.id).await
    }

    async fn send(
        &mut self,
        exchange: &str,
        key: &str,
        expires: Option<Duration>,
    ) -> Result<(), amqp::Error> {
        let id = format!("{exchange} {key}");
        if self.pings.send(exchange, key, &id, expires).await? {
            let problem = format!("messages to {exchange} reach no worker");
            self.pending.insert(id, problem);
        } else {
            let problem = format!("messages to {exchange} reach no queue");
            self.missing.insert(problem);
        }
        Ok(())
    }

    /// Waits for all pending pings; those that have not arrived at the timeout are missing.
    async fn await_arrivals(
        &mut self,
        mut which: impl FnMut(amqp::Arrived) -> String,
    ) -> Result<(), amqp::Error> {
        let (pending, pings) = (&mut self.pending, &mut self.pings);
        let all = async {
            while !pending.is_empty() {
                pending.remove(&which(pings.next().await?));
            }
            Ok::<_, amqp::Error>(())
        };
        if let Ok(arrived) = tokio::time::timeout(TIMEOUT, all).await {
            arrived?;
        }
        let pending = std::mem::take(&mut self.pending);
        self.missing.extend(pending.into_values());
        Ok(())
    }

    fn into_finding(self, success: &str) -> Result<String, String> {
        let missing: Vec<_> = self.missing.into_iter().collect();
        if !missing.is_empty() {
            return Err(format!(
                "{}. A binding is missing: `groupmq topology apply` declares all of them again",
                missing.join("; ")
            ));
        }
        if self.skipped.is_empty() {
            return Ok(success.to_owned());
        }
        Ok(format!(
            "{success}; not checked: {}",
            self.skipped.join("; ")
        ))
    }
}

/// Whether a process with the role `webhooks` consumes the endpoint's queue.
fn collects(endpoint: &Endpoint) -> bool {
    endpoint.state == WebhookState::Active && endpoint.breaker.failing_since.is_none()
}
