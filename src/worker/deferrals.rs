//! The commands that are deferred, as far as this worker knows, and which of them are lost.
//!
//! That one is late proves nothing: the shard may have had no worker, or a backlog may be in front of it. It
//! is lost when it can be nowhere any more. Its delay queue was seen empty after it was due (or has passed on
//! what was deferred later: such a queue is first in, first out), the command queues were seen empty after
//! that, it is not in flight here; and `retry.lost_after` later all of that was seen once more, since the
//! broker offers what a command queue did not take again after three minutes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::Timestamp;
use crate::store::lanes::{Deferred, LaneKey};
use crate::store::ledger::Key;

/// How the broker's queues stand.
#[derive(Debug)]
pub(super) struct QueueDepths {
    /// When they were looked at.
    pub(super) at: Timestamp,
    /// Tiers whose delay queue is empty, or gone.
    pub(super) empty: BTreeSet<Duration>,
    /// By tier, when the deferral began that ended last: earlier ones have ended, too.
    pub(super) ended: BTreeMap<Duration, Timestamp>,
    /// Every command queue is empty, and what was in them is in flight.
    pub(super) nothing_waits: bool,
}

/// Deferred commands, by their ids.
#[derive(Debug, Default)]
pub(super) struct Deferrals {
    rows: HashMap<Key, Entry>,
    /// By tier, when the deferral began that ended last.
    ended: BTreeMap<Duration, Timestamp>,
}

#[derive(Debug)]
struct Entry {
    row: Deferred,
    whereabouts: Whereabouts,
    /// Its shard is unknown.
    is_stray: bool,
}

/// What is believed of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// In its delay queue, or on its way back from there.
    Deferred,
    /// Delivered again, and being worked on here.
    InHand,
    /// In no queue and not in flight, since that search.
    NotFoundSince(Instant),
    /// It does not come back.
    Lost,
    /// It does not come back, and the store says so.
    Recorded,
    /// Another shard looks for it.
    Foreign,
}

impl Deferrals {
    /// Begins with what the store has. Those whose shard is unknown (`true`) are searched for
    /// by one shard.
    pub(super) fn load(rows: Vec<(Deferred, bool)>, looks_for_strays: bool) -> Self {
        let entry = |(row, is_stray): (Deferred, bool)| {
            let whereabouts = match row.lost_at {
                Some(_) => Whereabouts::Recorded,
                None if looks_for_strays || !is_stray => Whereabouts::Deferred,
                None => Whereabouts::Foreign,
            };
            let entry = Entry {
                row,
                whereabouts,
                is_stray,
            };
            (entry.row.key.clone(), entry)
        };
        Self {
            rows: rows.into_iter().map(entry).collect(),
            ended: BTreeMap::new(),
        }
    }

    /// Notes that a command is deferred.
    pub(super) fn rests(&mut self, row: Deferred) {
        let entry = Entry {
            row,
            whereabouts: Whereabouts::Deferred,
            is_stray: false,
        };
        self.rows.insert(entry.row.key.clone(), entry);
    }

    /// Notes that a command has come back.
    pub(super) fn note_returned(&mut self, key: &Key) {
        if let Some(entry) = self.rows.get_mut(key) {
            entry.whereabouts = Whereabouts::InHand;
            let begun = begun(&entry.row);
            let last = self.ended.entry(entry.row.tier).or_insert(begun);
            *last = begun.max(*last);
        }
    }

    /// Forgets a command that is done with; whether it was known.
    pub(super) fn done(&mut self, key: &Key) -> bool {
        self.rows.remove(key).is_some()
    }

    /// The tickets of lost commands, with their lanes.
    pub(super) fn lost(&self) -> impl Iterator<Item = (LaneKey, u64)> {
        let lost = self.rows.values().filter(|it| it.row.lost_at.is_some());
        lost.filter_map(|it| Some((lane_of(&it.row)?, it.row.ticket)))
    }

    /// The tiers of commands that are late and not known to be anywhere.
    pub(super) fn late(&self, now: Timestamp) -> BTreeSet<Duration> {
        let late = self.rows.values().filter(|it| it.is_late(now));
        late.map(|it| it.row.tier).collect()
    }

    /// By tier, when the deferral began that ended last.
    pub(super) fn ended(&self) -> &BTreeMap<Duration, Timestamp> {
        &self.ended
    }

    /// Notes that the command with this ticket cannot come back; whether one is known that is not in flight.
    pub(super) fn cannot_come(&mut self, lane: &LaneKey, ticket: u64) -> Option<bool> {
        let mut rows = self.rows.values_mut();
        let is_it = |it: &&mut Entry| {
            it.row.ticket == ticket && lane_of(&it.row).is_some_and(|its| its == *lane)
        };
        let entry = rows.find(is_it)?;
        let is_away = entry.whereabouts != Whereabouts::InHand;
        if is_away {
            entry.lose();
        }
        Some(is_away)
    }

