//! The deferred commands, as far as this worker knows, and which of them are lost.
//!
//! That a command is late proves nothing: the shard may have had no worker, or a backlog may be in front of
//! it. It is lost when it is in none of the possible places. Its delay queue was seen empty after it was
//! due (or has returned commands that were deferred later: a delay queue is first in, first out), the
//! command queues were seen empty after that, and it is not in flight here; and `retry.lost_after` later
//! all of that was seen once more, since the broker dead-letters what a command queue did not accept again
//! after three minutes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::Timestamp;
use crate::store::lanes::{Deferred, LaneKey};
use crate::store::ledger::Key;

/// The state of the broker's queues.
#[derive(Debug)]
pub(super) struct QueueDepths {
    /// When they were checked.
    pub(super) at: Timestamp,
    /// Tiers whose delay queue is empty, or does not exist.
    pub(super) empty: BTreeSet<Duration>,
    /// By tier, the begin of the deferral that ended last: earlier ones have ended, too.
    pub(super) ended: BTreeMap<Duration, Timestamp>,
    /// Every command queue is empty, and their commands are in flight.
    pub(super) nothing_waits: bool,
}

/// Deferred commands, by their ids.
#[derive(Debug, Default)]
pub(super) struct Deferrals {
    rows: HashMap<Key, Entry>,
    /// The ids of those that have a lane, by lane and ticket.
    places: HashMap<(LaneKey, u64), Key>,
    /// By tier, the begin of the deferral that ended last.
    ended: BTreeMap<Duration, Timestamp>,
}

#[derive(Debug)]
struct Entry {
    row: Deferred,
    whereabouts: Whereabouts,
    /// Its shard is unknown.
    is_stray: bool,
}

/// Where a command is supposed to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// In its delay queue, or returning from there.
    Deferred,
    /// Delivered again, and being processed here.
    InHand,
    /// In no queue and not in flight, since that search.
    NotFoundSince(Instant),
    /// It is lost.
    Lost,
    /// It is lost, and recorded as such in the store.
    Recorded,
    /// Another shard searches for it.
    Foreign,
}

impl Deferrals {
    /// Begins with the rows of the store. Those whose shard is unknown (`true`) are searched for by one
    /// shard.
    pub(super) fn load(rows: Vec<(Deferred, bool)>, searches_for_strays: bool) -> Self {
        let mut all = Self::default();
        for (row, is_stray) in rows {
            let whereabouts = match row.lost_at {
                Some(_) => Whereabouts::Recorded,
                None if searches_for_strays || !is_stray => Whereabouts::Deferred,
                None => Whereabouts::Foreign,
            };
            all.put(Entry {
                row,
                whereabouts,
                is_stray,
            });
        }
        all
    }

    /// Adds or replaces a command.
    fn put(&mut self, entry: Entry) {
        let key = entry.row.key.clone();
        self.done(&key);
        if let Some(place) = place_of(&entry.row) {
            self.places.insert(place, key.clone());
        }
        self.rows.insert(key, entry);
    }

    /// Records that a command is deferred.
    pub(super) fn record(&mut self, row: Deferred) {
        self.put(Entry {
            row,
            whereabouts: Whereabouts::Deferred,
            is_stray: false,
        });
    }

    /// Records that a command has returned.
    pub(super) fn note_returned(&mut self, key: &Key) {
        if let Some(entry) = self.rows.get_mut(key) {
            entry.whereabouts = Whereabouts::InHand;
            let begun = begun(&entry.row);
            let last = self.ended.entry(entry.row.tier).or_insert(begun);
            *last = begun.max(*last);
        }
    }

    /// Forgets a completed command; returns whether it was known.
    pub(super) fn done(&mut self, key: &Key) -> bool {
        let Some(entry) = self.rows.remove(key) else {
            return false;
        };
        if let Some(place) = place_of(&entry.row)
            && self.places.get(&place) == Some(key)
        {
            self.places.remove(&place);
        }
        true
    }

    /// The tickets of lost commands, with their lanes.
    pub(super) fn lost(&self) -> impl Iterator<Item = (LaneKey, u64)> {
        let lost = self.rows.values().filter(|it| it.row.lost_at.is_some());
        lost.filter_map(|it| Some((lane_of(&it.row)?, it.row.ticket)))
    }

    /// The tiers of commands that are late and not known to be in any place.
    pub(super) fn late(&self, now: Timestamp) -> BTreeSet<Duration> {
        let late = self.rows.values().filter(|it| it.is_late(now));
        late.map(|it| it.row.tier).collect()
    }

    /// By tier, the begin of the deferral that ended last.
    pub(super) fn ended(&self) -> &BTreeMap<Duration, Timestamp> {
        &self.ended
    }

