//! Taking shards over, and what a fence keeps out.

use super::{both, key, record};
use crate::contract::{GroupId, Timestamp};
use crate::store::lanes::{Deferred, LaneChange, LaneKey, LaneState};
use crate::store::ledger::Claim;
use crate::store::{Error, Store};

const PRINT: [u8; 32] = [7; 32];
const QUEUE: &str = "groupmq.commands.3";

fn lane() -> LaneKey {
    LaneKey {
        session: "default".parse().unwrap(),
        lane: group().to_string().into(),
    }
}

fn group() -> GroupId {
    "120363000000000001@g.us".parse().unwrap()
}

fn lane_state(ticket: u64) -> LaneState {
    LaneState {
        head: ticket,
        tail: ticket,
        tier: std::time::Duration::from_secs(1),
        due: Timestamp(jiff::Timestamp::UNIX_EPOCH),
    }
}

/// What the store says of the shard.
async fn ownership(store: &Store) -> Option<crate::store::shards::Ownership> {
    store.shards().all().await.unwrap().remove(QUEUE)
}

#[tokio::test]
async fn of_several_that_take_a_shard_over_at_once_one_succeeds() {
    for database in both() {
        let store = database.open().await;
        let (one, other) = (store.shards_named("one"), store.shards_named("other"));
        assert!(one.take_over(QUEUE, None).await.unwrap().is_some());
        assert!(other.take_over(QUEUE, None).await.unwrap().is_none());
        let seen = ownership(&store).await.unwrap();
        assert_eq!(seen.owner.as_deref(), Some("one"));
        assert!(other.take_over(QUEUE, Some(&seen)).await.unwrap().is_some());
        assert!(one.take_over(QUEUE, Some(&seen)).await.unwrap().is_none());
        assert_eq!(ownership(&store).await.unwrap().owner.unwrap(), "other");
    }
}

#[tokio::test]
async fn a_shard_that_is_handed_back_has_no_owner_unless_it_was_taken_meanwhile() {
    for database in both() {
        let store = database.open().await;
        let shards = store.shards();
        let old = shards.take_over(QUEUE, None).await.unwrap().unwrap();
        let seen = ownership(&store).await;
        let new = shards.take_over(QUEUE, seen.as_ref()).await.unwrap();
        shards.hand_back(&old).await.unwrap();
        assert!(ownership(&store).await.unwrap().owner.is_some());
        shards.hand_back(&new.unwrap()).await.unwrap();
        assert_eq!(ownership(&store).await.unwrap().owner, None);
    }
}

#[tokio::test]
async fn who_has_been_replaced_begins_nothing_and_still_records_what_it_did() {
    for database in both() {
        let store = database.open().await;
        let old = store.shards().take_over(QUEUE, None).await.unwrap();
        let ledger = store.ledger().under(old.clone());
        let claimed = ledger.claim(key("begun"), PRINT, "old").await;
        assert!(matches!(claimed, Ok(Claim::New)));
        let lanes = store.lanes().under(old.as_ref().unwrap());
        lanes.put(lane(), Some(lane_state(1))).await.unwrap();

        let seen = ownership(&store).await;
        let new = store.shards().take_over(QUEUE, seen.as_ref()).await;
        let new = new.unwrap();
        let claimed = ledger.claim(key("late"), PRINT, "old").await;
        assert!(matches!(claimed, Err(Error::Fenced)), "{claimed:?}");
        let written = lanes.put(lane(), None).await;
        assert!(matches!(written, Err(Error::Fenced)), "{written:?}");
        let world = store.sandbox_groups().under(old);
        let changed = world
            .change(key("late"), PRINT, vec![group()], |_| Ok(record("never")))
            .await;
        assert!(matches!(changed, Err(Error::Fenced)), "{changed:?}");

        // Its successor finds nothing of that, and everything from before.
        let left = store.lanes().under(new.as_ref().unwrap()).load().await;
        assert_eq!(left.unwrap(), [(lane(), lane_state(1))]);
        let ledger = store.ledger().under(new);
        let claimed = ledger.claim(key("late"), PRINT, "new").await;
        assert!(matches!(claimed, Ok(Claim::New)), "{claimed:?}");
        let told = store.ledger().complete(key("begun"), record("done")).await;
        assert!(told.unwrap().is_none());
        let claimed = ledger.claim(key("begun"), PRINT, "new").await;
        assert!(matches!(claimed, Ok(Claim::Done(_))), "{claimed:?}");
    }
}

