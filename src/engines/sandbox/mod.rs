//! The sandbox engine: an embedded model of WhatsApp's groups, with rules, roles and refusals.
//!
//! All sessions share one set of groups, so each sees the changes of the others. `model` holds the
//! rules and knows no store; `events` decides which session gets which event; `people` lists the
//! numbers with a fixed outcome, and `lids` gives everybody a private id. A change is one transaction of the
//! store with its outcome (result and events): a repetition of the command finds the outcome there and
//! changes nothing.

mod accounts;
mod admins;
mod effect;
mod events;
mod faults;
mod ids;
mod join_requests;
mod lids;
mod list;
mod members;
mod model;
mod people;
mod settings;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::value::{RawValue, to_raw_value};

use super::pictures::Pictures;
use super::{Call, Effect, Engine, EngineError, Found, ResultLimit};
use crate::clock::Clock;
use crate::config::{self, CrashPoint};
use crate::contract::{
    Command, CommandId, CommandResult, Count, CreateGroup, EngineName, ErrorCode, Event, GroupId,
    JoinCode, ParticipantId, Repeat, Timestamp,
};
use crate::store::ledger::{Key, Record, Starts};
use crate::store::sandbox_groups::{SandboxGroups, World};
use crate::store::{self, Store};

use accounts::Accounts;
use effect::{Actor, Refusal};
use faults::Faults;

/// The sandbox.
#[derive(Debug)]
pub struct Sandbox {
    groups: SandboxGroups,
    store: Store,
    clock: Arc<dyn Clock>,
    accounts: Arc<Accounts>,
    members_can_add: bool,
    faults: Faults,
    pictures: Pictures,
    result_limit: ResultLimit,
}

impl Sandbox {
    /// Builds the sandbox over a store.
    #[must_use]
    pub fn new(
        store: Store,
        config: config::Sandbox,
        clock: Arc<dyn Clock>,
        pictures: Pictures,
        result_limit: ResultLimit,
    ) -> Self {
        let seed = rand::random();
        Self::seeded(store, config, clock, pictures, result_limit, seed)
    }

    /// As [`Sandbox::new`], with a seed, so that the same commands fail each time.
    #[must_use]
    pub fn seeded(
        store: Store,
        config: config::Sandbox,
        clock: Arc<dyn Clock>,
        pictures: Pictures,
        result_limit: ResultLimit,
        seed: u64,
    ) -> Self {
        let config::Sandbox {
            sessions,
            members_can_add,
            faults,
        } = config;
        Self {
            groups: store.sandbox_groups(),
            store,
            clock,
            accounts: Arc::new(Accounts::new(sessions)),
            members_can_add,
            faults: Faults::new(faults, seed),
            pictures,
            result_limit,
        }
    }

    fn account(&self, call: &Call) -> Result<&ParticipantId, EngineError> {
        self.accounts
            .phone(&call.session)
            .ok_or_else(|| EngineError::Refused {
                code: ErrorCode::SessionNotFound,
                message: format!(
                    "the sandbox has no session {}; give it a phone in [engine.sandbox.sessions]",
                    call.session
                ),
            })
    }

    /// Answers a command that changes nothing.
    async fn read(&self, account: &ParticipantId, call: &Call) -> Result<Effect, EngineError> {
        let result = match (&call.command, call.command.group()) {
            (Command::ListGroups(asked), _) => {
                return list::list(&self.groups, account, asked, self.result_limit).await;
            }
            (Command::GetJoinInfo(asked), _) => self.join_info(account, &asked.code).await?,
            (Command::CountGroups(_), _) => self.count(account).await?,
            // The sandbox is WhatsApp itself here: what it returns is never out of date.
            (Command::RefreshGroups(_), _) => CommandResult::Done(true),
            (
                command @ (Command::ListLids(_)
                | Command::CountLids(_)
                | Command::GetPhoneByLid(_)
                | Command::GetLidByPhone(_)),
                _,
            ) => {
                let read = lids::read(command, account, &self.groups).await;
                read.map_err(store_failed)?
                    .ok_or_else(|| refused(Refusal::not_a_read()))?
            }
            (command, Some(id)) => {
                let group = self.groups.get(id).await.map_err(store_failed)?;
                let group = group.ok_or_else(Refusal::no_such_group);
                group
                    .and_then(|group| model::read(&group, account, command))
                    .map_err(refused)?
            }
            (_, None) => return Err(refused(Refusal::not_a_read())),
        };
        Effect::new(&result, Vec::new())
    }

