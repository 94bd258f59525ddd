//! The groups that the commands are about: created before a run, deleted after it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;

use crate::amqp::{Caller, Names};
use crate::cli::calls::{self, Answer, Calls};
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::contract::{CommandType, SessionName};
use crate::lifecycle::Signals;

/// What a command is about: a session, and one of its groups.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) session: String,
    /// Empty where no command needs a group.
    pub(super) group: String,
    /// How many places there are.
    pub(super) of: u64,
}

/// Where the groups are made.
#[derive(Debug)]
pub(super) struct Groups<'a> {
    pub(super) names: &'a Names,
    pub(super) sessions: &'a [SessionName],
    /// The name of this run, which is in the names of its groups.
    pub(super) run: &'a str,
    pub(super) timeout: Duration,
}

/// A group of a session.
type Group = (SessionName, String);

#[derive(Debug, Deserialize)]
struct Created {
    id: String,
}

impl Groups<'_> {
    /// Creates this number of groups in each session, and adds them to the list, which has those that exist whatever
    /// ends it.
    pub(super) async fn create(
        &self,
        caller: &mut Caller<'_>,
        count: usize,
        signals: &mut Signals,
        groups: &mut Vec<Group>,
    ) -> Result<(), Failure> {
        let each = (0..count).flat_map(|_| self.sessions);
        let commands = each.enumerate().map(|(number, session)| {
            let payload = json!({ "name": format!("{} {number}", self.run), "participants": [] });
            (session.clone(), CommandType::CreateGroup, payload)
        });
        let took = |session: &SessionName, answer: &Answer| {
            if let Some(error) = &answer.reply.error {
                let why = format!("{}: {}", error.code.as_str(), error.message);
                return Err(anyhow::anyhow!("a group cannot be created: {why}").into());
            }
            let result = answer.reply.result.as_ref();
            let result = result.map_or("null", |it| it.get());
            let created: Created =
                serde_json::from_str(result).context("a reply cannot be parsed")?;
            groups.push((session.clone(), created.id));
            Ok(())
        };
        self.all(caller, commands.collect(), signals, took).await
    }

    /// Deletes the groups; a failure is printed, and says how many are left.
    pub(super) async fn delete(
        &self,
        caller: &mut Caller<'_>,
        groups: &[Group],
        signals: &mut Signals,
    ) {
        let commands = groups.iter().map(|(session, id)| {
            let payload = json!({ "groupId": id });
            (session.clone(), CommandType::DeleteGroup, payload)
        });
        let mut deleted = 0;
        let took = |_: &SessionName, answer: &Answer| {
            deleted += usize::from(answer.reply.error.is_none());
            Ok(())
        };
        let ended = self.all(caller, commands.collect(), signals, took).await;
        let why = ended.err().map(|it| format!(": {it}"));
        if deleted < groups.len() {
            output::note(&format!(
                "{} groups whose names begin with {:?} may be left{}",
                groups.len() - deleted,
                self.run,
                why.unwrap_or_default()
            ));
        }
    }

    /// Sends commands, a few at a time; stops sending at a signal and at the first that fails,
    /// and waits for the answers to what was sent.
    async fn all(
        &self,
        caller: &mut Caller<'_>,
        commands: Vec<(SessionName, CommandType, serde_json::Value)>,
        signals: &mut Signals,
        mut took: impl FnMut(&SessionName, &Answer) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut sessions = HashMap::new();
        let commands = commands.into_iter().enumerate().map(|(number, command)| {
            let (session, command, payload) = command;
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