#[tokio::test]
async fn those_who_are_fenced_do_not_keep_others_of_their_batch_from_writing() {
    for database in both() {
        let store = database.open().await;
        let old = store.shards().take_over(QUEUE, None).await.unwrap();
        let seen = ownership(&store).await;
        let new = store.shards().take_over(QUEUE, seen.as_ref()).await;
        let (old, new) = (
            store.ledger().under(old),
            store.ledger().under(new.unwrap()),
        );
        let claims = (0..50).map(|n| {
            let ledger = if n % 2 == 0 { &new } else { &old };
            ledger.claim(key(&format!("c{n}")), PRINT, "me")
        });
        let claims = futures_util::future::join_all(claims).await;
        for (n, claim) in claims.iter().enumerate() {
            assert_eq!(claim.is_ok(), n % 2 == 0, "{n}: {claim:?}");
        }
    }
}

#[tokio::test]
async fn a_shard_knows_its_own_lanes_and_those_that_nobody_knows() {
    for database in both() {
        let store = database.open().await;
        let fence = store.shards().take_over(QUEUE, None).await.unwrap();
        let other = store.shards().take_over("other", None).await.unwrap();
        let own = store.lanes().under(fence.as_ref().unwrap());
        let others = store.lanes().under(other.as_ref().unwrap());
        own.put(lane(), Some(lane_state(1))).await.unwrap();
        assert!(others.load().await.unwrap().is_empty());
        store
            .lanes()
            .put(lane(), Some(lane_state(2)))
            .await
            .unwrap();
        assert_eq!(others.load().await.unwrap(), [(lane(), lane_state(2))]);
        assert_eq!(own.load().await.unwrap(), [(lane(), lane_state(2))]);
    }
}

#[tokio::test]
async fn deferred_commands_are_kept_until_they_are_done_with_or_lost_for_long() {
    for database in both() {
        let store = database.open().await;
        let fence = store.shards().take_over(QUEUE, None).await.unwrap();
        let own = store.lanes().under(fence.as_ref().unwrap());
        let at = |second| Timestamp(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap());
        let deferred = |id: &str, lost_at: Option<i64>| Deferred {
            key: key(id),
            command_type: "SetGroupSubject".to_owned(),
            lane: lost_at.is_none().then(|| lane().lane),
            ticket: 7,
            tier: std::time::Duration::from_secs(5),
            due: at(5),
            lost_at: lost_at.map(at),
        };
        let rows = [
            deferred("a", None),
            deferred("b", Some(60)),
            deferred("c", Some(61)),
        ];
        let write = async |row: &Deferred, stays: bool| {
            let command = Some((row.key.clone(), stays.then(|| row.clone())));
            let lane = None;
            own.write(LaneChange { lane, command }).await.unwrap();
        };
        for row in &rows {
            write(row, true).await;
            write(row, true).await;
        }
        let own_ones = rows.clone().map(|row| (row, false));
        assert_eq!(own.load_deferred().await.unwrap(), own_ones);
        // Another shard's, until nobody knows whose they are.
        assert!(store.lanes().load_deferred().await.unwrap().is_empty());
        own.forget_queues().await.unwrap();
        let strays = rows.clone().map(|row| (row, true));
        assert_eq!(own.load_deferred().await.unwrap(), strays);
        own.forget_lost(at(61)).await.unwrap();
        write(&rows[0], false).await;
        assert_eq!(own.all_deferred().await.unwrap(), [rows[2].clone()]);
    }
}
