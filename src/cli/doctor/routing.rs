//! Whether what is published gets to where it should: a ping (`amqp::ping`) is sent along each way.
//!
//! Where a consumer is at work, it says that the ping came; elsewhere the broker says whether a queue took
//! it, and the ping expires there at once. Nothing of it reaches an engine or a webhook endpoint. Those who
//! listen to `groupmq.events` themselves may get it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::amqp::{self, Client, Names, Pings, Target};
use crate::config::Config;
use crate::contract::WebhookState;
use crate::fanout;
use crate::store::endpoints::Endpoint;

use super::with_causes;

/// How long to wait for word of a ping; it is there within milliseconds where nothing is before it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A ping that may become an orphan is gone after so long; a worker takes it sooner.
const ORPHAN_TTL: Duration = Duration::from_mins(1);

/// Stands for a session; no session can be called so.
const NO_SESSION: &str = "~";

/// So many pings for each shard: with 256 of them, the chance that one gets none is below one in a million.
const PINGS_PER_SHARD: u16 = 20;

/// What is known of the ways so far.
struct RoutingCheck<'a> {
    client: &'a Client,
    pings: Pings<'a>,
    names: Names,
    /// Pings of which there is no word yet, with what that means.
    pending: BTreeMap<String, String>,
    missing: BTreeSet<String>,
    skipped: Vec<String>,
}

/// The ways of commands, dead letters and what rests.
pub(super) async fn commands(config: &Config) -> Result<String, String> {
    with_connection(config, async |client, names| {
        let mut check = RoutingCheck::open(client, names).await?;
        check.ping_kept_queues().await?;
        if check.client.queue(&check.names.presence()).await?.1 == 0 {
            let nobody = "the command queues, since no worker is there to say what comes to them";
            check.skipped.push(nobody.to_owned());
        } else {
            check.ping_command_queues(config).await?;
        }
        let found = "commands, what comes back from each delay, dead letters and orphans come to their queues";
        Ok(check.into_finding(found))
    })
    .await
}

/// The ways of events to those endpoints whose queues somebody consumes.
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
                let problem = format!("events do not come to the queue of {}", endpoint.name);
                check.pending.insert(queue, problem);
                tried += 1;
            }
        }
        for key in &keys {
            let exchange = check.names.events();
            // It is not to stay with those who listen by themselves.
            check.pings.send(&exchange, key, key, Some(TIMEOUT)).await?;
        }
        check.await_arrivals(|arrived| arrived.queue).await?;
        let others = endpoints.len() - tried;
        if others > 0 {
            let what =
                format!("{others}, whose queues nobody consumes now or in which events wait");
            check.skipped.push(what);
        }
        Ok(check.into_finding(&format!(
            "events come to the queues of {tried} of the endpoints"
        )))
    })
    .await
}

/// A connection apart: a refusal closes the channel.
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
            "not tried: this user may not listen to what comes of it ({})",
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

    /// To the queues that wait for a person. What comes there must not stay: it expires at once, if nothing
    /// is before it.
    async fn ping_kept_queues(&mut self) -> Result<(), amqp::Error> {
        let (dead, orphan, back) = (self.names.dead(), self.names.orphan(), self.names.back());
        // Two words belong to nobody: the alternate exchange has to take it.
        let unknown = format!("{NO_SESSION}.{NO_SESSION}");
        let mut full = BTreeSet::new();
        let kept = [
            self.names.dead_commands(),
            self.names.dead_webhooks(),
            self.names.orphan(),
        ];
        // Before any of them: a ping takes a moment to expire.
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
                    format!("no queue takes what is published to {exchange} with the key {key}");
                self.missing.insert(way);
            }
        }
        let full = full.into_iter();
        self.skipped
            .extend(full.map(|it| format!("{it}, in which messages are")));
        Ok(())
    }

    /// To the command queues: straight, back from a rest, and through each delay.
    async fn ping_command_queues(&mut self, config: &Config) -> Result<(), amqp::Error> {
        let shards = config.topology.shards;
        let mut queues: BTreeSet<_> = (0..shards).map(|it| self.names.shard(it)).collect();
        for queue in &queues {
            let waiting = self.client.queue(queue).await?.0;
            if waiting > 0 {
                let what =
                    format!("the command queues, in which commands wait ({queue}: {waiting})");
                self.skipped.push(what);
                return Ok(());
            }
        }
        let (commands, back) = (self.names.commands(), self.names.back());
        for number in 0..shards * if shards == 1 { 1 } else { PINGS_PER_SHARD } {
            let key = format!("{NO_SESSION}{number}");
            self.send(&commands, &key, None).await?;
        }
        // Where it leads nowhere it becomes an orphan, and is not to stay one.
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
        let none = queues.iter().map(|it| format!("no command comes to {it}"));
        self.missing.extend(none);
        for tier in &config.topology.tiers {
            let delay = self.names.delay(*tier);
            if self.client.queue(&delay).await?.0 > 0 {
                self.skipped
                    .push(format!("{delay}, in which messages rest"));
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
            let problem = format!("what is published to {exchange} comes to no worker");
            self.pending.insert(id, problem);
        } else {
            let problem = format!("no queue takes what is published to {exchange}");
            self.missing.insert(problem);
        }
        Ok(())
    }

    /// Waits for word of every ping, for a while; what there is none of then is missing.
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
                "{}. A binding is gone: `groupmq topology apply` makes all of them anew",
                missing.join("; ")
            ));
        }
        if self.skipped.is_empty() {
            return Ok(success.to_owned());
        }
        Ok(format!(
            "{success}, but not tried: {}",
            self.skipped.join("; ")
        ))
    }
}

/// Whether a process that delivers consumes its queue, where there is one.
fn collects(endpoint: &Endpoint) -> bool {
    endpoint.state == WebhookState::Active && endpoint.breaker.failing_since.is_none()
}
