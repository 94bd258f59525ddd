//! The order of a lane through deferrals, losses and handovers.

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

fn lanes_of(store: &Store) -> DeferredLanes {
    DeferredLanes::new(store.lanes(), true)
}

/// The command that has this ticket.
fn command(ticket: u64) -> Key {
    Key {
        session: "default".parse().unwrap(),
        command_id: format!("c{ticket}").parse().unwrap(),
    }
}

fn deferred(lane: &LaneKey, ticket: u64, tier: Duration, since: Timestamp) -> Deferred {
    Deferred {
        key: command(ticket),
        command_type: "SetGroupSubject".to_owned(),
        lane: Some(lane.lane.clone()),
        ticket,
        tier,
        due: Timestamp(since.0.checked_add(tier).unwrap()),
        lost_at: None,
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp(jiff::Timestamp::from_second(1_800_000_000 + second).unwrap())
}

#[tokio::test]
async fn commands_after_a_deferred_one_are_deferred_behind_it_and_keep_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = lanes_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    assert_eq!(lanes.admit(&lane, None, None), Admission::Now);
    let first = lanes.ticket(&lane, None, at(0));
    lanes
        .record_deferred(&deferred(&lane, first, SECOND, at(0)))
        .await
        .unwrap();

    let Admission::Behind {
        ticket: second,
        tier,
    } = lanes.admit(&lane, None, None)
    else {
        panic!("the second one overtook");
    };
    assert_eq!((second, tier), (first + 1, SECOND));
    lanes
        .record_deferred(&deferred(&lane, second, tier, at(0)))
        .await
        .unwrap();
    // Another session's commands about the same group do not wait.
    assert_eq!(lanes.admit(&key("second"), None, None), Admission::Now);

    // The second one returns first: it is deferred once more.
    assert!(matches!(
        lanes.admit(&lane, Some(second), Some(at(0))),
        Admission::Behind { .. }
    ));
    assert_eq!(lanes.admit(&lane, Some(first), Some(at(0))), Admission::Now);
    lanes
        .record_done(&command(first), Some((&lane, first)), true, &TIERS, at(1))
        .await
        .unwrap();
    // A new one still waits for the second one.
    assert!(matches!(
        lanes.admit(&lane, None, None),
        Admission::Behind { .. }
    ));
    assert_eq!(
        lanes.admit(&lane, Some(second), Some(at(0))),
        Admission::Now
    );
    lanes
        .record_done(&command(second), Some((&lane, second)), true, &TIERS, at(2))
        .await
        .unwrap();
    assert_eq!(lanes.admit(&lane, None, None), Admission::Now);
}

#[tokio::test]
async fn another_worker_takes_the_order_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let (one, other) = (lanes_of(&store), lanes_of(&store));
    let lane = key("default");
    let ticket = one.ticket(&lane, None, at(0));
    one.record_deferred(&deferred(&lane, ticket, SECOND, at(0)))
        .await
        .unwrap();
    other.reload(at(0)).await.unwrap();
    assert!(matches!(
        other.admit(&lane, None, None),
        Admission::Behind { .. }
    ));
    other
        .record_done(&command(ticket), Some((&lane, ticket)), true, &TIERS, at(1))
        .await
        .unwrap();
    one.reload(at(1)).await.unwrap();
    assert_eq!(one.admit(&lane, None, None), Admission::Now);
}

#[tokio::test]
async fn what_a_killed_worker_recorded_too_late_blocks_no_command() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = || lanes_of(&store);
    let (killed, successor, next) = (lanes(), lanes(), lanes());
    let lane = key("default");
    successor.reload(at(0)).await.unwrap();
    // The database was still executing the killed worker's last transaction.
    let ticket = killed.ticket(&lane, None, at(0));
    killed
        .record_deferred(&deferred(&lane, ticket, SECOND, at(0)))
        .await
        .unwrap();
    // The command comes twice: redelivered, and from the delay queue.
    for ticket in [None, Some(ticket)] {
        assert_eq!(successor.admit(&lane, ticket, None), Admission::Now);
        successor
            .record_done(
                &command(1),
                ticket.map(|ticket| (&lane, ticket)),
                ticket.is_some(),
                &TIERS,
                at(1),
            )
            .await
            .unwrap();
    }
    next.reload(at(1)).await.unwrap();
    assert_eq!(next.admit(&lane, None, None), Admission::Now);
}

#[tokio::test]
async fn what_the_store_did_not_take_is_written_when_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let (lanes, next) = (lanes_of(&store), lanes_of(&store));
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for ticket in [first, first + 1] {
        lanes
            .record_deferred(&deferred(&lane, ticket, SECOND, at(0)))
            .await
            .unwrap();
    }
    let before = store.lanes().load().await.unwrap();
    lanes
        .record_done(&command(first), Some((&lane, first)), true, &TIERS, at(1))
        .await
        .unwrap();
    // As if that write had failed.
    let before = before.into_iter().next().map(|(_, state)| state);
    store.lanes().put(lane.clone(), before).await.unwrap();
    lanes
        .record_done(&command(first), Some((&lane, first)), true, &TIERS, at(1))
        .await
        .unwrap();
    next.reload(at(1)).await.unwrap();
    assert_eq!(
        next.admit(&lane, Some(first + 1), Some(at(0))),
        Admission::Now
    );
}