    /// Records that the command with this ticket cannot return; returns whether one is known that is not in
    /// flight.
    pub(super) fn cannot_come(&mut self, lane: &LaneKey, ticket: u64) -> Option<bool> {
        let key = self.places.get(&(lane.clone(), ticket))?;
        let entry = self.rows.get_mut(key)?;
        let is_away = entry.whereabouts != Whereabouts::InHand;
        if is_away {
            entry.lose();
        }
        Some(is_away)
    }

    /// Lost commands that are not recorded in the store yet.
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

    /// Marks a command as lost, if it still is; returns the row to write, and whether its shard is unknown.
    pub(super) fn lose(&mut self, key: &Key, now: Timestamp) -> Option<(Deferred, bool)> {
        let entry = self.rows.get_mut(key)?;
        if entry.whereabouts != Whereabouts::Lost {
            return None;
        }
        entry.row.lost_at.get_or_insert(now);
        Some((entry.row.clone(), entry.is_stray))
    }

    /// Notes that a lost command is recorded in the store.
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

/// The lane of a command, and its ticket there.
fn place_of(row: &Deferred) -> Option<(LaneKey, u64)> {
    Some((lane_of(row)?, row.ticket))
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

    /// Whether a command that was due in the first minute is lost, with these states of the queues, each
    /// lasting five minutes.
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

    fn deferred() -> Deferrals {
        let mut deferrals = Deferrals::default();
        deferrals.record(row("c", 0));
        deferrals
    }

    const NOWHERE: fn(&mut QueueDepths) = |_| ();
    const COMMANDS_WAIT: fn(&mut QueueDepths) = |seen| seen.nothing_waits = false;
    const SOME_REST: fn(&mut QueueDepths) = |seen| seen.empty.clear();

    #[tokio::test(start_paused = true)]
    async fn a_command_is_lost_once_it_could_be_nowhere_twice() {
        assert!(!is_lost(&mut deferred(), &[NOWHERE]).await);
        assert!(is_lost(&mut deferred(), &[NOWHERE, NOWHERE]).await);
        // A command that returned in between is not counted as lost.
        assert!(is_lost(&mut deferred(), &[NOWHERE, COMMANDS_WAIT, NOWHERE]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn while_commands_wait_or_the_delay_queue_holds_some_nothing_is_lost() {
        for waits in [COMMANDS_WAIT, SOME_REST] {
            assert!(!is_lost(&mut deferred(), &[waits; 4]).await);
            assert!(!is_lost(&mut deferred(), &[NOWHERE, waits]).await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_or_deferred_again_is_not_lost() {
        let mut deferrals = deferred();
        deferrals.note_returned(&row("c", 0).key);
        assert!(!is_lost(&mut deferrals, &[NOWHERE; 3]).await);
        deferrals.record(row("c", 20));
        assert!(!is_lost(&mut deferrals, &[NOWHERE; 2]).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_queue_that_is_never_empty_has_returned_what_was_deferred_earlier() {
        let later: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(MINUTE, at(6));
        };
        assert!(is_lost(&mut deferred(), &[later, later]).await);
        let hardly_later: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(MINUTE, at(5));
        };
        assert!(!is_lost(&mut deferred(), &[hardly_later; 3]).await);
        let of_another_tier: fn(&mut QueueDepths) = |seen| {
            seen.empty.clear();
            seen.ended.insert(2 * MINUTE, at(60));
        };
        assert!(!is_lost(&mut deferred(), &[of_another_tier; 3]).await);
    }
    #[test]
    fn a_command_is_found_at_its_last_place_until_it_is_done() {
        let lane = |group: &str| LaneKey {
            session: "default".parse().unwrap(),
            lane: group.to_owned().into(),
        };
        let at_place = |group: &str, ticket| Deferred {
            lane: Some(group.to_owned().into()),
            ticket,
            ..row("c", 0)
        };
        let mut deferrals = Deferrals::load(vec![(at_place("one", 1), false)], true);
        assert_eq!(deferrals.cannot_come(&lane("one"), 1), Some(true));
        deferrals.record(at_place("one", 2));
        assert_eq!(deferrals.cannot_come(&lane("one"), 1), None);
        assert_eq!(deferrals.cannot_come(&lane("two"), 2), None);
        deferrals.note_returned(&row("c", 0).key);
        assert_eq!(deferrals.cannot_come(&lane("one"), 2), Some(false));
        assert!(deferrals.done(&row("c", 0).key));
        assert_eq!(deferrals.cannot_come(&lane("one"), 2), None);
        assert!(!deferrals.done(&row("c", 0).key));
    }
}
