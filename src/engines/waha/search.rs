//! Finding the group that a `CreateGroup` may have made, when nobody saw the end of the request.
//!
//! What is not found may be made once more, so "nothing" is said only by a look that could have seen it:
//! a list that lacks groups, or shows some that cannot be read, tells nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::LOOK_AGAIN;
use super::client::Ask;
use super::commands::{Errand, is_outside};
use super::makings::{Candidate, Choice, Making, choose};
use super::wire::{Person, Seen, groups};
use crate::clock::Clock;
use crate::contract::{CommandId, CreateGroup, GroupId, ParticipantId, Role};
use crate::engines::EngineError;
use crate::store::ledger::Begun;

/// The longest wait between two looks.
const LONGEST: Duration = Duration::from_secs(10);

/// So many entries of a list are looked at one by one: those that say nothing, and known groups that are
/// not in it.
const ONE_BY_ONE: usize = 20;

/// What was found.
pub(super) enum Search {
    /// The command's own group.
    Found(Box<Seen>),
    /// None, and the request has come to its end by now.
    Nothing,
    /// Nobody can tell.
    Unclear,
}

/// A search for one command's group.
pub(super) struct Searching<'a> {
    pub(super) errand: &'a Errand<'a>,
    pub(super) command: &'a CommandId,
    pub(super) wanted: &'a CreateGroup,
    pub(super) begun: Begun,
    /// WAHA works on when its caller is gone: for so long an early "nothing" is no answer.
    pub(super) settle: Duration,
    pub(super) clock: &'a dyn Clock,
}

/// What a list showed.
struct View {
    groups: Vec<Seen>,
    /// No group can have been missing.
    is_whole: bool,
}

/// Whether a group is as a command wanted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    /// It may be, by what is told of it.
    Maybe,
    No,
}

