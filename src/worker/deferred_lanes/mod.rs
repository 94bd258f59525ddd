//! The order of a group that has deferred commands.
//!
//! While the head of a lane is in a delay queue, later commands must not overtake it: they are deferred
//! behind it, in the same queue, with the next ticket. A command is executed when its ticket is the lowest
//! outstanding one. Tickets are carried in a header; the state of a lane is in the store, written after the
//! deferred message is confirmed and before the delivery is acknowledged. So a crash in between leads to a
//! redelivery, and at worst the command comes twice, in order.
//!
//! Deferred commands are also recorded by their ids (`lost_deferrals`), and a lane continues without those that
//! are lost. If one returns after all, it is executed at once, since its turn was before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;

use crate::contract::Timestamp;
use crate::observability::events;
use crate::store;
use crate::store::lanes::{Deferred, LaneChange, LaneKey, LaneState, Lanes};
use crate::store::ledger::Key;

use super::lost_deferrals::{Deferrals, QueueDepths, lane_of};

/// If a command that was deferred this long after the head was due has returned already, the head is lost:
/// the delay queue was purged. The lane continues without it. That needs no check of the broker's queues,
/// and holds for commands that moved to another shard, which are not in the queues of this one.
///
/// Elapsed time alone proves nothing: while the shard has no worker, or the store is down, returned
/// commands wait there behind earlier ones.
const LOST_AFTER: Duration = Duration::from_mins(15);

/// Whether a command may be executed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may be executed.
    Now,
    /// It has to be deferred behind the commands that are deferred already, with this ticket.
    Behind { ticket: u64, tier: Duration },
}

/// Lanes that have deferred commands.
#[derive(Debug)]
pub(super) struct DeferredLanes {
    lanes: Lanes,
    /// Whether it searches for the commands whose shard is unknown.
    searches_for_strays: bool,
    // A std mutex: held for a map operation and never across an await.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lanes: HashMap<LaneKey, Lane>,
    deferrals: Deferrals,
}

/// The state of a lane.
#[derive(Debug)]
struct Lane {
    state: LaneState,
    /// Tickets of lost commands, behind the head.
    gone: BTreeSet<u64>,
}

impl Lane {
    /// Moves the head to the next ticket; returns whether there is one.
    fn skip(&mut self) -> bool {
        while self.gone.remove(&self.state.head) {
            self.state.head += 1;
        }
        self.state.head <= self.state.tail
    }
}

impl DeferredLanes {
    pub(super) fn new(lanes: Lanes, searches_for_strays: bool) -> Self {
        Self {
            lanes,
            searches_for_strays,
            known: Mutex::default(),
        }
    }

    /// Takes over from the former owner of the queue: another worker, or this one before the connection
    /// broke.
    pub(super) async fn reload(&self, now: Timestamp) -> Result<(), store::Error> {
        let lanes = self.lanes.load().await?;
        let deferred = self.lanes.load_deferred().await?;
        let deferrals = Deferrals::load(deferred, self.searches_for_strays);
        let mut gone: BTreeMap<LaneKey, BTreeSet<u64>> = BTreeMap::new();
        for (lane, ticket) in deferrals.lost() {
            gone.entry(lane).or_default().insert(ticket);
        }
        let lanes = lanes.into_iter().filter_map(|(key, mut state)| {
            // Commands that moved to other shards may have been published again until now, in the old
            // order.
            state.due = state.due.max(now);
            let gone = gone.remove(&key).unwrap_or_default();
            let mut lane = Lane { state, gone };
            lane.skip().then_some((key, lane))
        });
        let lanes = lanes.collect();
        *self.known.lock() = Known { lanes, deferrals };
        Ok(())
    }

    /// The number of groups that have deferred commands.
    pub(super) fn count(&self) -> usize {
        self.known.lock().lanes.len()
    }

    /// Records that a deferred command has been delivered again.
    pub(super) fn note_returned(&self, key: &Key) {
        self.known.lock().deferrals.note_returned(key);
    }

    /// Whether the command with this ticket, or a new one without, may be executed now. If it returned from
    /// a delay queue, it was deferred at `since`.
    pub(super) fn admit(
        &self,
        key: &LaneKey,
        ticket: Option<u64>,
        since: Option<Timestamp>,
    ) -> Admission {
        let mut known = self.known.lock();
        let Known { lanes, deferrals } = &mut *known;
        let Some(lane) = lanes.get(key).map(|lane| lane.state) else {
            return Admission::Now;
        };
        let overdue = since.map(|since| since.0.duration_since(lane.due.0));
        match ticket {
            // The next one, or a second copy of one that is done.
            Some(ticket) if ticket <= lane.head => return Admission::Now,
            // A command that is known by its id is counted and recorded before its lane continues.
            _ if overdue.is_some_and(is_too_long)
                && deferrals.cannot_come(key, lane.head).is_none() =>
            {
                events::unknown_deferred_command_lost();
                lanes.remove(key);
                return Admission::Now;
            }
            _ => {}
        }
        Admission::Behind {
            // New ones, and those left over from an earlier time, come last.
            ticket: ticket
                .filter(|ticket| *ticket <= lane.tail)
                .unwrap_or(lane.tail + 1),
            tier: lane.tier,
        }
    }

    /// The ticket for deferring the command that is being executed.
    pub(super) fn ticket(&self, key: &LaneKey, ticket: Option<u64>, now: Timestamp) -> u64 {
        // Based on the time, so that no two deferrals of a lane have the same ticket.
        let fresh = u64::try_from(now.0.as_microsecond()).unwrap_or_default();
        match self.known.lock().lanes.get(key) {
            Some(lane) => ticket
                .filter(|ticket| *ticket <= lane.state.tail)
                .unwrap_or(lane.state.head),
            None => fresh,
        }
    }

