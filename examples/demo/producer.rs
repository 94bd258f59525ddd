//! A producer: sends commands, waits for their replies, and listens to all events.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use groupmq::amqp::{Caller, Client, Incoming, Names, Outgoing, Tailed};
use groupmq::contract::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::show;

/// How long a reply and its events may take; the first reply waits for the worker to start.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to listen for events that should not come.
const SILENCE: Duration = Duration::from_millis(100);

pub(crate) struct Producer<'a> {
    /// The exchange for commands.
    commands: String,
    /// Sends a command and waits for the reply on a queue of its own.
    caller: Caller<'a>,
    /// A queue of its own that is bound to the exchange for events.
    events: Tailed,
    /// The number of the last event, by session. (There is one group.)
    sequences: BTreeMap<String, u64>,
    counts: Counts,
}

/// How much came back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) replies: usize,
    pub(crate) events: usize,
}

impl<'a> Producer<'a> {
    pub(crate) async fn new(client: &'a Client, names: &Names) -> Result<Self> {
        Ok(Self {
            commands: names.commands(),
            caller: client.caller().await?,
            events: client.tail(&names.events(), "#").await?,
            sequences: BTreeMap::new(),
            counts: Counts::default(),
        })
    }

    /// Sends a command and checks what comes back. Returns the reply.
    pub(crate) async fn step(
        &mut self,
        session: &str,
        command: &str,
        payload: Value,
        expected_reply: Value,
        expected_events: &[&str],
    ) -> Result<Value> {
        let id = Uuid::now_v7().to_string();
        show::command(self.counts.replies + 1, session, command, &payload);
        let reply = self.send(&id, session, command, payload).await?;
        self.counts.replies += 1;
        show::reply(&reply);
        ensure!(
            reply["commandId"] == json!(id) && holds(&reply, &expected_reply),
            "the reply to {command} should have been like {expected_reply}"
        );
        for expected in expected_events {
            self.expect_event(expected, &id)
                .await
                .with_context(|| format!("{command} should have led to the event {expected}"))?;
        }
        Ok(reply)
    }

    /// Sends a command as one JSON object and waits for its reply.
    async fn send(
        &mut self,
        id: &str,
        session: &str,
        command: &str,
        payload: Value,
    ) -> Result<Value> {
        let body = json!({ "id": id, "type": command, "session": session, "payload": payload });
        let message = Outgoing {
            exchange: self.commands.clone(),
            routing_key: session.to_owned(),
            message_id: id.to_owned(),
            message_type: command.to_owned(),
            body: body.to_string().into_bytes(),
            ..Outgoing::default()
        };
        let reply = self.caller.call(message, PATIENCE).await?;
        serde_json::from_slice(&reply.body).context("the reply is not JSON")
    }

    /// Takes the next event, which must be this one, caused by this command.
    async fn expect_event(&mut self, expected: &str, command: &str) -> Result<()> {
        let message = tokio::time::timeout(PATIENCE, self.events.next())
            .await
            .context("no event came")??;
        self.counts.events += 1;
        let (event, told) = read(&message)?;
        show::event(&message.routing_key, &told);
        let kind = told["type"].as_str().unwrap_or_default();
        ensure!(
            format!("{} {kind}", message.routing_key).trim_end() == expected,
            "another event came: {} {kind}",
            message.routing_key
        );
        ensure!(
            told["commandId"] == json!(command),
            "the event does not name the command that caused it"
        );
        let last = self.sequences.entry(event.session.to_string()).or_default();
        *last += 1;
        ensure!(
            told["sequence"] == json!(*last),
            "the event should have had number {last}"
        );
        Ok(())
    }

    /// Checks that nothing more comes.
    pub(crate) async fn expect_silence(&mut self) -> Result<()> {
        match tokio::time::timeout(SILENCE, self.events.next()).await {
            Err(_) => Ok(()),
            Ok(message) => bail!("an event too many came: {}", message?.routing_key),
        }
    }

    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }
}

/// Reads an event as the contract's type, and its payload as plain JSON.
fn read(message: &Incoming) -> Result<(Event, Value)> {
    let event: Event = serde_json::from_slice(&message.body).context("the event cannot be read")?;
    let payload = serde_json::to_value(&event.payload)?;
    Ok((event, payload))
}

/// Whether a value has everything that is expected: objects may have more fields.
fn holds(value: &Value, expected: &Value) -> bool {
    match (value, expected) {
        (Value::Object(value), Value::Object(expected)) => expected
            .iter()
            .all(|(key, expected)| value.get(key).is_some_and(|value| holds(value, expected))),
        (Value::Array(value), Value::Array(expected)) => {
            value.len() == expected.len()
                && value
                    .iter()
                    .zip(expected)
                    .all(|(value, expected)| holds(value, expected))
        }
        _ => value == expected,
    }
}