impl Searching<'_> {
    /// Looks for the group until it is there, or until the request must have come to its end.
    pub(super) async fn run(&self) -> Result<Search, EngineError> {
        let Errand { book, by, .. } = self.errand;
        let begun = self.begun.first.0.as_millisecond();
        let settle = i64::try_from(self.settle.as_millis()).unwrap_or(i64::MAX);
        let known = book.inside(by.session, begun).await.map_err(super::own)?;
        let mut wait = LOOK_AGAIN;
        loop {
            // Asked before looking: what happens in between shows in the next look.
            let now = self.clock.now().as_millisecond();
            let is_settled = now >= self.begun.last.0.as_millisecond() + settle;
            let view = self.look(&known).await?;
            let makings = book.makings(by.session, &self.wanted.name).await;
            let (open, done): (Vec<_>, Vec<_>) = makings
                .map_err(super::own)?
                .into_iter()
                .partition(|it| it.group.is_none());
            let me = self.making(&open);
            let is_taken = |seen: &Seen| {
                let of = |it: &Making| it.group.as_ref() == Some(&seen.id);
                done.iter().any(|it| of(it) && it.command != *self.command)
            };
            let free = view.groups.into_iter().filter(|seen| !is_taken(seen));
            let free: Vec<_> = free.filter(|seen| !known.contains(&seen.id)).collect();
            let (candidates, may_be_hidden) = self.candidates(&me, &open, &free, settle);
            match choose(&me, &open, &candidates, now, settle) {
                Choice::Take(group) => {
                    let session = by.session;
                    let claimed = book.claim_making(session, me, &group).await;
                    let seen = free.into_iter().find(|seen| seen.id == group);
                    if let Some(seen) = seen.filter(|_| matches!(claimed, Ok(true))) {
                        return Ok(Search::Found(Box::new(seen)));
                    }
                    claimed.map_err(super::own)?;
                }
                Choice::Nothing if is_settled && view.is_whole && !may_be_hidden => {
                    return Ok(Search::Nothing);
                }
                Choice::Nothing | Choice::Unclear if is_settled => return Ok(Search::Unclear),
                Choice::Nothing | Choice::Unclear | Choice::Wait => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// The command as it was written down; begun before that was done, it is as the ledger has it.
    fn making(&self, open: &[Making]) -> Making {
        let written = open.iter().find(|it| it.command == *self.command);
        written.cloned().unwrap_or_else(|| {
            let (first, last) = (self.begun.first.0, self.begun.last.0);
            let first = first.as_millisecond();
            let mut making = Making::new(self.command.clone(), self.wanted, first);
            making.last = last.as_millisecond();
            making
        })
    }

    /// The groups that may be this command's, and whose they may be beside; and whether one of the others
    /// may be it as well, as far as can be seen.
    fn candidates(
        &self,
        me: &Making,
        open: &[Making],
        free: &[Seen],
        settle: i64,
    ) -> (Vec<Candidate>, bool) {
        let rivals = open.iter().filter(|it| it.command != me.command);
        let all: Vec<_> = rivals.chain([me]).collect();
        let mut may_be_hidden = false;
        let mut candidates = Vec::new();
        for seen in free {
            let created = seen.created_at.map(|at| at.0.as_millisecond());
            let fit = |of: &Making| match fit(&self.errand.me, of, seen) {
                _ if !of.spans(created, settle) => Fit::No,
                fit => fit,
            };
            let of = all.iter().filter(|of| fit(of) == Fit::Yes);
            let of: BTreeSet<_> = of.map(|of| of.command.clone()).collect();
            may_be_hidden |= of.is_empty() && fit(me) == Fit::Maybe;
            candidates.push(Candidate {
                group: seen.id.clone(),
                created,
                of,
            });
        }
        (candidates, may_be_hidden)
    }

    /// Looks at all groups. `known` are those that the account was in before the command.
    async fn look(&self, known: &[GroupId]) -> Result<View, EngineError> {
        let errand = self.errand;
        let mut is_whole = errand.refresh().await;
        let asked = errand.client.groups(errand.by, Ask::get(String::new()));
        let body = asked.await?;
        let listed = groups(body.json()).ok_or_else(|| errand.unreadable("no list of groups"))?;
        let entries = match body.json() {
            Value::Array(all) => all.len(),
            Value::Object(all) => all.len(),
            _ => 0,
        };
        is_whole &= listed.len() == entries;
        let is_listed = |id: &&GroupId| listed.iter().any(|seen| seen.id == **id);
        let missing: Vec<_> = known.iter().filter(|id| !is_listed(id)).cloned().collect();
        is_whole &= !listed.is_empty() || known.is_empty();
        let (stubs, mut listed): (Vec<_>, Vec<_>) = listed.into_iter().partition(Seen::is_stub);
        let stubs = stubs.into_iter().map(|stub| stub.id);
        let stubs: Vec<_> = stubs.filter(|id| !known.contains(id)).collect();
        is_whole &= stubs.len() <= ONE_BY_ONE && missing.len() <= ONE_BY_ONE;
        for id in stubs.iter().take(ONE_BY_ONE) {
            match errand.look(id).await {
                Ok(seen) => listed.push(seen),
                // Nothing is known of it: it may be the one.
                Err(_) => is_whole = false,
            }
        }
        for id in missing.iter().take(if is_whole { ONE_BY_ONE } else { 0 }) {
            // A group that the account is out of need not be listed.
            is_whole &= match errand.show(id).await {
                Ok(shown) => shown.is_none_or(|seen| errand.is_out_of(&seen)),
                Err(error) => is_outside(&error),
            };
        }
        let people = listed.iter_mut().filter_map(|seen| seen.people.as_mut());
        let people = people.collect();
        errand
            .lids
            .resolve_all(errand.client, errand.by, people)
            .await;
        Ok(View {
            groups: listed,
            is_whole,
        })
    }
}

/// Whether a group is ours and called as wanted, with nobody in it who was not wanted.
fn fit(me: &[ParticipantId], of: &Making, seen: &Seen) -> Fit {
    let called = match &seen.subject {
        Some(subject) if plain(subject.as_str()) != plain(of.subject.as_str()) => return Fit::No,
        Some(_) => Fit::Yes,
        None => Fit::Maybe,
    };
    let everybody = seen.people.as_deref().unwrap_or_default();
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
    let unseen = of.people.iter();
    let unseen = unseen.filter(|id| !everybody.iter().any(|person| person.is(id)));
    // Somebody who was wanted may be shown by an id that nobody knows to be theirs.
    let people = if strangers.is_empty() && unknown.len() <= unseen.count() {
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

/// A name as WhatsApp may have tidied it.
fn plain(name: &str) -> String {
    let words: Vec<_> = name.split_whitespace().collect();
    words.join(" ")
}
