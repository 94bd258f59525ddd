//! Searches for the group that a `CreateGroup` with unknown outcome may have created.
//!
//! A group that is not found may be created once more, so "nothing" is returned only after a list that
//! would have shown it: a list that lacks groups, or contains unreadable ones, proves nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::READ_INTERVAL;
use super::client::ApiRequest;
use super::commands::{Operation, is_outside};
use super::wire::groups;
use crate::clock::Clock;
use crate::contract::{CommandId, CreateGroup, GroupId, ParticipantId, Role};
use crate::engines::EngineError;
use crate::engines::sync::creation_records::{Candidate, Choice, CreationRecord, choose};
use crate::engines::sync::{GroupSnapshot, Person};
use crate::store::ledger::Starts;

/// The longest wait between two reads.
const LONGEST: Duration = Duration::from_secs(10);

/// The maximum number of groups that are read one by one: entries without members, and known groups
/// that are not listed.
const ONE_BY_ONE: usize = 20;

/// The result of the search.
pub(super) enum SearchResult {
    /// The command's own group.
    Found(Box<GroupSnapshot>),
    /// No group, and the request has ended by now.
    Nothing,
    /// It cannot be determined.
    Unclear,
}

/// A search for one command's group.
pub(super) struct GroupSearch<'a> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) command: &'a CommandId,
    pub(super) wanted: &'a CreateGroup,
    pub(super) starts: Starts,
    /// WAHA continues after its caller has gone: an earlier "nothing" proves nothing.
    pub(super) settle: Duration,
    pub(super) clock: &'a dyn Clock,
}

/// The groups of one list.
struct ListedGroups {
    groups: Vec<GroupSnapshot>,
    /// No group can be missing.
    is_whole: bool,
}

/// Whether a group matches the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    /// It may match, as far as the list shows.
    Maybe,
    No,
}

