//! The order of a group that has deferred commands.
//!
//! While the head of a lane is in a delay queue, what comes after it must not overtake: it is deferred
//! behind it, in the same queue, with the next ticket. A command is executed when its ticket is the
//! lowest that is out. Tickets travel in a header; how a lane stands is in the store, written after
//! the deferred message is confirmed and before the delivery is acknowledged. So a crash in between
//! brings the delivery back to where it was, and at worst the command comes twice, in order.
//!
//! What is deferred is noted by its id, too (`deferrals`), and a lane goes on without what is lost. Should
//! that come back after all, it is executed at once, since its turn was before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::contract::Timestamp;
use crate::observability::events;
use crate::store;
use crate::store::lanes::{Deferred, LaneChange, LaneKey, LaneState, Lanes};
use crate::store::ledger::Key;

use super::deferrals::{Deferrals, QueueDepths, lane_of};

/// If a command that was deferred this long after the head was due has returned already, the head is lost:
/// the delay queue was purged. The lane goes on without it. That holds without
/// a look at the broker's queues, and for what moved to another shard, which is in none of `away`.
///
/// The time that passes says nothing by itself: while the shard has no worker, or the store is away,
/// what is back waits there behind what came before.
const LOST_AFTER: Duration = Duration::from_mins(15);

/// Whether a command may be executed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may.
    Now,
    /// It has to be deferred behind what is deferred already, with this ticket.
    Behind { ticket: u64, tier: Duration },
}

/// Lanes that have deferred commands.
#[derive(Debug)]
pub(super) struct DeferredLanes {
    lanes: Lanes,
    /// It searches for the commands whose shard is unknown.
    looks_for_strays: bool,
    // A std mutex: held for a map operation and never across an await.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lanes: HashMap<LaneKey, Lane>,
    deferrals: Deferrals,
}

/// How a lane stands.
#[derive(Debug)]
struct Lane {
    resting: LaneState,
    /// Tickets of lost commands, behind the head.
    gone: BTreeSet<u64>,
}

impl Lane {
    /// Lets the next ticket be the head; whether there is one.
    fn skip(&mut self) -> bool {
        while self.gone.remove(&self.resting.head) {
            self.resting.head += 1;
        }
        self.resting.head <= self.resting.tail
    }
}

impl DeferredLanes {
    pub(super) fn new(lanes: Lanes, looks_for_strays: bool) -> Self {
        Self {
            lanes,
            looks_for_strays,
            known: Mutex::default(),
        }
    }

    /// Takes over from the former owner of the queue: another worker, or this one before the
    /// connection broke.
    pub(super) async fn reload(&self, now: Timestamp) -> Result<(), store::Error> {
        let lanes = self.lanes.load().await?;
        let deferred = self.lanes.load_deferred().await?;
        let deferrals = Deferrals::load(deferred, self.looks_for_strays);
        let mut gone: BTreeMap<LaneKey, BTreeSet<u64>> = BTreeMap::new();
        for (lane, ticket) in deferrals.lost() {
            gone.entry(lane).or_default().insert(ticket);
        }
        let lanes = lanes.into_iter().filter_map(|(key, mut resting)| {
            // Whatever was moved to other shards was published anew until now, in the old order.
            resting.due = resting.due.max(now);
            let gone = gone.remove(&key).unwrap_or_default();
            let mut lane = Lane { resting, gone };
            lane.skip().then_some((key, lane))
        });
        let lanes = lanes.collect();
        *self.lock() = Known { lanes, deferrals };
        Ok(())
    }

    /// How many groups have deferred commands.
    pub(super) fn count(&self) -> usize {
        self.lock().lanes.len()
    }

    /// Notes that a deferred command has been delivered again.
    pub(super) fn note_returned(&self, key: &Key) {
        self.lock().deferrals.note_returned(key);
    }

