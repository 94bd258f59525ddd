//! The commands before and after the load: for groups and webhook endpoints.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::amqp::{Caller, Names};
use crate::cli::calls::{self, Answer, Calls};
use crate::cli::exit::Failure;
use crate::contract::{CommandType, SessionName};
use crate::lifecycle::Signals;

/// How commands before and after the load are sent.
#[derive(Debug)]
pub(super) struct Setup<'a> {
    pub(super) names: &'a Names,
    /// The beginning of the commands' ids.
    pub(super) run: &'a str,
    /// The longest wait for the next reply.
    pub(super) timeout: Duration,
}

/// A session, and a command that it shall execute.
pub(super) type Step = (SessionName, CommandType, Value);

impl Setup<'_> {
    /// Sends commands, a few at a time; stops sending at a signal and at the first that fails,
    /// and waits for the answers to what was sent.
    pub(super) async fn all(
        &self,
        caller: &mut Caller<'_>,
        steps: Vec<Step>,
        signals: &mut Signals,
        mut took: impl FnMut(&SessionName, &Answer) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut sessions = HashMap::new();
        let commands = steps.into_iter().enumerate().map(|(number, step)| {
            let (session, command, payload) = step;
            let id = format!("{}-{}-{number}", self.run, command.as_str());
            let message = calls::command(self.names, &session, command, id, payload);
            sessions.insert(number, session);
            (number, message)
        });
        let mut calls = Calls::new(commands);
        let mut failure = None;
        while !calls.is_over() {
            let silent = |_| Failure::NoReply(self.timeout);
            let sending = tokio::time::timeout(self.timeout, calls.send(caller));
            sending.await.map_err(silent)??;
            // Both branches can be dropped.
            let message = tokio::select! {
                _ = signals.stop(), if failure.is_none() => {
                    failure = Some(anyhow::anyhow!("interrupted").into());
                    calls.send_no_more();
                    continue;
                }
                message = tokio::time::timeout(self.timeout, caller.next()) => {
                    message.map_err(silent)??
                }
            };
            let Some((number, answer)) = calls.take(message)? else {
                continue;
            };
            let Some(session) = sessions.get(&number) else {
                continue;
            };
            if let Err(error) = took(session, &answer) {
                failure = failure.or(Some(error));
                calls.send_no_more();
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Why a reply to such a command is a failure, if it is one.
pub(super) fn check(answer: &Answer, what: &str) -> Result<(), Failure> {
    answer.reply.error.as_ref().map_or(Ok(()), |error| {
        let why = format!("{}: {}", error.code.as_str(), error.message);
        Err(anyhow::anyhow!("{what}: {why}").into())
    })
}
