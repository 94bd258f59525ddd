//! From any true history of a group, whatever WAHA tells of it and shows: no event is published that
//! did not happen, none twice, and the sum of the events is the group once looks are whole again.
//!
//! What is taken for granted, as `doubts` does: a list is less than [`BEHIND`] old; it lacks somebody
//! without any sign for no longer than that; and it shows somebody who was told to be gone for less
//! than sixty times as long. Further: a list that is cut lists the account itself; after a list that
//! lacked somebody without a sign comes a true one; the list that a join is published with is whole.
//!
//! Nobody need tell that two ids are one person's, so somebody who left unheard may be known under two
//! ids until the pair is told; `consumer` says what is accepted of such. Own commands are in `certain`.
//!
//! With each seed so many histories are tried as `PROPTEST_CASES` says, 256 by default and 1,000 in
//! `make torture`; the first ones are the same each time. All of those pass. Of 10,000, those where the account
//! leaves pass with the seeds 1 to 3 and 8 to 10; the others were not tried to the end. No history is
//! known that fails, which does not mean that there is none.

use proptest::test_runner::{Config, RngSeed, TestRunner};
use serde_json::json;

use super::*;
use crate::engines::waha::wire;

mod consumer;
mod truth;
mod views;

use consumer::Consumer;
use truth::{Happening, State, Truth};
use views::{Looks, claim, who_is};

/// So many people beside the account, which is number 0.
const OTHERS: usize = 5;

/// What the histories are made from.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=10;

/// When the history begins.
const FIRST: i64 = 1_000_000_003;

/// Until when, after they left, people are shown.
const GHOST: i64 = 50 * BEHIND;

/// What happens, one after the other.
#[derive(Debug, Clone)]
enum Step {
    /// Something happens in truth, and WAHA tells of it, or not.
    Change(i64, u8, usize, Vec<Hook>),
    /// Somebody looks.
    Look(i64, Look),
}

/// A webhook: how late it comes, how people are called, and whether a list of people is cut.
type Hook = (i64, u8, bool);

/// A look: how old what it shows is, how long it takes, how it is cut, who is cut, how people are called.
type Look = (i64, i64, u8, u8, Vec<u8>);

fn gap() -> impl Strategy<Value = i64> {
    prop_oneof![1..200_i64, 1..BEHIND, 1..4 * BEHIND, 1..40 * BEHIND]
}

fn step(most: u8) -> impl Strategy<Value = Step> {
    let late = prop_oneof![4 => 0..300_i64, 2 => 0..BEHIND, 1 => 0..8 * BEHIND];
    let hook = (late, any::<u8>(), any::<bool>());
    let hooks = proptest::collection::vec(hook, 0..3);
    let forms = prop_oneof![
        // All are called alike, or each in another way.
        any::<u8>().prop_map(|form| vec![form; OTHERS + 1]),
        proptest::collection::vec(any::<u8>(), OTHERS + 1),
    ];
    let look = (0..BEHIND, 0..2_000_i64, any::<u8>(), any::<u8>(), forms);
    prop_oneof![
        (gap(), 0..most, 1..=OTHERS, hooks)
            .prop_map(|(gap, what, who, hooks)| Step::Change(gap, what, who, hooks)),
        (gap(), look).prop_map(|(gap, look)| Step::Look(gap, look)),
    ]
}

/// A history: how it begins, and what follows.
#[derive(Debug, Clone)]
struct History {
    /// The account is in the group already, and the session was never looked at.
    is_old: bool,
    /// Who knows the account's private id: all, looks alone (each asks WAHA), or nobody until the end.
    own_lid: u8,
    ghosts: bool,
    /// How the first list and the first whole looks in the end call people.
    begins: u8,
    ends: u8,
    steps: Vec<Step>,
}

fn history(most: u8) -> impl Strategy<Value = History> {
    let steps = proptest::collection::vec(step(most), 1..40);
    let forms = (any::<u8>(), any::<u8>());
    (any::<bool>(), 0..3_u8, any::<bool>(), forms, steps).prop_map(
        |(is_old, own_lid, ghosts, (begins, ends), steps)| History {
            is_old,
            own_lid,
            ghosts,
            begins,
            ends,
            steps,
        },
    )
}