    /// Records that a command is deferred; its message is confirmed already.
    pub(super) async fn record_deferred(&self, command: &Deferred) -> Result<(), store::Error> {
        let lane = {
            let mut known = self.known.lock();
            known.deferrals.record(command.clone());
            lane_of(command).map(|key| {
                let Deferred {
                    ticket, tier, due, ..
                } = *command;
                let lane = known.lanes.entry(key.clone()).or_insert(Lane {
                    state: LaneState {
                        head: ticket,
                        tail: ticket,
                        tier,
                        due,
                    },
                    gone: BTreeSet::new(),
                });
                // It may have been recorded as lost.
                lane.gone.remove(&ticket);
                let state = &mut lane.state;
                state.tail = state.tail.max(ticket);
                // Later commands are deferred to the head's queue, behind it.
                if ticket == state.head {
                    state.tier = tier;
                    state.due = due;
                }
                (key, Some(*state))
            })
        };
        let command = Some((command.key.clone(), Some(command.clone())));
        self.lanes.write(LaneChange { lane, command }).await
    }

    /// Records that a command is completed, with its ticket if it was deferred in a lane; may be repeated.
    pub(super) async fn record_done(
        &self,
        command: &Key,
        place: Option<(&LaneKey, u64)>,
        has_rested: bool,
        tiers: &[Duration],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let (lane, is_known) = {
            let mut known = self.known.lock();
            let lane = place.map(|(key, ticket)| {
                // It was deferred. If its lane is not known here, a worker that was killed recorded it
                // after we had read the lanes. The next reader of the lanes would wait for this command in
                // vain.
                (key.clone(), known.leave(key, ticket, tiers, now))
            });
            (lane, known.deferrals.done(command))
        };
        // Written in any case: this may be a repetition because the store failed the first time.
        let command = (is_known || has_rested).then(|| (command.clone(), None));
        if lane.is_none() && command.is_none() {
            return Ok(());
        }
        self.lanes.write(LaneChange { lane, command }).await
    }

    /// Records that another worker completed a command; its lane continues without it.
    pub(super) async fn record_done_elsewhere(
        &self,
        command: &Deferred,
    ) -> Result<(), store::Error> {
        let lane = {
            let mut known = self.known.lock();
            known.deferrals.done(&command.key);
            let key = lane_of(command).filter(|key| known.lanes.contains_key(key));
            key.map(|key| {
                let left = known.skip(&key, command.ticket);
                (key, left)
            })
        };
        let command = Some((command.key.clone(), None));
        self.lanes.write(LaneChange { lane, command }).await
    }

    /// The tiers of late commands, and, by tier, the begin of the deferral that ended last.
    pub(super) fn late(
        &self,
        now: Timestamp,
    ) -> (BTreeSet<Duration>, BTreeMap<Duration, Timestamp>) {
        let known = self.known.lock();
        (known.deferrals.late(now), known.deferrals.ended().clone())
    }

    /// Lost commands that are not recorded as such.
    pub(super) fn find_lost(&self, seen: &QueueDepths, lost_after: Duration) -> Vec<Deferred> {
        self.known.lock().deferrals.find_lost(seen, lost_after)
    }

    /// Records that a command is lost, so that its lane continues; false if it has returned.
    pub(super) async fn record_lost(
        &self,
        command: &Key,
        now: Timestamp,
    ) -> Result<bool, store::Error> {
        let (row, lane) = {
            let mut known = self.known.lock();
            let Some((row, is_stray)) = known.deferrals.lose(command, now) else {
                return Ok(false);
            };
            let lane = lane_of(&row).map(|key| {
                let left = known.skip(&key, row.ticket);
                (key, left)
            });
            // If written, it would be counted as this shard's; lost commands are skipped at the next
            // reading too.
            let lane = lane.filter(|(_, left)| !is_stray || left.is_none());
            (row, lane)
        };
        let change = LaneChange {
            lane,
            command: Some((command.clone(), Some(row))),
        };
        self.lanes.write(change).await?;
        self.known.lock().deferrals.recorded(command);
        Ok(true)
    }
}

impl Known {
    /// Continues the lane without a lost command; returns its new state.
    fn skip(&mut self, key: &LaneKey, ticket: u64) -> Option<LaneState> {
        let lane = self.lanes.get_mut(key)?;
        lane.gone.insert(ticket);
        let left = lane.skip().then_some(lane.state);
        if left.is_none() {
            self.lanes.remove(key);
        }
        left
    }

    /// Continues the lane after a completed command; returns its new state.
    fn leave(
        &mut self,
        key: &LaneKey,
        ticket: u64,
        tiers: &[Duration],
        now: Timestamp,
    ) -> Option<LaneState> {
        let Entry::Occupied(mut entry) = self.lanes.entry(key.clone()) else {
            return None;
        };
        let lane = entry.get_mut();
        if ticket == lane.state.head {
            lane.state.head += 1;
            // The next one may return at once, so commands that arrive meanwhile retry soon. Or it has just
            // been deferred, for the longest tier.
            lane.state.tier = tiers.first().copied().unwrap_or_default();
            let longest = tiers.last().copied().unwrap_or_default();
            lane.state.due = Timestamp(now.0.checked_add(longest).unwrap_or(now.0));
        }
        if lane.skip() {
            Some(lane.state)
        } else {
            entry.remove();
            None
        }
    }
}

fn is_too_long(overdue: jiff::SignedDuration) -> bool {
    Duration::try_from(overdue).is_ok_and(|overdue| overdue > LOST_AFTER)
}

#[cfg(test)]
mod tests;