    /// Whether the command with this ticket, or a new one without, may be executed now. If it comes
    /// from a delay queue, it was deferred at `since`.
    pub(super) fn admit(
        &self,
        key: &LaneKey,
        ticket: Option<u64>,
        since: Option<Timestamp>,
    ) -> Admission {
        let mut known = self.lock();
        let Known { lanes, deferrals } = &mut *known;
        let Some(lane) = lanes.get(key).map(|lane| lane.resting) else {
            return Admission::Now;
        };
        let overdue = since.map(|since| since.0.duration_since(lane.due.0));
        match ticket {
            // The next one, or a second copy of one that is done.
            Some(ticket) if ticket <= lane.head => return Admission::Now,
            // One that is known by its id is counted and recorded before its lane goes on.
            _ if overdue.is_some_and(is_too_long)
                && deferrals.cannot_come(key, lane.head).is_none() =>
            {
                events::unknown_resting_command_lost();
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

    /// The ticket with which the command that is executed now is deferred.
    pub(super) fn ticket(&self, key: &LaneKey, ticket: Option<u64>, now: Timestamp) -> u64 {
        // Beginning with the time, so that no two deferrals of a lane have a ticket in common.
        let fresh = u64::try_from(now.0.as_microsecond()).unwrap_or_default();
        match self.lock().lanes.get(key) {
            Some(lane) => ticket
                .filter(|ticket| *ticket <= lane.resting.tail)
                .unwrap_or(lane.resting.head),
            None => fresh,
        }
    }

    /// Records that a command is deferred; its message is confirmed already.
    pub(super) async fn record_deferred(&self, command: &Deferred) -> Result<(), store::Error> {
        let lane = {
            let mut known = self.lock();
            known.deferrals.rests(command.clone());
            lane_of(command).map(|key| {
                let Deferred {
                    ticket, tier, due, ..
                } = *command;
                let lane = known.lanes.entry(key.clone()).or_insert(Lane {
                    resting: LaneState {
                        head: ticket,
                        tail: ticket,
                        tier,
                        due,
                    },
                    gone: BTreeSet::new(),
                });
                // It may have been given up for lost.
                lane.gone.remove(&ticket);
                let resting = &mut lane.resting;
                resting.tail = resting.tail.max(ticket);
                // What follows is deferred to the head's queue, behind it.
                if ticket == resting.head {
                    resting.tier = tier;
                    resting.due = due;
                }
                (key, Some(*resting))
            })
        };
        let command = Some((command.key.clone(), Some(command.clone())));
        self.lanes.write(LaneChange { lane, command }).await
    }

    /// Records that a command is done with, which has this ticket if it was deferred in a lane; asking again
    /// is safe.
    pub(super) async fn record_done(
        &self,
        command: &Key,
        place: Option<(&LaneKey, u64)>,
        has_rested: bool,
        tiers: &[Duration],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let (lane, is_known) = {
            let mut known = self.lock();
            let lane = place.map(|(key, ticket)| {
                // It was deferred. If no lane is known here, a worker that was killed recorded it after we had
                // read the lanes. The next reader of the lanes would wait for this command in vain.
                (key.clone(), known.leave(key, ticket, tiers, now))
            });
            (lane, known.deferrals.done(command))
        };
        // Written in any case: we may be asked again because the store failed the first time.
        let command = (is_known || has_rested).then(|| (command.clone(), None));
        if lane.is_none() && command.is_none() {
            return Ok(());
        }
        self.lanes.write(LaneChange { lane, command }).await
    }

    /// Records that a command is done with which others have done; its lane goes on without it.
    pub(super) async fn record_done_elsewhere(
        &self,
        command: &Deferred,
    ) -> Result<(), store::Error> {
        let lane = {
            let mut known = self.lock();
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

    /// The tiers of commands that are late, and, by tier, when the deferral began that ended last.
    pub(super) fn late(
        &self,
        now: Timestamp,
    ) -> (BTreeSet<Duration>, BTreeMap<Duration, Timestamp>) {
        let known = self.lock();
        (known.deferrals.late(now), known.deferrals.ended().clone())
    }

    /// Commands that do not come back, and are not recorded as such.
    pub(super) fn find_lost(&self, seen: &QueueDepths, lost_after: Duration) -> Vec<Deferred> {
        self.lock().deferrals.find_lost(seen, lost_after)
    }

    /// Records that a command does not come back, so that its lane goes on; false when it did come back.
    pub(super) async fn record_lost(
        &self,
        command: &Key,
        now: Timestamp,
    ) -> Result<bool, store::Error> {
        let (row, lane) = {
            let mut known = self.lock();
            let Some((row, is_stray)) = known.deferrals.lose(command, now) else {
                return Ok(false);
            };
            let lane = lane_of(&row).map(|key| {
                let left = known.skip(&key, row.ticket);
                (key, left)
            });
            // Written, it would be taken for this shard's; what is lost is skipped at the next reading too.
            let lane = lane.filter(|(_, left)| !is_stray || left.is_none());
            (row, lane)
        };
        let change = LaneChange {
            lane,
            command: Some((command.clone(), Some(row))),
        };
        self.lanes.write(change).await?;
        self.lock().deferrals.recorded(command);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Lets the lane go on without a lost command; how it stands then.
    fn skip(&mut self, key: &LaneKey, ticket: u64) -> Option<LaneState> {
        let lane = self.lanes.get_mut(key)?;
        lane.gone.insert(ticket);
        let left = lane.skip().then_some(lane.resting);
        if left.is_none() {
            self.lanes.remove(key);
        }
        left
    }

    /// Lets the lane go on after a command that is done with; how it stands then.
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
        if ticket == lane.resting.head {
            lane.resting.head += 1;
            // The next one may be back at once, so what comes meanwhile looks again soon. Or
            // it has just been deferred, for as long as any command can.
            lane.resting.tier = tiers.first().copied().unwrap_or_default();
            let longest = tiers.last().copied().unwrap_or_default();
            lane.resting.due = Timestamp(now.0.checked_add(longest).unwrap_or(now.0));
        }
        if lane.skip() {
            Some(lane.resting)
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
