//! `groupmq doctor`: checks everything that a worker needs; one line per check, with a remedy for each failure.

mod abilities;
mod arguments;
mod routing;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::amqp::{self, Client, Names, Target, Topology};
use crate::app;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::contract::{Timestamp, endpoint_name};
use crate::fanout::{self, Fanout};
use crate::observability::describe;
use crate::store::Store;

use super::exit::{Exit, Failure};
use super::output;
use super::webhooks::queues;

/// The maximum number of lost commands to list.
const MAX_NAMED: usize = 20;

/// The options of `groupmq doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// The names of the broker's queues, from `rabbitmqctl -q list_queues name`: lists queues of webhook endpoints
    /// that are not in the store.
    #[arg(long, value_name = "NAMES")]
    queues: Option<String>,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What was found, or the problem and its remedy.
    finding: String,
    /// What the engine can execute.
    #[serde(skip_serializing_if = "Option::is_none")]
    commands: Option<Vec<abilities::Ability>>,
}

impl Check {
    fn new(name: &'static str, finding: Result<String, String>) -> Self {
        let ok = finding.is_ok();
        Self {
            name,
            ok,
            finding: finding.unwrap_or_else(|problem| problem),
            commands: None,
        }
    }
}

impl Doctor {
    pub(super) async fn run(&self, config: Config) -> Result<Exit, Failure> {
        let mut checks = broker(&config).await;
        let is_whole = checks.iter().all(|check| check.ok);
        let listed = self.queues.as_deref();
        checks.extend(Box::pin(store_and_engine(&config, is_whole, listed)).await);
        let healthy = checks.iter().all(|check| check.ok);
        if self.json {
            let report = serde_json::json!({ "healthy": healthy, "checks": checks });
            output::line(&report.to_string())?;
        } else {
            for check in &checks {
                let mark = if check.ok { "ok  " } else { "FAIL" };
                output::line(&format!("{mark}  {:<11}  {}", check.name, check.finding))?;
            }
        }
        let unreachable = checks
            .iter()
            .any(|check| check.name == "broker" && !check.ok);
        Ok(match (healthy, unreachable) {
            (true, _) => Exit::Ok,
            (false, true) => Exit::Broker,
            (false, false) => Exit::Failed,
        })
    }
}

fn with_causes(error: impl std::error::Error + Send + Sync + 'static) -> String {
    describe::with_causes(&error)
}

async fn broker(config: &Config) -> Vec<Check> {
    let target = Target::new(config.amqp.clone());
    let client = match Client::connect(&target).await {
        Ok(client) => client,
        Err(error) => {
            let problem = format!("{} (amqp.url). Is RabbitMQ running?", with_causes(error));
            return vec![Check::new("broker", Err(problem))];
        }
    };
    let mut checks = vec![Check::new(
        "broker",
        Ok(match target.broker() {
            Some(broker) => format!("{broker}: connected and logged in"),
            None => "connected and logged in".to_owned(),
        }),
    )];
    if !config.amqp.other_hosts.is_empty() {
        for (node, target) in target.each() {
            checks.push(Check::new("node", node_answers(&node, &target).await));
        }
    }
    checks.push(Check::new("plugins", plugins(&client, config).await));
    let found = client
        .ensure(&Topology::new(&config.topology).passive())
        .await;
    let found = found
        .map(|()| "all exchanges and queues exist".to_owned())
        .map_err(with_causes);
    let found = arguments::check_topology(config, found).await;
    let topology_is_there = found.is_ok();
    checks.push(Check::new("topology", found));
    if topology_is_there {
        let permitted = permissions(&client, config).await;
        if let Err(error @ amqp::Error::Blocked(_)) = permitted {
            // The broker answers nothing more over this connection.
            checks.push(Check::new("alarms", Err(with_causes(error))));
        } else {
            let is_permitted = permitted.is_ok();
            checks.push(Check::new("permissions", permitted.map_err(with_causes)));
            if is_permitted {
                checks.push(Check::new("ways", routing::commands(config).await));
            }
            checks.extend(queues(&client, config).await);
        }
    }
    client.close().await;
    checks
}

