//! Which group each `CreateGroup` has made, so that two commands never take one group for their own.
//!
//! A command is written down before its request is sent, and its group as soon as it is known, with what
//! is known of the session. Where several commands want the same, whose end nobody saw, their groups are
//! shared out by age: they differ in nothing but that.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::sync::SessionState;
use super::sync::state_store::StateStore;
use crate::contract::{CommandId, CreateGroup, GroupId, ParticipantId, SessionName, Subject};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

/// WAHA's clock may be behind ours by so much; milliseconds.
const SKEW: i64 = 5_000;

/// For how long a command is remembered whose group nobody knows; as long as the ledger has it.
const OPEN: i64 = 24 * 3_600_000;

/// For how long a group is remembered, where nobody else looks for one of this name.
const DONE: i64 = 15 * 60_000;

/// What one `CreateGroup` has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CreationRecord {
    pub(super) command: CommandId,
    pub(super) subject: Subject,
    pub(super) people: BTreeSet<ParticipantId>,
    /// When it was begun first, and last; milliseconds by our clock.
    pub(super) first: i64,
    pub(super) last: i64,
    /// Requests whose end nobody saw.
    open: u32,
    /// The group, once it is known.
    pub(super) group: Option<GroupId>,
}

impl CreationRecord {
    /// One that is begun now.
    pub(super) fn new(command: CommandId, asked: &CreateGroup, at: i64) -> Self {
        Self {
            command,
            subject: asked.name.clone(),
            people: asked.participants.iter().map(|it| it.id.clone()).collect(),
            first: at,
            last: at,
            open: 1,
            group: None,
        }
    }

    /// Whether a group of this age can be this command's.
    pub(super) fn spans(&self, created: Option<i64>, settle: i64) -> bool {
        let span = self.first - SKEW..=self.last + settle + SKEW;
        created.is_none_or(|at| span.contains(&at))
    }
}

/// The makings of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct CreationRecords(Vec<CreationRecord>);

impl CreationRecords {
    fn begin(&mut self, record: CreationRecord) {
        self.forget(record.last);
        match self.0.iter_mut().find(|it| it.command == record.command) {
            Some(before) => {
                before.open += 1;
                before.last = record.last;
            }
            None => self.0.push(record),
        }
    }

    /// The last request of a command did nothing.
    fn undo(&mut self, command: &CommandId) {
        self.0.retain_mut(|it| {
            if it.command == *command && it.group.is_none() {
                it.open -= 1;
            }
            it.open > 0
        });
    }

    /// Makes a group a command's; false where it is another's.
    fn claim(&mut self, record: CreationRecord, group: &GroupId) -> bool {
        let is_taken = |it: &CreationRecord| it.group.as_ref() == Some(group);
        if let Some(taken) = self.0.iter().find(|it| is_taken(it)) {
            return taken.command == record.command;
        }
        let before = self.0.iter_mut().find(|it| it.command == record.command);
        match before {
            Some(before) => before.group = Some(group.clone()),
            None => self.0.push(CreationRecord {
                group: Some(group.clone()),
                ..record
            }),
        }
        true
    }

    fn forget(&mut self, now: i64) {
        let open = self.0.iter().filter(|it| it.group.is_none());
        let open: Vec<_> = open.map(|it| it.subject.clone()).collect();
        self.0.retain(|it| {
            let age = now - it.last;
            age < DONE || (age < OPEN && open.contains(&it.subject))
        });
    }
}

