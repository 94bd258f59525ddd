//! The life of a group, acted out against a real worker on a real broker: `make demo`.
//!
//! This file is the story. `producer.rs` does what a program of your own would do: it sends commands,
//! takes the replies and listens to the events. `worker.rs` starts and stops `groupmq run`, `show.rs`
//! prints.

mod producer;
mod show;
mod worker;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use groupmq::amqp::{Client, Names, Target, Topology};
use groupmq::config::Sources;
use serde_json::{Value, json};

use producer::Producer;
use worker::Worker;

/// The sandbox's accounts that act here (`config.default.toml` names them), a session each.
const DEFAULT: &str = "15550000001@c.us";
const SECOND: &str = "15550000002@c.us";
/// Two people, and a number whose privacy settings forbid adding it; in the sandbox they always do.
const ANNA: &str = "15550000100@c.us";
const BEN: &str = "15550000101@c.us";
const PRIVATE: &str = "99900000000403@c.us";

/// Creates a group, lets it live, and leaves it. Each step is a session, a command, its payload, and
/// what has to come back: the reply (these fields of it), and exactly these events in this order.
async fn story(producer: &mut Producer<'_>) -> Result<()> {
    let group = create(producer).await?;
    live(producer, &group).await?;
    leave(producer, &group).await?;
    producer.expect_silence().await
}

async fn create(producer: &mut Producer<'_>) -> Result<String> {
    let created = producer
        .step(
            "default",
            "CreateGroup",
            json!({ "name": "Climbing", "participants": [ANNA, SECOND, PRIVATE] }),
            json!({ "status": "ok", "result": { "owner": DEFAULT, "size": 3, "outcomes": [
                { "id": ANNA, "outcome": "ok", "code": 200 },
                { "id": SECOND, "outcome": "ok", "code": 200 },
                { "id": PRIVATE, "outcome": "privacyBlocked", "code": 403, "invite": {} },
            ]}}),
            &[
                "default.group.v2.join",
                "default.group.join create",
                "second.group.v2.join",
                "second.group.join create",
            ],
        )
        .await?;
    let group = created.pointer("/result/id").and_then(Value::as_str);
    let group = group.context("the reply does not name the new group")?;
    Ok(group.to_owned())
}

async fn live(producer: &mut Producer<'_>, group: &str) -> Result<()> {
    producer
        .step(
            "default",
            "AddParticipants",
            json!({ "groupId": group, "participants": [BEN, ANNA] }),
            json!({ "status": "ok", "result": [
                { "id": BEN, "outcome": "ok", "code": 200 },
                { "id": ANNA, "outcome": "alreadyMember", "code": 409 },
            ]}),
            &[
                "default.group.join add",
                "default.group.v2.participants join",
                "second.group.join add",
                "second.group.v2.participants join",
            ],
        )
        .await?;

    producer
        .step(
            "default",
            "PromoteAdmin",
            json!({ "groupId": group, "participants": [SECOND] }),
            json!({ "status": "ok", "result": [{ "id": SECOND, "outcome": "ok", "code": 200 }] }),
            &[
                "default.group.v2.participants promote",
                "second.group.v2.participants promote",
            ],
        )
        .await?;

    producer
        .step(
            "second",
            "SetGroupSubject",
            json!({ "groupId": group, "subject": "Climbing on Sunday" }),
            json!({ "status": "ok", "result": true }),
            &["default.group.v2.update", "second.group.v2.update"],
        )
        .await?;

    producer
        .step(
            "default",
            "GetInviteCode",
            json!({ "groupId": group }),
            json!({ "status": "ok", "result": {} }),
            &[],
        )
        .await?;

    producer
        .step(
            "default",
            "RemoveParticipants",
            json!({ "groupId": group, "participants": [ANNA] }),
            json!({ "status": "ok", "result": [{ "id": ANNA, "outcome": "ok", "code": 200 }] }),
            &[
                "default.group.left remove",
                "default.group.v2.participants leave",
                "second.group.left remove",
                "second.group.v2.participants leave",
            ],
        )
        .await?;
    Ok(())
}

async fn leave(producer: &mut Producer<'_>, group: &str) -> Result<()> {
    producer
        .step(
            "default",
            "LeaveGroup",
            json!({ "groupId": group }),
            json!({ "status": "ok", "result": true }),
            &[
                "second.group.left leave",
                "second.group.v2.participants leave",
                "default.group.v2.leave",
                "default.group.left leave",
            ],
        )
        .await?;

    // Who has left cannot rename the group: an error reply, and nothing happens.
    producer
        .step(
            "default",
            "SetGroupSubject",
            json!({ "groupId": group, "subject": "Mine again" }),
            json!({ "status": "error", "error": { "code": "NOT_A_MEMBER", "retryable": false } }),
            &[],
        )
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            show::failure(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let begun = Instant::now();
    // The broker comes from GROUPMQ_AMQP__URL, like the worker's.
    let mut config = Sources::from_process(None).load()?;
    // Exchanges and queues of our own: a real installation on this broker is left alone.
    config.topology.prefix = format!("groupmq-demo-{}", std::process::id());
    let names = Names::new(&config.topology.prefix);
    let topology = Topology::new(&config.topology).declared();
    let client = Client::connect(&Target::new(config.amqp))
        .await
        .context("no broker at GROUPMQ_AMQP__URL; `make demo` sees to one")?;

    client.ensure(&topology).await?;
    let played = play(&client, &names, &config.topology.prefix, begun).await;
    // Whatever happened, the broker is as it was before.
    let cleaned = client.delete(&topology).await;
    client.close().await;
    played?;
    Ok(cleaned?)
}

async fn play(client: &Client, names: &Names, prefix: &str, begun: Instant) -> Result<()> {
    let mut producer = Producer::new(client, names).await?;
    show::opening(prefix);
    let mut worker = Worker::start(prefix)?;
    tokio::select! {
        // Dropping a story that was cut short does no harm: it is never gone on with.
        played = story(&mut producer) => played.map_err(|error| worker.explain(&error))?,
        ended = worker.ended() => return Err(ended),
        _ = tokio::signal::ctrl_c() => return Err(anyhow!("interrupted")),
    }
    worker.stop().await?;
    show::ending(&producer.counts(), begun.elapsed());
    Ok(())
}