    /// Commands that do not come back, of which the store does not know it yet.
    pub(super) fn find_lost(&mut self, seen: &QueueDepths, lost_after: Duration) -> Vec<Deferred> {
        let mut lost = Vec::new();
        for entry in self.rows.values_mut() {
            if entry.is_late(seen.at) && seen.nothing_waits {
                let tier = entry.row.tier;
                let later = seen.ended.get(&tier).is_some_and(|last| {
                    let ahead = last.0.duration_since(begun(&entry.row).0);
                    Duration::try_from(ahead).is_ok_and(|ahead| ahead > lost_after)
                });
                let can_be_nowhere = seen.empty.contains(&tier) || later;
                match entry.whereabouts {
                    Whereabouts::Deferred if can_be_nowhere => {
                        entry.whereabouts = Whereabouts::NotFoundSince(Instant::now());
                    }

                    Whereabouts::NotFoundSince(first)
                        if can_be_nowhere && first.elapsed() >= lost_after =>
                    {
                        entry.lose();
                    }
                    _ => {}
                }
            }
            if entry.whereabouts == Whereabouts::Lost {
                lost.push(entry.row.clone());
            }
        }
        lost
    }

    /// Marks a command as lost, if it still is; what is to be written of it, and whether it is unknown to
    /// which shard it belongs.
    pub(super) fn lose(&mut self, key: &Key, now: Timestamp) -> Option<(Deferred, bool)> {
        let entry = self.rows.get_mut(key)?;
        if entry.whereabouts != Whereabouts::Lost {
            return None;
        }
        entry.row.lost_at.get_or_insert(now);
        Some((entry.row.clone(), entry.is_stray))
    }

    /// Notes that the store knows a command to be lost.
    pub(super) fn recorded(&mut self, key: &Key) {
        if let Some(entry) = self.rows.get_mut(key)
            && entry.whereabouts == Whereabouts::Lost
        {
            entry.whereabouts = Whereabouts::Recorded;
        }
    }
}

impl Entry {
    fn is_late(&self, now: Timestamp) -> bool {
        matches!(
            self.whereabouts,
            Whereabouts::Deferred | Whereabouts::NotFoundSince(_) | Whereabouts::Lost
        ) && self.row.due < now
    }

    fn lose(&mut self) {
        if self.whereabouts != Whereabouts::Recorded {
            self.whereabouts = Whereabouts::Lost;
        }
    }
}

/// When a command was deferred.
fn begun(row: &Deferred) -> Timestamp {
    Timestamp(row.due.0.checked_sub(row.tier).unwrap_or(row.due.0))
}

/// The lane of a command.
pub(super) fn lane_of(row: &Deferred) -> Option<LaneKey> {
    let lane = row.lane.clone()?;
    let session = row.key.session.clone();
    Some(LaneKey { session, lane })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const LOST_AFTER: Duration = Duration::from_mins(5);

    fn at(minutes: i64) -> Timestamp {
        Timestamp(jiff::Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap())
    }

    fn row(id: &str, begun: i64) -> Deferred {
        Deferred {
            key: Key {
                session: "default".parse().unwrap(),
                command_id: id.parse().unwrap(),
            },
            command_type: "ListGroups".to_owned(),
            lane: None,
            ticket: 0,
            tier: MINUTE,
            due: at(begun + 1),
            lost_at: None,
        }
    }

    /// Whether a command that was due in the first minute is lost, when the queues were seen to be so, each
    /// time for five minutes.
    async fn is_lost(deferrals: &mut Deferrals, looks: &[fn(&mut QueueDepths)]) -> bool {
        let mut lost = false;
        for (n, look) in (10..).step_by(5).zip(looks) {
            let mut seen = QueueDepths {
                at: at(n),
                empty: BTreeSet::from([MINUTE]),
                ended: BTreeMap::new(),
                nothing_waits: true,
            };
            look(&mut seen);
            lost = !deferrals.find_lost(&seen, LOST_AFTER).is_empty();
            tokio::time::advance(LOST_AFTER).await;
        }
        lost
    }

    fn resting() -> Deferrals {
        let mut deferrals = Deferrals::default();
        deferrals.rests(row("c", 0));
        deferrals
    }

    const NOWHERE: fn(&mut QueueDepths) = |_| ();
    const COMMANDS_WAIT: fn(&mut QueueDepths) = |seen| seen.nothing_waits = false;
    const SOME_REST: fn(&mut QueueDepths) = |seen| seen.empty.clear();

    #[tokio::test(start_paused = true)]
    async fn a_command_is_lost_once_it_could_be_nowhere_twice() {
        assert!(!is_lost(&mut resting(), &[NOWHERE]).await);
        assert!(is_lost(&mut resting(), &[NOWHERE, NOWHERE]).await);
        // What came in between waits for itself.
        assert!(is_lost(&mut resting(), &[NOWHERE, COMMANDS_WAIT, NOWHERE]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn while_commands_wait_or_the_delay_queue_holds_some_nothing_is_lost() {
        for waits in [COMMANDS_WAIT, SOME_REST] {
            assert!(!is_lost(&mut resting(), &[waits; 4]).await);
            assert!(!is_lost(&mut resting(), &[NOWHERE, waits]).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_hand_or_rests_anew_is_not_lost() {
        let mut deferrals = resting();
        deferrals.note_returned(&row("c", 0).key);
        assert!(!is_lost(&mut deferrals, &[NOWHERE; 3]).await);
        deferrals.rests(row("c", 20));
        assert!(!is_lost(&mut deferrals, &[NOWHERE; 2]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_queue_that_is_never_empty_has_passed_on_what_began_to_rest_earlier() {
        let later: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(MINUTE, at(6));
        };
        assert!(is_lost(&mut resting(), &[later, later]).await);
        let hardly_later: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(MINUTE, at(5));
        };
        assert!(!is_lost(&mut resting(), &[hardly_later; 3]).await);
        let of_another_tier: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(2 * MINUTE, at(60));
        };
        assert!(!is_lost(&mut resting(), &[of_another_tier; 3]).await);
    }
}