impl StateStore {
    /// Writes down that a group is about to be asked for.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(super) async fn record_creation_started(
        &self,
        session: &SessionName,
        record: CreationRecord,
    ) -> Result<(), Error> {
        self.update_creation_records(session, move |creation_records| {
            creation_records.begin(record.clone());
        })
        .await
    }

    /// Writes down that what was asked for last was certainly not made.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(super) async fn record_creation_failed(
        &self,
        session: &SessionName,
        command: &CommandId,
    ) -> Result<(), Error> {
        let command = command.clone();
        self.update_creation_records(session, move |creation_records| {
            creation_records.undo(&command);
        })
        .await
    }

    /// Makes a group a command's own; false where another command has it.
    ///
    /// # Errors
    /// When the store cannot be used; asking again is safe.
    pub(super) async fn assign_created_group(
        &self,
        session: &SessionName,
        record: CreationRecord,
        group: &GroupId,
    ) -> Result<bool, Error> {
        let group = group.clone();
        self.update_creation_records(session, move |creation_records| {
            creation_records.claim(record.clone(), &group)
        })
        .await
    }

    /// The commands that made, or may have made, a group of this name.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn creation_records(
        &self,
        session: &SessionName,
        subject: &Subject,
    ) -> Result<Vec<CreationRecord>, Error> {
        let subject = subject.clone();
        self.read(session, None, move |about: SessionState| {
            let named = about.creation_records.0.into_iter();
            named.filter(|it| it.subject == subject).collect()
        })
        .await
    }

    /// The groups that commands are remembered to have made.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub(super) async fn created_groups(
        &self,
        session: &SessionName,
    ) -> Result<Vec<GroupId>, Error> {
        self.read(session, None, |about: SessionState| {
            let made = about.creation_records.0.into_iter();
            made.filter_map(|it| it.group).collect()
        })
        .await
    }

    async fn update_creation_records<T: Send + Default + 'static>(
        &self,
        session: &SessionName,
        step: impl Fn(&mut CreationRecords) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let key = KnownKey {
            session: session.clone(),
            group: None,
        };
        self.update(key, move |rows, key| {
            let mut about: SessionState = rows.get(key)?.unwrap_or_default();
            let came = step(&mut about.creation_records);
            rows.put(key, &about)?;
            Ok(came)
        })
        .await
    }
}

/// A group that may be the one that a command has made.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) group: GroupId,
    /// Milliseconds by WAHA's clock, where it tells.
    pub(super) created: Option<i64>,
    /// The commands whose wish it fulfils.
    pub(super) of: BTreeSet<CommandId>,
}

/// What is to be done about the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one is the command's.
    Take(GroupId),
    /// None is.
    Nothing,
    /// Another command may still be told which is its own.
    Wait,
    /// Nobody can tell.
    Unclear,
}

/// Chooses a command's own group; `open` are all commands of this name whose group is not known.
pub(super) fn choose(
    me: &CreationRecord,
    open: &[CreationRecord],
    candidates: &[Candidate],
    now: i64,
    settle: i64,
) -> Choice {
    let is_mine = |it: &&Candidate| it.of.contains(&me.command);
    let mine: Vec<_> = candidates.iter().filter(is_mine).collect();
    let shares = |other: &&CreationRecord| mine.iter().any(|it| it.of.contains(&other.command));
    let rivals = open.iter().filter(|it| it.command != me.command);
    let rivals: Vec<_> = rivals.filter(shares).collect();
    match mine.as_slice() {
        [] => return Choice::Nothing,
        [only] if rivals.is_empty() => return Choice::Take(only.group.clone()),
        _ if rivals.is_empty() => return Choice::Unclear,
        _ => {}
    }
    if rivals.iter().any(|it| now < it.last + settle) {
        return Choice::Wait;
    }
    // Commands that want the very same can share; with others, only what is not theirs counts.
    let (mut peers, others): (Vec<_>, Vec<_>) =
        rivals.into_iter().partition(|it| it.people == me.people);
    peers.push(me);
    peers.sort_by_key(|it| (it.first, it.command.as_str()));
    let is_others = |it: &&Candidate| others.iter().any(|other| it.of.contains(&other.command));
    let is_peers = |it: &&Candidate| peers.iter().any(|peer| it.of.contains(&peer.command));
    let pool = candidates
        .iter()
        .filter(|it| is_peers(it) && !is_others(it));
    let mut pool: Vec<_> = pool.collect();
    pool.sort_by_key(|it| (it.created, it.group.as_str()));
    if pool.len() > peers.len() || !pool.iter().any(is_mine) {
        return Choice::Unclear;
    }
    for peer in peers {
        let fitting = pool.iter().position(|it| it.of.contains(&peer.command));
        let taken = fitting.map(|index| pool.remove(index).group.clone());
        if peer.command == me.command {
            return taken.map_or(Choice::Nothing, Choice::Take);
        }
    }
    Choice::Nothing
}

#[cfg(test)]
mod tests;