impl History {
    /// All that WAHA tells and shows, in the order in which it comes; and the truth behind it.
    fn play(&self) -> (Truth, Vec<Report>, i64) {
        let mut truth = Truth::begin(self.is_old);
        let mut reports = Vec::new();
        let mut looks = Looks {
            may_lie: true,
            ghosts: self.ghosts,
        };
        let mut now = FIRST;
        let whole = (0, 0, 6, 0, vec![self.begins; OTHERS + 1]);
        let mut hooks = 0;
        let mut tell = |truth: &Truth, at: i64, who, what, hook: Hook| {
            hooks += 1;
            let claim = claim(truth.now(), who, what, hook);
            let heard = at + hook.0;
            let source = Source::Notification(format!("evt_{hooks}"));
            Report {
                heard,
                now: heard,
                ..report(source, at, vec![claim])
            }
        };
        if self.is_old {
            let claim = looks.look(&truth, now, &whole).unwrap();
            reports.push(report(Source::Comparison, now, vec![claim]));
        } else {
            truth.change(now, 9, 0);
            reports.push(tell(
                &truth,
                now,
                0,
                Happening::Came,
                (0, self.begins, false),
            ));
        }
        for step in &self.steps {
            match step {
                Step::Change(gap, what, who, hooks) => {
                    now += gap;
                    // A time in whole seconds is taken for one that was cut. What happened within the
                    // same second is then in no order that anybody could tell.
                    if now % 1_000 == 0 {
                        now += 1;
                    }
                    let was_inside = truth.now().inside;
                    let Some((who, what)) = truth.change(now, *what, *who) else {
                        continue;
                    };
                    if !was_inside && !truth.now().inside {
                        continue;
                    }
                    for hook in hooks {
                        reports.push(tell(&truth, now, who, what, *hook));
                    }
                }
                Step::Look(gap, look) => {
                    now += gap;
                    // Looks that take long may be overtaken, but not the one that ends a lie.
                    let took = if looks.may_lie { look.1 } else { 0 };
                    let Some(claim) = looks.look(&truth, now, look) else {
                        continue;
                    };
                    reports.push(Report {
                        now: now + took,
                        ..report(Source::Comparison, now, vec![claim])
                    });
                }
            }
        }
        reports.sort_by_key(|report| report.now);
        let end = now + GHOST + 20 * BEHIND;
        for report in &mut reports {
            let is_look = report.source == Source::Comparison;
            if self.own_lid == 2 || (self.own_lid == 1 && !is_look) {
                report.me.truncate(1);
            }
        }
        (truth, reports, end)
    }
}

/// Takes in a history; the events must have happened, and add up to the truth in the end.
fn check(history: &History) -> Result<(), TestCaseError> {
    let (truth, reports, end) = history.play();
    let mut world = World::default();
    world.session.looked = !history.is_old;
    let mut consumer = Consumer::default();
    if history.is_old {
        consumer.inside = true;
        let all = truth.at(i64::MIN + 1).people.clone();
        consumer.people = all
            .into_iter()
            .map(|(who, role)| (who, (role, None)))
            .collect();
    }
    for report in &reports {
        for event in world.hear(report) {
            consumer.take(&event, report.now, &truth)?;
        }
    }
    // Now looks are whole again.
    let mut looks = Looks {
        may_lie: false,
        ghosts: false,
    };
    let mut at = end;
    while at < end + 300 * BEHIND {
        looks.may_lie = false;
        let is_last = at > end + 150 * BEHIND;
        let form = if is_last { 6 } else { history.ends };
        let whole = (0, 0, 0, 0, vec![form; OTHERS + 1]);
        let claim = looks.look(&truth, at, &whole);
        let look = report(Source::Comparison, at, claim.into_iter().collect());
        let (events, next) = world.hear_and_look(&look);
        for event in &events {
            consumer.take(event, at, &truth)?;
        }
        if consumer.inside != truth.now().inside && truth.now().people.len() > 1 {
            prop_assert!(next.is_some(), "nobody will look again");
        }
        at += 13 * BEHIND;
    }
    let wanted = truth.now();
    prop_assert_eq!(consumer.inside, wanted.inside);
    if wanted.inside {
        let rank = |role: Role| role != Role::Participant;
        let sum: BTreeMap<_, _> = consumer
            .people
            .iter()
            .map(|(who, (role, _))| (*who, rank(*role)))
            .filter(|(who, _)| *who != 0)
            .collect();
        let people: BTreeMap<_, _> = wanted
            .people
            .iter()
            .map(|(who, role)| (*who, rank(*role)))
            .filter(|(who, _)| *who != 0)
            .collect();
        prop_assert_eq!(sum, people);
        prop_assert!(consumer.doubles.is_empty(), "somebody is known twice");
    }
    Ok(())
}

/// Tries histories of one kind with each seed.
fn try_histories(most: u8) {
    for seed in SEEDS {
        let mut runner = TestRunner::new(Config {
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..Config::default()
        });
        let tried = runner.run(&history(most), |history| check(&history));
        if let Err(failure) = tried {
            panic!("with seed {seed}: {failure}");
        }
    }
}

#[test]
fn no_event_is_published_that_did_not_happen_and_all_that_did_in_the_end() {
    try_histories(9);
}

#[test]
fn nor_where_the_account_itself_leaves_and_comes_back() {
    try_histories(12);
}
