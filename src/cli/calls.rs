//! Commands of which a bounded number is in flight.

use std::collections::{HashMap, VecDeque};

use anyhow::Context as _;

use serde_json::{Map, Value};

use crate::amqp::{Caller, Incoming, Names, Outgoing};
use crate::cli::exit::Failure;
use crate::cli::send;
use crate::contract::{CommandType, EnsuredGroup, ErrorBody, Reply, SessionName};

/// The most that are sent and not answered. Those that have not been sent stay undone when the run is interrupted.
const MOST: usize = 32;

/// Commands, each with the number by which its sender knows it.
#[derive(Debug)]
pub(super) struct Calls {
    waiting: VecDeque<(usize, Outgoing)>,
    /// Those without a reply, by their ids.
    sent: HashMap<String, usize>,
}

/// The reply to a command.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    /// The reply as it arrived.
    pub(super) body: Vec<u8>,
}

/// The message of a command.
pub(super) fn command(
    names: &Names,
    session: &SessionName,
    command: CommandType,
    id: String,
    payload: Value,
) -> Outgoing {
    let rest = Map::from_iter([("payload".to_owned(), payload)]);
    send::message(names, session.as_str(), command.as_str(), id, rest)
}

impl Answer {
    pub(super) fn read(message: Incoming) -> Result<Self, Failure> {
        let reply = serde_json::from_slice(&message.body).context("a reply cannot be parsed")?;
        let body = message.body;
        Ok(Self { reply, body })
    }

    /// What came of an `EnsureGroup`.
    pub(super) fn ensured(&self) -> Result<Result<EnsuredGroup, ErrorBody>, Failure> {
        if let Some(error) = &self.reply.error {
            return Ok(Err(error.clone()));
        }
        let result = self.reply.result.as_ref().map_or("null", |it| it.get());
        let ensured = serde_json::from_str(result).context("a reply cannot be parsed")?;
        Ok(Ok(ensured))
    }
}

impl Calls {
    pub(super) fn new(commands: impl IntoIterator<Item = (usize, Outgoing)>) -> Self {
        Self {
            waiting: commands.into_iter().collect(),
            sent: HashMap::new(),
        }
    }

    /// Sends as many as may be in flight.
    pub(super) async fn send(&mut self, caller: &Caller<'_>) -> Result<(), Failure> {
        while self.sent.len() < MOST
            && let Some((number, command)) = self.waiting.pop_front()
        {
            self.sent.insert(command.message_id.clone(), number);
            caller.send(command).await?;
        }
        Ok(())
    }

    /// Drops those that have not been sent.
    pub(super) fn send_no_more(&mut self) {
        self.waiting.clear();
    }

    /// Takes a message from the reply queue, with the number of its command; none if it is not about one of these.
    pub(super) fn take(&mut self, message: Incoming) -> Result<Option<(usize, Answer)>, Failure> {
        let id = message.correlation_id.as_ref();
        let Some(number) = id.and_then(|id| self.sent.remove(id)) else {
            return Ok(None);
        };
        Ok(Some((number, Answer::read(message)?)))
    }

    /// The number of a command that is sent and not answered.
    pub(super) fn number(&self, id: &str) -> Option<usize> {
        self.sent.get(id).copied()
    }

    /// Whether all are answered.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// The numbers of those that are sent and not answered, in order.
    pub(super) fn unanswered(&self) -> Vec<usize> {
        let mut numbers: Vec<_> = self.sent.values().copied().collect();
        numbers.sort_unstable();
        numbers
    }

    /// How many have not been sent.
    pub(super) fn unsent(&self) -> usize {
        self.waiting.len()
    }
}