/// The state in which the broker's queues are empty, so that a late command is nowhere.
fn nothing_anywhere(now: Timestamp) -> QueueDepths {
    QueueDepths {
        at: now,
        empty: TIERS.into(),
        ended: BTreeMap::new(),
        nothing_waits: true,
    }
}

/// The commands that are found to be lost, and recorded as such.
async fn lose(lanes: &DeferredLanes, now: Timestamp) -> Vec<Key> {
    let seen = nothing_anywhere(now);
    // The second check confirms the suspicion of the first.
    lanes.find_lost(&seen, Duration::ZERO);
    let mut lost = Vec::new();
    for row in lanes.find_lost(&seen, Duration::ZERO) {
        if lanes.record_lost(&row.key, now).await.unwrap() {
            lost.push(row.key);
        }
    }
    lost.sort();
    lost
}

#[tokio::test]
async fn what_came_back_after_it_would_have_proves_a_command_lost_and_its_lane_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = lanes_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    let lost = lanes.ticket(&lane, None, at(0));
    let defer = async |ticket, since| {
        let row = deferred(&lane, ticket, SECOND, at(since));
        lanes.record_deferred(&row).await.unwrap();
    };
    defer(lost, 0).await;
    let Admission::Behind { ticket, .. } = lanes.admit(&lane, None, None) else {
        panic!("the second one overtook");
    };
    // For example, the command queue is never empty, so a check proves nothing.
    let mut seen = nothing_anywhere(at(4_000));
    seen.nothing_waits = false;
    for since in [0, 600, 3_600] {
        defer(ticket, since).await;
        lanes.note_returned(&command(ticket));
        let turn = lanes.admit(&lane, Some(ticket), Some(at(since)));
        assert!(matches!(turn, Admission::Behind { .. }), "{since}");
        let rows = lanes.find_lost(&seen, Duration::ZERO);
        assert_eq!(rows.len(), usize::from(since == 3_600), "{since}");
    }
    assert!(lanes.record_lost(&command(lost), at(4_000)).await.unwrap());
    let turn = lanes.admit(&lane, Some(ticket), Some(at(3_600)));
    assert_eq!(turn, Admission::Now);
}

#[tokio::test]
async fn a_lane_that_was_there_before_goes_on_without_a_command_that_is_not_known_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = lanes_of(&store);
    let lane = key("default");
    let row = LaneState {
        head: 1,
        tail: 2,
        tier: SECOND,
        due: at(1),
    };
    store.lanes().put(lane.clone(), Some(row)).await.unwrap();
    lanes.reload(at(0)).await.unwrap();
    let turn = |since| lanes.admit(&lane, Some(2), Some(at(since)));
    assert!(matches!(turn(600), Admission::Behind { .. }));
    assert_eq!(turn(3_600), Admission::Now);
}

