//! Assigning groups to commands.

use serde_json::json;

use super::*;

const SETTLE: i64 = 90_000;

fn record(command: &str, people: &[&str], at: i64) -> CreationRecord {
    let people: Vec<_> = people.iter().map(|id| json!({ "id": id })).collect();
    let asked = json!({"name": "Same", "participants": people});
    CreationRecord::new(
        command.parse().unwrap(),
        &serde_json::from_value(asked).unwrap(),
        at,
    )
}

fn group(number: u32) -> GroupId {
    format!("12036300000000000{number}@g.us").parse().unwrap()
}

fn candidate(number: u32, created: i64, of: &[&str]) -> Candidate {
    Candidate {
        group: group(number),
        created: Some(created),
        of: of.iter().map(|id| id.parse().unwrap()).collect(),
    }
}

const ONE: &str = "491700000001@c.us";
const TWO: &str = "491700000002@c.us";

#[test]
fn commands_that_want_the_same_get_a_group_each_by_age() {
    let open = [record("a", &[ONE], 0), record("b", &[ONE], 1_000)];
    let candidates = [
        candidate(2, 2_000, &["a", "b"]),
        candidate(1, 1_000, &["a", "b"]),
    ];
    let choice = |me: &CreationRecord| choose(me, &open, &candidates, 2 * SETTLE, SETTLE);
    assert_eq!(choice(&open[0]), Choice::Take(group(1)));
    assert_eq!(choice(&open[1]), Choice::Take(group(2)));
}

#[test]
fn one_group_of_two_commands_goes_to_the_first_that_it_may_be_of() {
    let open = [record("a", &[ONE], 0), record("b", &[ONE], 1_000)];
    let choice = |candidate: Candidate| {
        open.each_ref().map(|me| {
            choose(
                me,
                &open,
                std::slice::from_ref(&candidate),
                2 * SETTLE,
                SETTLE,
            )
        })
    };
    assert_eq!(
        choice(candidate(1, 1_000, &["a", "b"])),
        [Choice::Take(group(1)), Choice::Nothing]
    );
    assert_eq!(
        choice(candidate(1, 90_000, &["b"])),
        [Choice::Nothing, Choice::Take(group(1))]
    );
}

#[test]
fn nothing_is_shared_out_while_a_command_may_still_be_answered() {
    let open = [record("a", &[ONE], 0), record("b", &[ONE], 80_000)];
    let candidates = [candidate(1, 80_000, &["a", "b"])];
    assert_eq!(
        choose(&open[0], &open, &candidates, 100_000, SETTLE),
        Choice::Wait
    );
}

#[test]
fn a_group_that_may_be_another_commands_is_assigned_to_none() {
    let open = [record("a", &[ONE, TWO], 0), record("b", &[ONE], 0)];
    // TWO may have been refused.
    let shared = [candidate(1, 1_000, &["a", "b"])];
    let now = 2 * SETTLE;
    assert_eq!(
        choose(&open[0], &open, &shared, now, SETTLE),
        Choice::Unclear
    );
    let own = [
        candidate(1, 1_000, &["a", "b"]),
        candidate(2, 1_000, &["a"]),
    ];
    assert_eq!(
        choose(&open[0], &open, &own, now, SETTLE),
        Choice::Take(group(2))
    );
}

#[test]
fn more_groups_than_commands_are_unclear() {
    let open = [record("a", &[ONE], 0)];
    let candidates = [candidate(1, 1, &["a"]), candidate(2, 2, &["a"])];
    let choice = choose(&open[0], &open, &candidates, 2 * SETTLE, SETTLE);
    assert_eq!(choice, Choice::Unclear);
}

#[test]
fn a_group_is_one_commands_alone() {
    let mut creation_records = CreationRecords::default();
    let (a, b) = (record("a", &[ONE], 0), record("b", &[ONE], 0));
    creation_records.begin(a.clone());
    creation_records.begin(b.clone());
    assert!(creation_records.claim(a.clone(), &group(1)));
    assert!(creation_records.claim(a, &group(1)), "it is a's already");
    assert!(!creation_records.claim(b.clone(), &group(1)));
    assert!(creation_records.claim(b, &group(2)));
}

#[test]
fn a_command_whose_requests_all_did_nothing_is_forgotten() {
    let mut creation_records = CreationRecords::default();
    creation_records.begin(record("a", &[ONE], 0));
    creation_records.begin(record("a", &[ONE], 5));
    let command = "a".parse().unwrap();
    creation_records.undo(&command);
    assert_eq!(
        (creation_records.0[0].first, creation_records.0[0].last),
        (0, 5)
    );
    creation_records.undo(&command);
    assert_eq!(creation_records, CreationRecords::default());
}

#[test]
fn records_are_deleted_once_they_cannot_be_confused() {
    let mut creation_records = CreationRecords::default();
    let a = record("a", &[ONE], 0);
    creation_records.begin(a.clone());
    creation_records.claim(a, &group(1));
    creation_records.forget(DONE - 1);
    assert_eq!(creation_records.0.len(), 1);
    // Another command with this name is still searching.
    creation_records.begin(record("b", &[ONE], DONE - 1));
    creation_records.forget(DONE);
    assert_eq!(creation_records.0.len(), 2);
    creation_records.forget(OPEN);
    assert_eq!(creation_records.0.len(), 1);
    creation_records.forget(2 * OPEN);
    assert_eq!(creation_records.0.len(), 0);
}
