//! The group that each `CreateGroup` created, so that two commands never claim the same group.
//!
//! A command is recorded before its request is sent, and its group as soon as it is known, in the
//! session's state. If several commands with unknown outcome ask for the same group, the groups found
//! are assigned by age: the commands differ in nothing else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::SessionState;
use super::state_store::StateStore;
use crate::contract::{CommandId, CreateGroup, GroupId, ParticipantId, SessionName, Subject};
use crate::store::Error;
use crate::store::known_groups::KnownKey;

/// The maximum lag of WAHA's clock behind ours; milliseconds.
const SKEW: i64 = 5_000;

/// How long a command without a known group is remembered; as long as the ledger has it.
const OPEN: i64 = 24 * 3_600_000;

/// How long a group is remembered if no other command searches for one with this name.
const DONE: i64 = 15 * 60_000;

/// The group that one `CreateGroup` created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engines) struct CreationRecord {
    pub(in crate::engines) command: CommandId,
    pub(in crate::engines) subject: Subject,
    pub(in crate::engines) people: BTreeSet<ParticipantId>,
    /// When it was started first, and last; milliseconds by our clock.
    pub(in crate::engines) first: i64,
    pub(in crate::engines) last: i64,
    /// Requests with unknown outcome.
    open: u32,
    /// The group, once it is known.
    pub(in crate::engines) group: Option<GroupId>,
}

impl CreationRecord {
    /// A record of a command that starts now.
    pub(in crate::engines) fn new(command: CommandId, asked: &CreateGroup, at: i64) -> Self {
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
    pub(in crate::engines) fn spans(&self, created: Option<i64>, settle: i64) -> bool {
        let span = self.first - SKEW..=self.last + settle + SKEW;
        created.is_none_or(|at| span.contains(&at))
    }
}

/// The records of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(in crate::engines) struct CreationRecords(Vec<CreationRecord>);

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

    /// The last request of a command had no effect.
    fn undo(&mut self, command: &CommandId) {
        self.0.retain_mut(|it| {
            if it.command == *command && it.group.is_none() {
                it.open -= 1;
            }
            it.open > 0
        });
    }

    /// Assigns a group to a command; false if it is another command's.
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
    /// Records that a creation is about to be requested.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn record_creation_started(
        &self,
        session: &SessionName,
        record: CreationRecord,
    ) -> Result<(), Error> {
        self.update_creation_records(session, move |creation_records| {
            creation_records.begin(record.clone());
        })
        .await
    }

    /// Records that the last request certainly created nothing.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn record_creation_failed(
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

    /// Assigns a group to a command; false if another command has it.
    ///
    /// # Errors
    /// When the store is unavailable; a repetition is safe.
    pub(in crate::engines) async fn assign_created_group(
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

    /// The commands that created, or may have created, a group with this name.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn creation_records(
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

    /// The recorded groups of all commands.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::engines) async fn created_groups(
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

/// A group that a command may have created.
#[derive(Debug, Clone)]
pub(in crate::engines) struct Candidate {
    pub(in crate::engines) group: GroupId,
    /// Milliseconds by WAHA's clock, if WAHA reports it.
    pub(in crate::engines) created: Option<i64>,
    /// The commands that it matches.
    pub(in crate::engines) of: BTreeSet<CommandId>,
}

/// The decision about the candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engines) enum Choice {
    /// This group is the command's.
    Take(GroupId),
    /// No group is.
    Nothing,
    /// Another command may still record which group is its own.
    Wait,
    /// It cannot be determined.
    Unclear,
}

/// Chooses a command's own group; `open` are all commands with this name whose group is unknown.
pub(in crate::engines) fn choose(
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
    // Commands with the same members can share the groups; with other commands, only a group that
    // matches none of them counts.
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