#[tokio::test]
async fn lost_commands_are_found_once_each_and_their_lane_continues_with_any_worker() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let (lanes, next) = (lanes_of(&store), lanes_of(&store));
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..4 {
        let row = deferred(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    // The second is here, and waits for the first.
    lanes.note_returned(&command(first + 1));
    let lost = [first, first + 2, first + 3].map(command);
    assert_eq!(lose(&lanes, at(60)).await, lost);
    assert!(lose(&lanes, at(120)).await.is_empty());
    assert_eq!(lanes.admit(&lane, Some(first + 1), None), Admission::Now);
    // A new one waits only for that one, with a successor as well.
    next.reload(at(60)).await.unwrap();
    assert!(matches!(
        next.admit(&lane, None, None),
        Admission::Behind { .. }
    ));
    assert!(lose(&next, at(0)).await.is_empty());
    let place = Some((&lane, first + 1));
    next.record_done(&command(first + 1), place, true, &TIERS, at(61))
        .await
        .unwrap();
    assert_eq!(next.admit(&lane, None, None), Admission::Now);
    assert_eq!(next.count(), 0);
    let left = store.lanes().all_deferred().await.unwrap();
    let left: Vec<_> = left.into_iter().map(|row| row.key).collect();
    assert_eq!(left, lost);
}

#[tokio::test]
async fn a_lost_command_that_comes_after_all_or_is_sent_again_is_lost_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = lanes_of(&store);
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..3 {
        let row = deferred(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    lanes.note_returned(&command(first));
    let lost = [first + 1, first + 2].map(command);
    assert_eq!(lose(&lanes, at(60)).await, lost);
    // One returns before its turn, and is deferred again.
    lanes.note_returned(&lost[0]);
    let Admission::Behind { ticket, tier } = lanes.admit(&lane, Some(first + 1), None) else {
        panic!("it overtook the first one");
    };
    let row = deferred(&lane, ticket, tier, at(60));
    lanes.record_deferred(&row).await.unwrap();
    // The other's producer sends it again, without a ticket.
    lanes
        .record_done(&lost[1], None, false, &TIERS, at(61))
        .await
        .unwrap();
    let place = Some((&lane, first));
    lanes
        .record_done(&command(first), place, true, &TIERS, at(61))
        .await
        .unwrap();
    let turn = lanes.admit(&lane, Some(first + 1), None);
    assert_eq!(turn, Admission::Now);
    lanes
        .record_done(&lost[0], Some((&lane, first + 1)), true, &TIERS, at(62))
        .await
        .unwrap();
    assert!(store.lanes().all_deferred().await.unwrap().is_empty());
    assert_eq!(lanes.admit(&lane, None, None), Admission::Now);
}

#[tokio::test]
async fn what_others_have_done_is_not_lost_and_its_lane_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = lanes_of(&store);
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..2 {
        let row = deferred(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    let row = deferred(&lane, first, SECOND, at(0));
    lanes.record_done_elsewhere(&row).await.unwrap();
    assert_eq!(lose(&lanes, at(60)).await, [command(first + 1)]);
    assert_eq!(lanes.admit(&lane, None, None), Admission::Now);
    let left = store.lanes().all_deferred().await.unwrap();
    assert_eq!(left.len(), 1);
    assert!(store.lanes().load().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_command_without_a_lane_is_missed_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = lanes_of(&store);
    let row = Deferred {
        lane: None,
        ..deferred(&key("default"), 0, SECOND, at(0))
    };
    lanes.record_deferred(&row).await.unwrap();
    assert_eq!(lose(&lanes, at(60)).await, [command(0)]);
    let known = store.lanes().all_deferred().await.unwrap();
    assert_eq!(known[0].lost_at, Some(at(60)));
}

#[tokio::test]
async fn of_commands_whose_shard_is_not_known_one_shard_alone_says_that_they_are_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lane = key("default");
    let row = deferred(&lane, 7, SECOND, at(0));
    lanes_of(&store).record_deferred(&row).await.unwrap();
    store.lanes().forget_queues().await.unwrap();
    let (one, other) = (lanes_of(&store), DeferredLanes::new(store.lanes(), false));
    one.reload(at(0)).await.unwrap();
    other.reload(at(0)).await.unwrap();
    assert!(lose(&other, at(60)).await.is_empty());
    assert_eq!(lose(&one, at(60)).await, [command(7)]);
    other.reload(at(60)).await.unwrap();
    assert_eq!(other.admit(&lane, None, None), Admission::Now);
}

#[tokio::test]
async fn a_standstill_of_any_length_does_not_change_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let (before, after) = (lanes_of(&store), lanes_of(&store));
    let lane = key("default");
    let first = before.ticket(&lane, None, at(0));
    for ticket in [first, first + 1] {
        before
            .record_deferred(&deferred(&lane, ticket, SECOND, at(0)))
            .await
            .unwrap();
    }
    // There was no worker for hours. Commands that were published before those two returned come first.
    let hours = at(10_000);
    after.reload(hours).await.unwrap();
    let third = first + 2;
    // Also if it was moved to another shard meanwhile, as if returning from a delay queue.
    for (ticket, since) in [(None, None), (Some(third), Some(at(9_999)))] {
        let Admission::Behind { ticket, tier } = after.admit(&lane, ticket, since) else {
            panic!("the third one overtook");
        };
        assert_eq!(ticket, third);
        after
            .record_deferred(&deferred(&lane, third, tier, hours))
            .await
            .unwrap();
    }
    for ticket in [first, first + 1] {
        let turn = after.admit(&lane, Some(ticket), Some(at(0)));
        assert_eq!(turn, Admission::Now);
        let done = after
            .record_done(&command(ticket), Some((&lane, ticket)), true, &TIERS, hours)
            .await;
        done.unwrap();
    }
    assert_eq!(after.admit(&lane, Some(third), Some(hours)), Admission::Now);
}

#[tokio::test]
async fn the_next_one_may_just_have_been_deferred_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = lanes_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    let [_, hour] = TIERS;
    let first = lanes.ticket(&lane, None, at(0));
    lanes
        .record_deferred(&deferred(&lane, first, hour, at(0)))
        .await
        .unwrap();
    lanes
        .record_deferred(&deferred(&lane, first + 1, hour, at(3_599)))
        .await
        .unwrap();
    lanes
        .record_done(
            &command(first),
            Some((&lane, first)),
            true,
            &TIERS,
            at(3_600),
        )
        .await
        .unwrap();
    // It returns at 7199. The third one retries every second until then.
    for since in [3_601, 5_400, 7_198] {
        let turn = lanes.admit(&lane, Some(first + 2), Some(at(since)));
        assert!(
            matches!(turn, Admission::Behind { tier: SECOND, .. }),
            "{since}"
        );
    }
}
