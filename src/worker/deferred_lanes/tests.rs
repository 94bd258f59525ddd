//! The order of a lane through rests, losses and handovers.

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

fn waits_of(store: &Store) -> DeferredLanes {
    DeferredLanes::new(store.lanes(), true)
}

/// The command that has this ticket, wherever it is.
fn command(ticket: u64) -> Key {
    Key {
        session: "default".parse().unwrap(),
        command_id: format!("c{ticket}").parse().unwrap(),
    }
}

fn resting(lane: &LaneKey, ticket: u64, tier: Duration, since: Timestamp) -> Deferred {
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
async fn what_follows_a_resting_command_rests_behind_it_and_goes_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = waits_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    assert_eq!(lanes.admit(&lane, None, None), Admission::Now);
    let first = lanes.ticket(&lane, None, at(0));
    lanes
        .record_deferred(&resting(&lane, first, SECOND, at(0)))
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
        .record_deferred(&resting(&lane, second, tier, at(0)))
        .await
        .unwrap();
    // Another session's commands about the same group do not wait.
    assert_eq!(lanes.admit(&key("second"), None, None), Admission::Now);

    // The second one is back first: it rests once more.
    assert!(matches!(
        lanes.admit(&lane, Some(second), Some(at(0))),
        Admission::Behind { .. }
    ));
    assert_eq!(lanes.admit(&lane, Some(first), Some(at(0))), Admission::Now);
    lanes
        .record_done(&command(first), Some((&lane, first)), true, &TIERS, at(1))
        .await
        .unwrap();
    // What is new still waits for the second one.
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
    let (one, other) = (waits_of(&store), waits_of(&store));
    let lane = key("default");
    let ticket = one.ticket(&lane, None, at(0));
    one.record_deferred(&resting(&lane, ticket, SECOND, at(0)))
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
async fn what_a_killed_worker_recorded_too_late_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let lanes = || waits_of(&store);
    let (killed, successor, next) = (lanes(), lanes(), lanes());
    let lane = key("default");
    successor.reload(at(0)).await.unwrap();
    // The database was still at the killed one's last transaction.
    let ticket = killed.ticket(&lane, None, at(0));
    killed
        .record_deferred(&resting(&lane, ticket, SECOND, at(0)))
        .await
        .unwrap();
    // The command comes twice: as it was, and from its rest.
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
    let (lanes, next) = (waits_of(&store), waits_of(&store));
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for ticket in [first, first + 1] {
        lanes
            .record_deferred(&resting(&lane, ticket, SECOND, at(0)))
            .await
            .unwrap();
    }
    let before = store.lanes().load().await.unwrap();
    lanes
        .record_done(&command(first), Some((&lane, first)), true, &TIERS, at(1))
        .await
        .unwrap();
    // As if that had failed on its way.
    let before = before.into_iter().next().map(|(_, resting)| resting);
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

/// As the broker's queues are when nothing is in them, so that a late command is nowhere.
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
    // The second look proves what the first one suspects.
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
    let lanes = waits_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    let lost = lanes.ticket(&lane, None, at(0));
    let rests = async |ticket, since| {
        let row = resting(&lane, ticket, SECOND, at(since));
        lanes.record_deferred(&row).await.unwrap();
    };
    rests(lost, 0).await;
    let Admission::Behind { ticket, .. } = lanes.admit(&lane, None, None) else {
        panic!("the second one overtook");
    };
    // The command queue is never empty, say, so a look proves nothing.
    let mut seen = nothing_anywhere(at(4_000));
    seen.nothing_waits = false;
    for since in [0, 600, 3_600] {
        rests(ticket, since).await;
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
    let lanes = waits_of(&store);
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
async fn lost_commands_are_found_once_each_and_their_lane_goes_on_whoever_has_it_next() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::in_folder(folder.path()).await;
    let (lanes, next) = (waits_of(&store), waits_of(&store));
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..4 {
        let row = resting(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    // The second is here, and waits for the first.
    lanes.note_returned(&command(first + 1));
    let lost = [first, first + 2, first + 3].map(command);
    assert_eq!(lose(&lanes, at(60)).await, lost);
    assert!(lose(&lanes, at(120)).await.is_empty());
    assert_eq!(lanes.admit(&lane, Some(first + 1), None), Admission::Now);
    // What is new waits for it alone, with a successor as well.
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
    let lanes = waits_of(&store);
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..3 {
        let row = resting(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    lanes.note_returned(&command(first));
    let lost = [first + 1, first + 2].map(command);
    assert_eq!(lose(&lanes, at(60)).await, lost);
    // One comes back before its turn, and rests on.
    lanes.note_returned(&lost[0]);
    let Admission::Behind { ticket, tier } = lanes.admit(&lane, Some(first + 1), None) else {
        panic!("it overtook the first one");
    };
    let row = resting(&lane, ticket, tier, at(60));
    lanes.record_deferred(&row).await.unwrap();
    // The other's producer sends it again, and does not know of tickets.
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
    let lanes = waits_of(&store);
    let lane = key("default");
    let first = lanes.ticket(&lane, None, at(0));
    for n in 0..2 {
        let row = resting(&lane, first + n, SECOND, at(0));
        lanes.record_deferred(&row).await.unwrap();
    }
    let row = resting(&lane, first, SECOND, at(0));
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
    let lanes = waits_of(&store);
    let row = Deferred {
        lane: None,
        ..resting(&key("default"), 0, SECOND, at(0))
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
    let row = resting(&lane, 7, SECOND, at(0));
    waits_of(&store).record_deferred(&row).await.unwrap();
    store.lanes().forget_queues().await.unwrap();
    let (one, other) = (waits_of(&store), DeferredLanes::new(store.lanes(), false));
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
    let (before, after) = (waits_of(&store), waits_of(&store));
    let lane = key("default");
    let first = before.ticket(&lane, None, at(0));
    for ticket in [first, first + 1] {
        before
            .record_deferred(&resting(&lane, ticket, SECOND, at(0)))
            .await
            .unwrap();
    }
    // Nobody worked for hours. What was published before those two were back comes first.
    let hours = at(10_000);
    after.reload(hours).await.unwrap();
    let third = first + 2;
    // Also if it was moved to another shard meanwhile, as if from a rest.
    for (ticket, since) in [(None, None), (Some(third), Some(at(9_999)))] {
        let Admission::Behind { ticket, tier } = after.admit(&lane, ticket, since) else {
            panic!("the third one overtook");
        };
        assert_eq!(ticket, third);
        after
            .record_deferred(&resting(&lane, third, tier, hours))
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
async fn the_next_one_may_just_have_begun_a_long_rest() {
    let folder = tempfile::tempdir().unwrap();
    let lanes = waits_of(&Store::in_folder(folder.path()).await);
    let lane = key("default");
    let [_, hour] = TIERS;
    let first = lanes.ticket(&lane, None, at(0));
    lanes
        .record_deferred(&resting(&lane, first, hour, at(0)))
        .await
        .unwrap();
    lanes
        .record_deferred(&resting(&lane, first + 1, hour, at(3_599)))
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
    // It is back at 7199. The third one looks again every second until then.
    for since in [3_601, 5_400, 7_198] {
        let turn = lanes.admit(&lane, Some(first + 2), Some(at(since)));
        assert!(
            matches!(turn, Admission::Behind { tier: SECOND, .. }),
            "{since}"
        );
    }
}