    async fn join_info(
        &self,
        account: &ParticipantId,
        code: &JoinCode,
    ) -> Result<CommandResult, EngineError> {
        let id = self.groups.of_invite_code(code).await;
        let Some(id) = id.map_err(store_failed)? else {
            return Err(refused(join_requests::no_such_link()));
        };
        let group = self.groups.get(&id).await.map_err(store_failed)?;
        let group = group.ok_or_else(join_requests::no_such_link);
        let info = group.and_then(|group| join_requests::info(&id, &group, account, code));
        Ok(CommandResult::JoinInfo(Box::new(info.map_err(refused)?)))
    }

    /// The groups that a command may change.
    async fn groups_of(&self, call: &Call) -> Result<Vec<GroupId>, EngineError> {
        match (&call.command, call.command.group()) {
            (_, Some(id)) => Ok(vec![id.clone()]),
            // Which group a code leads to never changes; whether it still does is decided in the transaction.
            (Command::JoinGroup(asked), None) => {
                let id = self.groups.of_invite_code(&asked.code).await;
                Ok(id.map_err(store_failed)?.into_iter().collect())
            }
            _ => Ok(ids::group_candidates(&call.key())),
        }
    }

    async fn count(&self, account: &ParticipantId) -> Result<CommandResult, EngineError> {
        let count = self.groups.count_of_account(account).await;
        Ok(CommandResult::Count(Count {
            count: count.map_err(store_failed)?,
        }))
    }

    /// Executes a command that changes something, unless its outcome is recorded.
    async fn change(&self, account: &ParticipantId, call: &Call) -> Result<Effect, EngineError> {
        let key = call.key();
        let picture = match &call.command {
            Command::SetGroupPicture(asked) => {
                // A repetition is answered even if the URL does not work any more.
                let known = self.groups.outcome(key.clone(), call.fingerprint).await;
                if let Some(record) = known.map_err(store_failed)? {
                    return effect_of(record);
                }
                Some(self.pictures.obtain(&asked.picture).await?.digest)
            }
            _ => None,
        };
        let mut command = call.command.clone();
        let named = lids::use_phones(&mut command);
        let change = Transaction {
            // Taken here, so that a repeated transaction uses the same time.
            now: Timestamp(self.clock.now()),
            account: account.clone(),
            accounts: self.accounts.clone(),
            members_can_add: self.members_can_add,
            command,
            named,
            id: call.id.clone(),
            key: key.clone(),
            groups: self.groups_of(call).await?,
            picture,
        };
        let groups = change.groups.clone();
        let world = self.groups.under(call.context.fence.clone());
        let step = move |world: &mut World<'_>| change.run(world);
        self.faults.crash(&call.session, CrashPoint::BeforeEffect);
        let record = world.change(key, call.fingerprint, groups, step).await;
        self.faults.crash(&call.session, CrashPoint::AfterEffect);
        match record {
            Ok(Some(record)) => effect_of(record),
            Ok(None) => Err(EngineError::Refused {
                code: ErrorCode::IdReused,
                message: "the sandbox executed another command with this id; take a new id"
                    .to_owned(),
            }),
            // The commit may have succeeded although its answer was lost; the next attempt finds that out.
            Err(error) if error.is_outage() => Err(EngineError::NoAnswer {
                message: error.to_string(),
            }),
            Err(error) => Err(store_failed(error)),
        }
    }
}

#[async_trait]
impl Engine for Sandbox {
    fn name(&self) -> EngineName {
        EngineName::Sandbox
    }

    async fn execute(&self, call: &Call) -> Result<Effect, EngineError> {
        let account = self.account(call)?;
        self.faults.act_out(&call.session).await?;
        match call.command.command_type().repeat() {
            Repeat::ReadOnly => self.read(account, call).await,
            Repeat::Harmless | Repeat::Harmful => self.change(account, call).await,
        }
    }

    async fn account(&self, call: &Call) -> Result<Vec<ParticipantId>, EngineError> {
        Sandbox::account(self, call).map(|account| vec![account.clone()])
    }

    async fn find(&self, call: &Call, _: Starts) -> Result<Found, EngineError> {
        let groups = self.groups.under(call.context.fence.clone());
        let outcome = groups.outcome(call.key(), call.fingerprint).await;
        match outcome.map_err(store_failed)? {
            Some(record) => effect_of(record).map(Found::Effect),
            // What has an effect has its outcome recorded with it.
            None => Ok(Found::Nothing),
        }
    }

