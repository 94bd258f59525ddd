//! The order of a group whose commands rest.
//!
//! When the head of a lane rests in a delay queue, what comes after it may not overtake: it rests
//! behind it, in the same queue, with the next ticket. A command is executed when its ticket is the
//! lowest that is out. Tickets travel in a header; how a lane stands is in the store, written after
//! the resting message is confirmed and before the delivery is acknowledged. So a crash in between
//! brings the delivery back to where it was, and at worst the command comes twice, in order.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::contract::Timestamp;
use crate::observability::events;
use crate::store;
use crate::store::lanes::{LaneKey, Lanes, Resting};

/// What began to rest so long after a command was due back comes back after it. Where it does not, that
/// command is not coming: somebody emptied the delay queue. The lane goes on without it.
///
/// The time that passes says nothing by itself: while nobody works on the shard, or the store is away,
/// what is back waits there behind what came before.
const LOST_AFTER: Duration = Duration::from_mins(15);

/// Whether a command may be executed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may.
    Now,
    /// It has to rest behind what rests already, with this ticket.
    Behind { ticket: u64, tier: Duration },
}

/// Lanes in which commands rest.
#[derive(Debug)]
pub(super) struct Waits {
    lanes: Lanes,
    // A std mutex: held for a map operation and never across an await.
    resting: Mutex<HashMap<LaneKey, Resting>>,
}

