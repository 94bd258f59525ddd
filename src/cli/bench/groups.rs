//! The groups that the commands are about: created before a run, deleted after it.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;

use super::setup::{self, Setup};
use crate::amqp::Caller;
use crate::cli::calls::Answer;
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
    pub(super) setup: &'a Setup<'a>,
    pub(super) sessions: &'a [SessionName],
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
            let payload =
                json!({ "name": format!("{} {number}", self.setup.run), "participants": [] });
            (session.clone(), CommandType::CreateGroup, payload)
        });
        let took = |session: &SessionName, answer: &Answer| {
            setup::check(answer, "a group cannot be created")?;
            let result = answer.reply.result.as_ref();
            let result = result.map_or("null", |it| it.get());
            let created: Created =
                serde_json::from_str(result).context("a reply cannot be parsed")?;
            groups.push((session.clone(), created.id));
            Ok(())
        };
        self.setup
            .all(caller, commands.collect(), signals, took)
            .await
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
        let ended = self
            .setup
            .all(caller, commands.collect(), signals, took)
            .await;
        let why = ended.err().map(|it| format!(": {it}"));
        if deleted < groups.len() {
            output::note(&format!(
                "{} groups whose names begin with {:?} may be left{}",
                groups.len() - deleted,
                self.setup.run,
                why.unwrap_or_default()
            ));
        }
    }
}