    async fn check(&self) -> Result<String, EngineError> {
        self.store.ping().await.map_err(store_failed)?;
        Ok(self.name().as_str().to_owned())
    }
}

fn effect_of(record: Record) -> Result<Effect, EngineError> {
    match record.outcome {
        Ok(result) => Ok(Effect {
            result,
            events: record.events,
        }),
        Err(refusal) => Err(EngineError::Refused {
            code: refusal.code,
            message: refusal.message,
        }),
    }
}

/// A command that is being executed: the body of the transaction, repeated after a conflict.
struct Transaction {
    now: Timestamp,
    account: ParticipantId,
    accounts: Arc<Accounts>,
    members_can_add: bool,
    command: Command,
    /// The people whom the command names, by the ids that the producer wrote.
    named: Vec<ParticipantId>,
    id: CommandId,
    key: Key,
    /// The group, those that a `CreateGroup` may create, or none if a code leads to none.
    groups: Vec<GroupId>,
    /// The digest of the picture that the command names.
    picture: Option<String>,
}

impl Transaction {
    fn run(&self, world: &mut World<'_>) -> Result<Record, store::Error> {
        let actor = Actor {
            account: &self.account,
            now: self.now,
            command: &self.id,
            key: &self.key,
            picture: self.picture.as_deref(),
        };
        let done = match &self.command {
            Command::CreateGroup(payload) => self.create(world, &actor, payload)?,
            command => self.apply(world, &actor, command)?,
        };
        let (outcome, events) = match done {
            Ok((result, events)) => (Ok(result), events),
            Err(refusal) => (Err(refusal.body()), Vec::new()),
        };
        Ok(Record {
            outcome,
            events,
            at: self.now,
        })
    }

    fn create(
        &self,
        world: &mut World<'_>,
        actor: &Actor<'_>,
        payload: &CreateGroup,
    ) -> Result<Result<ResultAndEvents, Refusal>, store::Error> {
        for id in &self.groups {
            if world.group(id)?.is_some() {
                continue;
            }
            let (mut group, mut applied) =
                members::create(id, actor, payload, self.members_can_add);
            let events = events::events(
                id,
                &mut group,
                Vec::new(),
                &self.accounts,
                actor,
                &applied.changes,
            );
            lids::as_named(&mut applied.result, &self.named);
            world.insert(id, group);
            world.changed(id, self.command.command_type(), self.now);
            return Ok(result_and_events(&applied.result, events));
        }
        Ok(Err(Refusal::new(
            ErrorCode::EngineRejected,
            "every group id derived from this command id exists already; send the command with another id",
        )))
    }

    fn apply(
        &self,
        world: &mut World<'_>,
        actor: &Actor<'_>,
        command: &Command,
    ) -> Result<Result<ResultAndEvents, Refusal>, store::Error> {
        let missing = || match command {
            Command::JoinGroup(_) => Ok(Err(join_requests::no_such_link())),
            _ => Ok(Err(Refusal::no_such_group())),
        };
        let Some(id) = self.groups.first() else {
            return missing();
        };
        let Some(group) = world.group(id)? else {
            return missing();
        };
        let before = self.accounts.sessions_inside(group);
        let mut applied = match model::apply(id, group, actor, command) {
            Ok(applied) => applied,
            Err(refusal) => return Ok(Err(refusal)),
        };
        lids::as_named(&mut applied.result, &self.named);
        let events = events::events(id, group, before, &self.accounts, actor, &applied.changes);
        if !applied.changes.is_empty() {
            world.changed(id, command.command_type(), self.now);
        }
        Ok(result_and_events(&applied.result, events))
    }
}

/// A result as JSON, with its events.
type ResultAndEvents = (Box<RawValue>, Vec<Event>);

fn result_and_events(
    result: &CommandResult,
    events: Vec<Event>,
) -> Result<ResultAndEvents, Refusal> {
    let raw = to_raw_value(result).map_err(|error| unwritable(&error))?;
    Ok((raw, events))
}

fn unwritable(error: &serde_json::Error) -> Refusal {
    Refusal {
        code: ErrorCode::Internal,
        message: format!("the result could not be written as JSON: {error}"),
    }
}

fn refused(refusal: Refusal) -> EngineError {
    EngineError::Refused {
        code: refusal.code,
        message: refusal.message,
    }
}

/// The command was not executed.
fn store_failed(error: store::Error) -> EngineError {
    EngineError::Internal {
        message: error.to_string(),
        source: Box::new(error),
    }
}