impl Waits {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            resting: Mutex::default(),
        }
    }

    /// Takes over from whoever had the queue before: another worker, or ourselves before the
    /// connection broke.
    pub(super) async fn reload(&self, now: Timestamp) -> Result<(), store::Error> {
        let mut loaded = self.lanes.load().await?;
        // Whatever was moved to other shards was published anew until now, in the old order.
        for (_, lane) in &mut loaded {
            lane.due = lane.due.max(now);
        }
        *self.lock() = loaded.into_iter().collect();
        Ok(())
    }

    /// In how many groups commands rest.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether the command with this ticket, or a new one without, may be executed now. If it comes
    /// from a rest, that one began at `since`.
    pub(super) fn turn(
        &self,
        key: &LaneKey,
        ticket: Option<u64>,
        since: Option<Timestamp>,
    ) -> Turn {
        let mut resting = self.lock();
        let Entry::Occupied(mut entry) = resting.entry(key.clone()) else {
            return Turn::Now;
        };
        let lane = entry.get_mut();
        let overdue = since.map(|since| since.0.duration_since(lane.due.0));
        match ticket {
            // The next one, or a second copy of one that is done.
            Some(ticket) if ticket <= lane.head => Turn::Now,
            _ if overdue.is_some_and(is_too_long) => {
                events::resting_command_lost();
                entry.remove();
                Turn::Now
            }
            Some(ticket) if ticket <= lane.tail => Turn::Behind {
                ticket,
                tier: lane.tier,
            },
            // New, or left over from an earlier time.
            _ => Turn::Behind {
                ticket: lane.tail + 1,
                tier: lane.tier,
            },
        }
    }

    /// The ticket with which the command that is executed now rests.
    pub(super) fn ticket(&self, key: &LaneKey, ticket: Option<u64>, now: Timestamp) -> u64 {
        // Beginning with the time, so that no two rests of a lane have a ticket in common.
        let fresh = u64::try_from(now.0.as_microsecond()).unwrap_or_default();
        match self.lock().get(key) {
            Some(lane) => ticket
                .filter(|ticket| *ticket <= lane.tail)
                .unwrap_or(lane.head),
            None => fresh,
        }
    }

    /// Records that the command with this ticket rests; its message is confirmed already.
    pub(super) async fn rests(
        &self,
        key: &LaneKey,
        ticket: u64,
        tier: Duration,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let due = Timestamp(now.0.checked_add(tier).unwrap_or(now.0));
        let lane = {
            let mut resting = self.lock();
            let lane = resting.entry(key.clone()).or_insert(Resting {
                head: ticket,
                tail: ticket,
                tier,
                due,
            });
            lane.tail = lane.tail.max(ticket);
            // What follows rests in the head's queue, behind it.
            if ticket == lane.head {
                lane.tier = tier;
                lane.due = due;
            }
            *lane
        };
        self.lanes.put(key.clone(), Some(lane)).await
    }

    /// Records that a command of the lane is done with; asking again is safe.
    pub(super) async fn done(
        &self,
        key: &LaneKey,
        ticket: Option<u64>,
        tiers: &[Duration],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let Some(ticket) = ticket else {
            return Ok(());
        };
        let left = match self.lock().entry(key.clone()) {
            Entry::Occupied(mut entry) => {
                let lane = entry.get_mut();
                if ticket == lane.head {
                    lane.head += 1;
                    // The next one may be back at once, so what comes meanwhile looks again soon. Or
                    // it has just begun to rest, for as long as any command can.
                    lane.tier = tiers.first().copied().unwrap_or_default();
                    let longest = tiers.last().copied().unwrap_or_default();
                    lane.due = Timestamp(now.0.checked_add(longest).unwrap_or(now.0));
                }
                // Written in any case: we may be asked again because the store failed the first time.
                if lane.head > lane.tail {
                    entry.remove();
                    None
                } else {
                    Some(*lane)
                }
            }
            // It did rest, yet nobody rests here: a worker that was killed recorded it when we had
            // read the lanes already. Whoever reads that later would wait for this command in vain.
            Entry::Vacant(_) => None,
        };
        self.lanes.put(key.clone(), left).await
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LaneKey, Resting>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_too_long(overdue: jiff::SignedDuration) -> bool {
    Duration::try_from(overdue).is_ok_and(|overdue| overdue > LOST_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    const SECOND: Duration = Duration::from_secs(1);
    const TIERS: [Duration; 2] = [SECOND, Duration::from_hours(1)];

    fn key(session: &str) -> LaneKey {
        LaneKey {
            session: session.parse().unwrap(),
            lane: "120363000000000001@g.us".to_owned().into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    #[tokio::test]
    async fn what_follows_a_resting_command_rests_behind_it_and_goes_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let waits = Waits::new(Store::in_folder(folder.path()).await.lanes());
        let lane = key("default");
        assert_eq!(waits.turn(&lane, None, None), Turn::Now);
        let first = waits.ticket(&lane, None, at(0));
        waits.rests(&lane, first, SECOND, at(0)).await.unwrap();

        let Turn::Behind {
            ticket: second,
            tier,
        } = waits.turn(&lane, None, None)
        else {
            panic!("the second one overtook");
        };
        assert_eq!((second, tier), (first + 1, SECOND));
        waits.rests(&lane, second, tier, at(0)).await.unwrap();
        // Another session's commands about the same group do not wait.
        assert_eq!(waits.turn(&key("second"), None, None), Turn::Now);

        // The second one is back first: it rests once more.
        assert!(matches!(
            waits.turn(&lane, Some(second), Some(at(0))),
            Turn::Behind { .. }
        ));
        assert_eq!(waits.turn(&lane, Some(first), Some(at(0))), Turn::Now);
        waits.done(&lane, Some(first), &TIERS, at(1)).await.unwrap();
        // What is new still waits for the second one.
        assert!(matches!(waits.turn(&lane, None, None), Turn::Behind { .. }));
        assert_eq!(waits.turn(&lane, Some(second), Some(at(0))), Turn::Now);
        waits
            .done(&lane, Some(second), &TIERS, at(2))
            .await
            .unwrap();
        assert_eq!(waits.turn(&lane, None, None), Turn::Now);
    }

    #[tokio::test]
    async fn another_worker_takes_the_order_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).await;
        let (one, other) = (Waits::new(store.lanes()), Waits::new(store.lanes()));
        let lane = key("default");
        let ticket = one.ticket(&lane, None, at(0));
        one.rests(&lane, ticket, SECOND, at(0)).await.unwrap();
        other.reload(at(0)).await.unwrap();
        assert!(matches!(other.turn(&lane, None, None), Turn::Behind { .. }));
        other
            .done(&lane, Some(ticket), &TIERS, at(1))
            .await
            .unwrap();
        one.reload(at(1)).await.unwrap();
        assert_eq!(one.turn(&lane, None, None), Turn::Now);
    }

    #[tokio::test]
    async fn what_a_killed_worker_recorded_too_late_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).await;
        let waits = || Waits::new(store.lanes());
        let (killed, successor, next) = (waits(), waits(), waits());
        let lane = key("default");
        successor.reload(at(0)).await.unwrap();
        // The database was still at the killed one's last transaction.
        let ticket = killed.ticket(&lane, None, at(0));
        killed.rests(&lane, ticket, SECOND, at(0)).await.unwrap();
        // The command comes twice: as it was, and from its rest.
        for ticket in [None, Some(ticket)] {
            assert_eq!(successor.turn(&lane, ticket, None), Turn::Now);
            successor.done(&lane, ticket, &TIERS, at(1)).await.unwrap();
        }
        next.reload(at(1)).await.unwrap();
        assert_eq!(next.turn(&lane, None, None), Turn::Now);
    }

    #[tokio::test]
    async fn what_the_store_did_not_take_is_written_when_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).await;
        let (waits, next) = (Waits::new(store.lanes()), Waits::new(store.lanes()));
        let lane = key("default");
        let first = waits.ticket(&lane, None, at(0));
        for ticket in [first, first + 1] {
            waits.rests(&lane, ticket, SECOND, at(0)).await.unwrap();
        }
        let before = store.lanes().load().await.unwrap();
        waits.done(&lane, Some(first), &TIERS, at(1)).await.unwrap();
        // As if that had failed on its way.
        let before = before.into_iter().next().map(|(_, resting)| resting);
        store.lanes().put(lane.clone(), before).await.unwrap();
        waits.done(&lane, Some(first), &TIERS, at(1)).await.unwrap();
        next.reload(at(1)).await.unwrap();
        assert_eq!(next.turn(&lane, Some(first + 1), Some(at(0))), Turn::Now);
    }

    #[tokio::test]
    async fn a_resting_command_that_never_comes_back_does_not_hold_its_lane_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let waits = Waits::new(Store::in_folder(folder.path()).await.lanes());
        let lane = key("default");
        let ticket = waits.ticket(&lane, None, at(0));
        waits.rests(&lane, ticket, SECOND, at(0)).await.unwrap();
        let Turn::Behind { ticket, tier } = waits.turn(&lane, None, None) else {
            panic!("the second one overtook");
        };
        for since in [0, 600, 3_600] {
            waits.rests(&lane, ticket, tier, at(since)).await.unwrap();
            let turn = waits.turn(&lane, Some(ticket), Some(at(since)));
            assert_eq!(turn == Turn::Now, since == 3_600, "{since}");
        }
    }

    #[tokio::test]
    async fn a_standstill_of_any_length_does_not_change_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::in_folder(folder.path()).await;
        let (before, after) = (Waits::new(store.lanes()), Waits::new(store.lanes()));
        let lane = key("default");
        let first = before.ticket(&lane, None, at(0));
        for ticket in [first, first + 1] {
            before.rests(&lane, ticket, SECOND, at(0)).await.unwrap();
        }
        // Nobody worked for hours. What was published before those two were back comes first.
        let hours = at(10_000);
        after.reload(hours).await.unwrap();
        let third = first + 2;
        // Also if it was moved to another shard meanwhile, as if from a rest.
        for (ticket, since) in [(None, None), (Some(third), Some(at(9_999)))] {
            let Turn::Behind { ticket, tier } = after.turn(&lane, ticket, since) else {
                panic!("the third one overtook");
            };
            assert_eq!(ticket, third);
            after.rests(&lane, third, tier, hours).await.unwrap();
        }
        for ticket in [first, first + 1] {
            let turn = after.turn(&lane, Some(ticket), Some(at(0)));
            assert_eq!(turn, Turn::Now);
            let done = after.done(&lane, Some(ticket), &TIERS, hours).await;
            done.unwrap();
        }
        assert_eq!(after.turn(&lane, Some(third), Some(hours)), Turn::Now);
    }

    #[tokio::test]
    async fn the_next_one_may_just_have_begun_a_long_rest() {
        let folder = tempfile::tempdir().unwrap();
        let waits = Waits::new(Store::in_folder(folder.path()).await.lanes());
        let lane = key("default");
        let [_, hour] = TIERS;
        let first = waits.ticket(&lane, None, at(0));
        waits.rests(&lane, first, hour, at(0)).await.unwrap();
        waits
            .rests(&lane, first + 1, hour, at(3_599))
            .await
            .unwrap();
        waits
            .done(&lane, Some(first), &TIERS, at(3_600))
            .await
            .unwrap();
        // It is back at 7199. The third one looks again every second until then.
        for since in [3_601, 5_400, 7_198] {
            let turn = waits.turn(&lane, Some(first + 2), Some(at(since)));
            assert!(matches!(turn, Turn::Behind { tier: SECOND, .. }), "{since}");
        }
    }
}
