//! The order of moved commands: each gets a ticket, as if it had rested, so that whatever of its group
//! comes into the shards by another way waits for it.
//!
//! Tickets are written to the store after the moved messages are confirmed and before they are
//! acknowledged where they came from. Cut off in between, the same commands are moved once more, with
//! the same tickets, or later ones where the first were written; the ledger knows the second copies.
//! That is why the first ticket of a lane is the whole change's, and not the time: copies with tickets
//! from before those that were written would count as overdue, and pass one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::amqp::Incoming;
use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::executor::{self, Decoder};
use crate::store;
use crate::store::lanes::{LaneKey, Lanes, Resting};

/// A moved command is not in a delay queue; how soon a worker comes to it depends on how much is in its
/// shard, and on when workers are started. Until then its lane does not go on without it.
const AWAITED: Duration = Duration::from_hours(24);

/// How a lane begins in which nothing rests yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Its first ticket.
    pub(super) first: u64,
    /// With which what waits behind a moved command rests.
    pub(super) tier: Duration,
}

/// Gives out tickets.
#[derive(Debug)]
pub(super) struct Tickets<'a> {
    decoder: &'a Decoder,
    clock: Arc<dyn Clock>,
    settings: Settings,
    lanes: Lanes,
    resting: BTreeMap<LaneKey, Resting>,
    /// Not written yet.
    given: BTreeSet<LaneKey>,
}

impl<'a> Tickets<'a> {
    /// Goes on from what rests by now.
    pub(super) async fn load(
        lanes: Lanes,
        decoder: &'a Decoder,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, store::Error> {
        let resting = lanes.load().await?.into_iter().collect();
        Ok(Self {
            decoder,
            clock,
            settings,
            lanes,
            resting,
            given: BTreeSet::new(),
        })
    }

    /// The next ticket of a command's lane; none for what has no lane, or cannot be read and is answered
    /// where it comes to. `session` is by which it was published, if by any.
    pub(super) fn next(&mut self, message: &Incoming, session: Option<&str>) -> Option<u64> {
        let read = self.decoder.decode(&executor::Incoming {
            body: &message.body,
            message_id: message.message_id.as_deref(),
            message_type: message.message_type.as_deref(),
            session,
        });
        let accepted = read.ok()?;
        let lane = accepted.command.about().lane(&accepted.session)?;
        let key = LaneKey {
            session: accepted.session,
            lane,
        };
        let now = self.clock.now();
        let Settings { first, tier } = self.settings;
        let lane = self.resting.entry(key.clone()).or_insert(Resting {
            head: first,
            tail: first.saturating_sub(1),
            tier,
            due: Timestamp(now.checked_add(AWAITED).unwrap_or(now)),
        });
        lane.tail += 1;
        self.given.insert(key);
        Some(lane.tail)
    }

    /// Writes down what was given out.
    pub(super) async fn write(&mut self) -> Result<(), store::Error> {
        let (lanes, resting) = (&self.lanes, &self.resting);
        let rows = std::mem::take(&mut self.given).into_iter();
        // All at once, so that they share transactions.
        try_join_all(rows.map(|key| {
            let lane = resting.get(&key).copied();
            lanes.put(key, lane)
        }))
        .await
        .map(drop)
    }
}
