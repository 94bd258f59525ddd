//! The order of moved commands: each gets a ticket, as if it had been deferred, so that commands of its
//! group that reach the shards by another route wait for it.
//!
//! Tickets are written to the store after the moved messages are confirmed and before they are acknowledged
//! at the source. If that is interrupted, the same commands are moved once more, with the same tickets, or
//! later ones if the first were written; the ledger recognises the second copies. That is why the first
//! ticket of a lane is that of the whole change, and not the time: copies with tickets from before those
//! that were written would count as overdue, and overtake one another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::amqp::Incoming;
use crate::clock::Clock;
use crate::contract::Timestamp;
use crate::executor::{self, Decoder};
use crate::store;
use crate::store::lanes::{LaneKey, LaneState, Lanes};

/// A moved command is not in a delay queue; when a worker reaches it depends on the length of its shard,
/// and on when workers are started. Until then its lane waits for it.
const AWAITED: Duration = Duration::from_hours(24);

/// The initial state of a lane without deferred commands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// Its first ticket.
    pub(super) first: u64,
    /// The delay tier of commands that wait behind a moved command.
    pub(super) tier: Duration,
}

/// Issues tickets.
#[derive(Debug)]
pub(super) struct Tickets<'a> {
    decoder: &'a Decoder,
    clock: Arc<dyn Clock>,
    settings: Settings,
    lanes: Lanes,
    /// Issued and not written yet.
    deferred: BTreeMap<LaneKey, LaneState>,
    given: BTreeSet<LaneKey>,
}

impl<'a> Tickets<'a> {
    /// Continues from the lanes that have deferred commands.
    pub(super) async fn load(
        lanes: Lanes,
        decoder: &'a Decoder,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, store::Error> {
        let deferred = lanes.load().await?.into_iter().collect();
        Ok(Self {
            decoder,
            clock,
            settings,
            lanes,
            deferred,
            given: BTreeSet::new(),
        })
    }

    /// The next ticket of a command's lane; none for a command without a lane, or one that cannot be
    /// decoded and is answered at its destination. `session` is that of its routing key, if it has one.
    pub(super) fn next(&mut self, message: &Incoming, session: Option<&str>) -> Option<u64> {
        let read = self.decoder.decode(&executor::RawCommand {
            body: &message.body,
            message_id: message.message_id.as_deref(),
            message_type: message.message_type.as_deref(),
            session,
            content_encoding: message.content_encoding.as_deref(),
        });
        let accepted = read.ok()?;
        let lane = accepted.command.about().lane(&accepted.session)?;
        let key = LaneKey {
            session: accepted.session,
            lane,
        };
        let now = self.clock.now();
        let Settings { first, tier } = self.settings;
        let lane = self.deferred.entry(key.clone()).or_insert(LaneState {
            head: first,
            tail: first.saturating_sub(1),
            tier,
            due: Timestamp(now.checked_add(AWAITED).unwrap_or(now)),
        });
        lane.tail += 1;
        self.given.insert(key);
        Some(lane.tail)
    }

    /// Writes the issued tickets to the store.
    pub(super) async fn write(&mut self) -> Result<(), store::Error> {
        let (lanes, deferred) = (&self.lanes, &self.deferred);
        let rows = std::mem::take(&mut self.given).into_iter();
        // All at once, so that they share transactions.
        try_join_all(rows.map(|key| {
            let lane = deferred.get(&key).copied();
            lanes.put(key, lane)
        }))
        .await
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::clock::SystemClock;
    use crate::contract::LaneName;
    use crate::store::Store;

    const FIRST: u64 = 1_000;

    /// A change of the number of shards, as far as tickets are concerned.
    struct Change {
        store: Store,
        decoder: Decoder,
        _folder: TempDir,
    }

    impl Change {
        async fn begin() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self {
                store: Store::in_folder(folder.path()).await,
                decoder: Decoder::new(),
                _folder: folder,
            }
        }

        /// As at the beginning of each phase, and after an interruption.
        async fn tickets(&self) -> Tickets<'_> {
            let settings = Settings {
                first: FIRST,
                tier: Duration::from_secs(1),
            };
            let lanes = self.store.lanes();
            Tickets::load(lanes, &self.decoder, Arc::new(SystemClock), settings)
                .await
                .unwrap()
        }
    }

    fn rename(group: u8) -> Incoming {
        let body = json!({
            "id": format!("rename-{group}"),
            "type": "SetGroupSubject",
            "session": "default",
            "payload": {"groupId": format!("12036300000000000{group}@g.us"), "subject": "New"},
        });
        Incoming {
            body: body.to_string().into_bytes(),
            ..Incoming::default()
        }
    }

    fn give(tickets: &mut Tickets<'_>, groups: [u8; 3]) -> [Option<u64>; 3] {
        groups.map(|group| tickets.next(&rename(group), Some("default")))
    }

    #[tokio::test]
    async fn each_group_counts_for_itself_and_goes_on_from_what_was_written() {
        let change = Change::begin().await;
        let mut tickets = change.tickets().await;
        let given = give(&mut tickets, [1, 2, 1]);
        assert_eq!(given, [Some(FIRST), Some(FIRST), Some(FIRST + 1)]);
        tickets.write().await.unwrap();
        // A command that is moved once more comes after all that may be in flight.
        let given = give(&mut change.tickets().await, [1, 2, 1]);
        assert_eq!(given, [Some(FIRST + 2), Some(FIRST + 1), Some(FIRST + 3)]);
    }

    /// If they were later ones, the first copies would count as overdue and lose their order.
    #[tokio::test]
    async fn cut_off_before_they_are_written_the_same_are_given_again() {
        let change = Change::begin().await;
        let given = give(&mut change.tickets().await, [1, 2, 1]);
        // An alternative source of tickets: the time.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(give(&mut change.tickets().await, [1, 2, 1]), given);
    }

    #[tokio::test]
    async fn what_is_deferred_already_keeps_its_tickets_and_its_time() {
        let change = Change::begin().await;
        let key = LaneKey {
            session: "default".parse().unwrap(),
            lane: LaneName::from("120363000000000001@g.us".to_owned()),
        };
        let state = LaneState {
            head: 3,
            tail: 5,
            tier: Duration::from_mins(1),
            due: Timestamp("2026-11-27T12:00:00Z".parse().unwrap()),
        };
        let lanes = change.store.lanes();
        lanes.put(key.clone(), Some(state)).await.unwrap();
        let mut tickets = change.tickets().await;
        assert_eq!(tickets.next(&rename(1), Some("default")), Some(6));
        tickets.write().await.unwrap();
        let written = LaneState { tail: 6, ..state };
        assert_eq!(lanes.load().await.unwrap(), [(key, written)]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_or_has_no_lane_has_no_ticket() {
        let change = Change::begin().await;
        let mut tickets = change.tickets().await;
        let unread = Incoming {
            body: b"{".to_vec(),
            ..Incoming::default()
        };
        assert_eq!(tickets.next(&unread, Some("default")), None);
        let list = json!({"id": "list", "type": "ListGroups", "session": "default", "payload": {}});
        let list = Incoming {
            body: list.to_string().into_bytes(),
            ..Incoming::default()
        };
        assert_eq!(tickets.next(&list, Some("default")), None);
    }
}