/// Whether one node of the cluster could be used without the others.
async fn node_answers(node: &str, target: &Target) -> Result<String, String> {
    match Client::connect(target).await {
        Ok(client) => {
            client.close().await;
            Ok(format!("{node} answers"))
        }
        Err(error) => Err(format!("{node} does not answer: {}", with_causes(error))),
    }
}

async fn permissions(client: &Client, config: &Config) -> Result<String, amqp::Error> {
    let names = Names::new(&config.topology.prefix);
    for number in 0..config.topology.shards {
        client.may_consume(&names.shard(number)).await?;
    }
    client.may_consume(&names.presence()).await?;
    // The default exchange (amq.default in permissions) routes replies to their queues.
    let mut exchanges = vec![String::new(), names.replies(), names.events(), names.dead()];
    let delays = config.topology.delay_tiers.iter();
    exchanges.extend(delays.map(|tier| names.delay(*tier)));
    for exchange in exchanges {
        client.may_publish(&exchange).await?;
    }
    Ok(
        "permitted: consume commands; publish replies, events, deferred commands and dead letters"
            .to_owned(),
    )
}

/// Whether the plugins that the configuration needs are enabled.
async fn plugins(client: &Client, config: &Config) -> Result<String, String> {
    if config.topology.shards == 1 {
        return Ok("none needed: one shard requires no plugin".to_owned());
    }
    let exchange = Names::new(&config.topology.prefix).shards();
    if client.has_exchange(&exchange).await.map_err(with_causes)? {
        Ok(format!("rabbitmq_sharding: {exchange} exists"))
    } else {
        Err(format!(
            "{exchange} does not exist: run `groupmq topology apply`, which needs the plugin \
             rabbitmq_sharding (`rabbitmq-plugins enable rabbitmq_sharding`)"
        ))
    }
}

/// The number of commands in all shards, and of workers that consume.
async fn commands(client: &Client, config: &Config) -> Result<(u32, u32), amqp::Error> {
    let names = Names::new(&config.topology.prefix);
    let mut waiting = 0;
    for number in 0..config.topology.shards {
        waiting += client.queue(&names.shard(number)).await?.0;
    }
    Ok((waiting, client.queue(&names.presence()).await?.1))
}

async fn queues(client: &Client, config: &Config) -> Vec<Check> {
    let names = Names::new(&config.topology.prefix);
    let commands = commands(client, config).await;
    let dead = client.queue(&names.dead_commands()).await;
    vec![
        Check::new(
            "commands",
            commands
                .map(|(waiting, consumers)| {
                    format!("{waiting} waiting, workers consuming: {consumers}")
                })
                .map_err(with_causes),
        ),
        Check::new(
            "dead",
            dead.map(|(waiting, _)| format!("{waiting} dead letters"))
                .map_err(with_causes),
        ),
    ]
}

/// `is_whole` if the checks of the broker that do not need the store have passed.
async fn store_and_engine(config: &Config, is_whole: bool, listed: Option<&str>) -> Vec<Check> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = Store::open(&config.store, Arc::clone(&clock)).await;
    let (store, _writer) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return vec![Check::new(
                "store",
                Err(format!("{} (store.url)", with_causes(error))),
            )];
        }
    };
    let answers = tokio::time::timeout(Duration::from_secs(10), store.ping()).await;
    let finding = match answers {
        Ok(Ok(())) => Ok(describe_store(&store)),
        Ok(Err(error)) => Err(with_causes(error)),
        Err(_) => Err("does not answer within 10 s".to_owned()),
    };
    let engine_checks = engine(config, &store, Arc::clone(&clock)).await;
    let mut checks = vec![
        Check::new("store", finding),
        Check::new("resting", deferred(&store, Timestamp(clock.now())).await),
    ];
    let target = Target::new(config.amqp.clone());
    // Without a broker, the failure has been reported by an earlier check.
    if let Ok(client) = Client::connect(&target).await {
        let names = Names::new(&config.topology.prefix);
        checks.push(Check::new(
            "identity",
            identity(&client, &store, &names).await,
        ));
        let fanout = Fanout::new(&store, target, names.clone(), clock);
        let in_place = webhooks(&client, &fanout, &store, config).await;
        let may_come = is_whole && in_place.is_ok();
        checks.push(Check::new("webhooks", in_place));
        if may_come && let Ok(endpoints) = store.endpoints().all().await {
            checks.push(Check::new(
                "events",
                routing::events(config, &endpoints).await,
            ));
        }
        if let Some(listed) = listed {
            checks.push(Check::new(
                "queues",
                queue_owners(listed, &store, &names).await,
            ));
        }
        client.close().await;
    }
    checks.extend(engine_checks);
    checks
}