impl GroupSearch<'_> {
    /// Reads the groups until the command's group is found, or until the request must have ended.
    pub(super) async fn run(&self) -> Result<SearchResult, EngineError> {
        let Operation {
            state_store,
            caller,
            ..
        } = self.operation;
        let begun = self.starts.first.0.as_millisecond();
        let settle = i64::try_from(self.settle.as_millis()).unwrap_or(i64::MAX);
        let known = state_store
            .groups_inside(caller.session, begun)
            .await
            .map_err(super::store_failed)?;
        let mut wait = READ_INTERVAL;
        loop {
            // Taken before the read: what happens in between shows in the next read.
            let now = self.clock.now().as_millisecond();
            let is_settled = now >= self.starts.last.0.as_millisecond() + settle;
            let view = self.read_groups(&known).await?;
            let creation_records = state_store
                .creation_records(caller.session, &self.wanted.name)
                .await;
            let (open, done): (Vec<_>, Vec<_>) = creation_records
                .map_err(super::store_failed)?
                .into_iter()
                .partition(|it| it.group.is_none());
            let me = self.record(&open);
            let is_taken = |snapshot: &GroupSnapshot| {
                let of = |it: &CreationRecord| it.group.as_ref() == Some(&snapshot.id);
                done.iter().any(|it| of(it) && it.command != *self.command)
            };
            let free = view
                .groups
                .into_iter()
                .filter(|snapshot| !is_taken(snapshot));
            let free: Vec<_> = free
                .filter(|snapshot| !known.contains(&snapshot.id))
                .collect();
            let (candidates, may_be_hidden) = self.candidates(&me, &open, &free, settle);
            match choose(&me, &open, &candidates, now, settle) {
                Choice::Take(group) => {
                    let session = caller.session;
                    let claimed = state_store.assign_created_group(session, me, &group).await;
                    let snapshot = free.into_iter().find(|snapshot| snapshot.id == group);
                    if let Some(snapshot) = snapshot.filter(|_| matches!(claimed, Ok(true))) {
                        return Ok(SearchResult::Found(Box::new(snapshot)));
                    }
                    claimed.map_err(super::store_failed)?;
                }
                Choice::Nothing if is_settled && view.is_whole && !may_be_hidden => {
                    return Ok(SearchResult::Nothing);
                }
                Choice::Nothing | Choice::Unclear if is_settled => {
                    return Ok(SearchResult::Unclear);
                }
                Choice::Nothing | Choice::Unclear | Choice::Wait => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// The command's record; a command that was started before it was recorded has the ledger's times.
    fn record(&self, open: &[CreationRecord]) -> CreationRecord {
        let written = open.iter().find(|it| it.command == *self.command);
        written.cloned().unwrap_or_else(|| {
            let (first, last) = (self.starts.first.0, self.starts.last.0);
            let first = first.as_millisecond();
            let mut record = CreationRecord::new(self.command.clone(), self.wanted, first);
            record.last = last.as_millisecond();
            record
        })
    }

    /// The groups that may be this command's, each with all commands that it matches; and whether one
    /// of the others may be this command's too.
    fn candidates(
        &self,
        me: &CreationRecord,
        open: &[CreationRecord],
        free: &[GroupSnapshot],
        settle: i64,
    ) -> (Vec<Candidate>, bool) {
        let rivals = open.iter().filter(|it| it.command != me.command);
        let all: Vec<_> = rivals.chain([me]).collect();
        let mut may_be_hidden = false;
        let mut candidates = Vec::new();
        for snapshot in free {
            let created = snapshot.created_at.map(|at| at.0.as_millisecond());
            let fit = |of: &CreationRecord| match fit(&self.operation.me, of, snapshot) {
                _ if !of.spans(created, settle) => Fit::No,
                fit => fit,
            };
            let of = all.iter().filter(|of| fit(of) == Fit::Yes);
            let of: BTreeSet<_> = of.map(|of| of.command.clone()).collect();
            may_be_hidden |= of.is_empty() && fit(me) == Fit::Maybe;
            candidates.push(Candidate {
                group: snapshot.id.clone(),
                created,
                of,
            });
        }
        (candidates, may_be_hidden)
    }

    /// Reads all groups. `known` are those of which the account was a member before the command.
    async fn read_groups(&self, known: &[GroupId]) -> Result<ListedGroups, EngineError> {
        let operation = self.operation;
        let mut is_whole = operation.reload_groups().await;
        let asked = operation
            .client
            .groups(operation.caller, ApiRequest::get(String::new()));
        let body = asked.await?;
        let listed =
            groups(body.json()).ok_or_else(|| operation.unreadable("no list of groups"))?;
        let entries = match body.json() {
            Value::Array(all) => all.len(),
            Value::Object(all) => all.len(),
            _ => 0,
        };
        is_whole &= listed.len() == entries;
        let is_listed = |id: &&GroupId| listed.iter().any(|snapshot| snapshot.id == **id);
        let missing: Vec<_> = known.iter().filter(|id| !is_listed(id)).cloned().collect();
        is_whole &= !listed.is_empty() || known.is_empty();
        let (stubs, mut listed): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(GroupSnapshot::is_stub);
        let stubs = stubs.into_iter().map(|stub| stub.id);
        let stubs: Vec<_> = stubs.filter(|id| !known.contains(id)).collect();
        is_whole &= stubs.len() <= ONE_BY_ONE && missing.len() <= ONE_BY_ONE;
        for id in stubs.iter().take(ONE_BY_ONE) {
            match operation.read_group(id).await {
                Ok(snapshot) => listed.push(snapshot),
                // Nothing is known of it: it may be the one.
                Err(_) => is_whole = false,
            }
        }
        for id in missing.iter().take(if is_whole { ONE_BY_ONE } else { 0 }) {
            // A group that the account has left need not be listed.
            is_whole &= match operation.fetch_group(id).await {
                Ok(shown) => shown.is_none_or(|snapshot| operation.excludes_own_account(&snapshot)),
                Err(error) => is_outside(&error),
            };
        }
        let people = listed
            .iter_mut()
            .filter_map(|snapshot| snapshot.people.as_mut());
        let people = people.collect();
        operation
            .phone_directory
            .resolve_all(operation.client, operation.caller, people)
            .await;
        Ok(ListedGroups {
            groups: listed,
            is_whole,
        })
    }
}

/// Whether a group is ours, has the requested name, and has no member who was not requested.
fn fit(me: &[ParticipantId], of: &CreationRecord, snapshot: &GroupSnapshot) -> Fit {
    let called = match &snapshot.subject {
        Some(subject) if plain(subject.as_str()) != plain(of.subject.as_str()) => return Fit::No,
        Some(_) => Fit::Yes,
        None => Fit::Maybe,
    };
    let everybody = snapshot.people.as_deref().unwrap_or_default();
    let mine = |person: &&Person| me.iter().any(|me| person.is(me));
    let ours = match everybody.iter().find(mine) {
        Some(own) if own.role == Role::Participant => return Fit::No,
        None if !me.is_empty() => Fit::Maybe,
        _ => Fit::Yes,
    };
    let others = everybody.iter().filter(|person| !mine(person));
    let wanted = |person: &&Person| of.people.iter().any(|id| person.is(id));
    let (unknown, strangers): (Vec<_>, Vec<_>) = others
        .filter(|person| !wanted(person))
        .partition(|person| person.is_private());
    let unlisted = of.people.iter();
    let unlisted = unlisted.filter(|id| !everybody.iter().any(|person| person.is(id)));
    // A requested member may be listed by an id that is not known to be theirs.
    let people = if strangers.is_empty() && unknown.len() <= unlisted.count() {
        Fit::Yes
    } else {
        Fit::Maybe
    };
    if [called, ours, people].contains(&Fit::Maybe) {
        Fit::Maybe
    } else {
        Fit::Yes
    }
}

/// A name with WhatsApp's whitespace clean-up.
fn plain(name: &str) -> String {
    let words: Vec<_> = name.split_whitespace().collect();
    words.join(" ")
}