/// Whether the engine works, and what it can execute.
async fn engine(config: &Config, store: &Store, clock: Arc<dyn Clock>) -> Vec<Check> {
    let engine = match app::engine(config, store, clock) {
        Ok(engines) => engines.engine,
        Err(error) => {
            let problem = describe::with_causes(error.as_ref());
            return vec![Check::new("engine", Err(problem))];
        }
    };
    let works = engine.check().await.map_err(with_causes);
    let can_answer = works.is_ok();
    let mut checks = vec![Check::new("engine", works)];
    if can_answer {
        checks.push(abilities::check(engine.as_ref()).await);
    }
    checks
}

/// Whether the broker belongs to this store.
async fn identity(client: &Client, store: &Store, names: &Names) -> Result<String, String> {
    let has_store = client.has_store(names, store.installation().id()).await;
    Ok(if has_store.map_err(with_causes)? {
        "the broker belongs to this store".to_owned()
    } else {
        "the broker belongs to no store yet; it will belong to that of the first worker".to_owned()
    })
}

/// Whether every queue of a webhook endpoint has an endpoint in the store.
async fn queue_owners(listed: &str, store: &Store, names: &Names) -> Result<String, String> {
    let known = store.endpoints().all().await.map_err(with_causes)?;
    let known = known.into_iter().map(|endpoint| endpoint.name).collect();
    let unowned = queues::unowned(listed, names, &known);
    if unowned.is_empty() {
        Ok("every queue of a webhook endpoint has its endpoint in the store".to_owned())
    } else {
        Err(queues::describe_unowned(&unowned))
    }
}

/// Whether a deferred command is lost.
async fn deferred(store: &Store, now: Timestamp) -> Result<String, String> {
    let all = store.lanes().all_deferred().await.map_err(with_causes)?;
    let lost: Vec<_> = all.iter().filter(|it| it.lost_at.is_some()).collect();
    if lost.is_empty() {
        let late = all.iter().filter(|it| it.due < now).count();
        return Ok(format!("deferred commands: {}, overdue: {late}", all.len()));
    }
    let named = lost.iter().take(MAX_NAMED).map(|it| {
        let (id, session) = (&it.key.command_id, &it.key.session);
        format!("{id} ({}, session {session})", it.command_type)
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = lost.len().saturating_sub(MAX_NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Err(format!(
        "deferred commands were lost: {named}{more}. A delay queue was deleted or purged, or the broker lost \
         them. Their producers may send them again with the same ids, which is safe. They are listed until then, \
         for at most a week"
    ))
}

/// Whether every endpoint of the configuration and of the store collects its events.
async fn webhooks(
    client: &Client,
    fanout: &Fanout,
    store: &Store,
    config: &Config,
) -> Result<String, String> {
    let known = store.endpoints().all().await.map_err(with_causes)?;
    let declared = config.webhooks.iter();
    let names: BTreeSet<_> = known
        .into_iter()
        .map(|endpoint| endpoint.name)
        .chain(declared.map(|webhook| endpoint_name(None, &webhook.id)))
        .collect();
    let mut missing = Vec::new();
    for name in &names {
        let is_in_place = fanout.is_in_place(client, name).await;
        if !is_in_place.map_err(|error: fanout::Error| with_causes(error))? {
            missing.push(name.as_str());
        }
    }
    let found = if missing.is_empty() {
        Ok(format!(
            "all endpoints have their queues and bindings ({})",
            names.len()
        ))
    } else {
        Err(format!(
            "without queue or bindings: {}. Events that are published now do not reach them: run `groupmq \
             topology apply` before commands are executed",
            missing.join(", ")
        ))
    };
    arguments::check_webhook_queues(config, &names, found).await
}

/// The finding for a store that works.
fn describe_store(store: &Store) -> String {
    let mut finding = "connected, and its migrations are complete".to_owned();
    if store.is_pooled() {
        finding.push_str("; behind a connection pooler, so prepared statements are not used");
    }
    finding
}
