//! The steps for random groups and wishes, in a group that refuses some people.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use serde_json::value::to_raw_value;

use crate::contract::{
    EnsureGroup, ErrorBody, ErrorCode, GroupSettings, Outcome, OutcomeKind, Participant,
    ParticipantId, Role, Subject, Timestamp,
};
use crate::executor::ensure::difference::{Members, Step, View, Wish};
use crate::executor::ensure::progress::{Planned, Progress};
use crate::store::ledger::Record;

/// People are numbered; 0 is the session's account, 1 the creator.
fn person(number: u8) -> ParticipantId {
    format!("4917000000{number:02}@c.us").parse().unwrap()
}

#[derive(Debug, Clone)]
struct Case {
    members: BTreeMap<u8, Role>,
    wanted: BTreeMap<u8, Option<Role>>,
    exact: bool,
    renames: bool,
    /// Whom the group refuses to add.
    refused: BTreeSet<u8>,
    /// Whose changes of role are refused.
    fixed: BTreeSet<u8>,
    most: usize,
}

fn case() -> impl Strategy<Value = Case> {
    let role = prop_oneof![Just(Role::Participant), Just(Role::Admin)];
    let members = proptest::collection::btree_map(2_u8..30, role.clone(), 0..20);
    let wanted = proptest::collection::btree_map(0_u8..40, proptest::option::of(role), 0..25);
    let some = || proptest::collection::btree_set(2_u8..40, 0..8);
    let switches = (any::<bool>(), any::<bool>(), 1_usize..12);
    (members, wanted, some(), some(), switches).prop_map(
        |(mut members, wanted, refused, fixed, (exact, renames, most))| {
            members.insert(0, Role::Admin);
            members.insert(1, Role::Superadmin);
            Case {
                members,
                wanted,
                exact,
                renames,
                refused,
                fixed,
                most,
            }
        },
    )
}

impl Case {
    fn wish(&self) -> EnsureGroup {
        let people = self.wanted.iter().map(|(number, role)| {
            let id = person(*number);
            role.map_or_else(
                || json!({ "id": id }),
                |role| json!({ "id": id, "role": role }),
            )
        });
        let mut wish = json!({
            "groupId": "120363000000000001@g.us",
            "participants": people.collect::<Vec<_>>(),
            "exact": self.exact,
        });
        if self.renames {
            wish["name"] = json!("New name");
        }
        serde_json::from_value(wish).unwrap()
    }

    fn view(&self) -> View {
        let mut members = Members::default();
        for (number, role) in &self.members {
            members.insert(Participant {
                id: person(*number),
                role: *role,
                lid: None,
                pn: None,
            });
        }
        View {
            subject: Subject::from_engine("Old name"),
            description: "".parse().unwrap(),
            settings: GroupSettings {
                members_can_share_history: None,
                disappearing_seconds: None,
                ..GroupSettings::OF_NEW_GROUPS
            },
            owner: Some(person(1)),
            members,
        }
    }

    /// Carries a step out as WhatsApp would.
    fn carry_out(&mut self, step: &Step) -> Record {
        let number = |who: &ParticipantId| {
            let digits = who.as_str().strip_prefix("4917000000").unwrap();
            digits.strip_suffix("@c.us").unwrap().parse::<u8>().unwrap()
        };
        let outcome = |who: &ParticipantId, outcome, code| Outcome {
            id: who.clone(),
            outcome,
            code,
            invite: None,
        };
        let outcomes = step.people().iter().map(|who| {
            let n = number(who);
            let member = self.members.get(&n).copied();
            let (kind, code) = match (step, member) {
                (Step::Add(_), Some(_)) => panic!("{who} is a member and is added"),
                (Step::Add(_), None) if self.refused.contains(&n) => {
                    (OutcomeKind::PrivacyBlocked, 403)
                }
                (Step::Add(_), None) => {
                    self.members.insert(n, Role::Participant);
                    (OutcomeKind::Ok, 200)
                }
                (_, None) => panic!("{who} is no member: {step:?}"),
                (_, Some(Role::Superadmin)) => panic!("the creator is changed: {step:?}"),
                (_, Some(_)) if n == 0 => panic!("the account is changed: {step:?}"),
                (_, Some(_)) if self.fixed.contains(&n) => (OutcomeKind::NotAllowed, 403),
                (Step::Promote(_), Some(Role::Participant)) => {
                    self.members.insert(n, Role::Admin);
                    (OutcomeKind::Ok, 200)
                }
                (Step::Demote(_), Some(Role::Admin)) => {
                    self.members.insert(n, Role::Participant);
                    (OutcomeKind::Ok, 200)
                }
                (Step::Remove(_), Some(_)) => {
                    self.members.remove(&n);
                    (OutcomeKind::Ok, 200)
                }
                (step, member) => panic!("nothing to do: {step:?} {member:?}"),
            };
            outcome(who, kind, code)
        });
        let outcomes: Vec<_> = outcomes.collect();
        let outcome = match step {
            Step::Subject => Ok(to_raw_value(&true).unwrap()),
            Step::Add(_) | Step::Promote(_) | Step::Demote(_) | Step::Remove(_) => {
                Ok(to_raw_value(&outcomes).unwrap())
            }
            _ => Err(ErrorBody::new(ErrorCode::Internal, "no such step here")),
        };
        Record {
            outcome,
            events: Vec::new(),
            at: Timestamp(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    /// Carries all steps out; returns them.
    fn run(&mut self) -> Vec<Step> {
        let (wanted, me) = (self.wish(), [person(0)]);
        let wish = Wish {
            wanted: &wanted,
            me: &me,
            most: self.most,
        };
        let mut progress = Progress::new(&wanted);
        progress.view = Some(self.view());
        let mut steps = Vec::new();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            assert!(step.people().len() <= self.most, "{step:?}");
            steps.push(step.clone());
            assert!(steps.len() < 200, "no end: {steps:?}");
            let record = self.carry_out(&step);
            let planned = Planned { step, from: None };
            progress.learn(planned, record).unwrap();
        }
        steps
    }

    fn plan(&self) -> Vec<Step> {
        let (wanted, me) = (self.wish(), [person(0)]);
        let wish = Wish {
            wanted: &wanted,
            me: &me,
            most: self.most,
        };
        let mut progress = Progress::new(&wanted);
        progress.view = Some(self.view());
        let mut steps = Vec::new();
        while let Some(step) = wish.next(progress.view.as_ref(), &progress.tried) {
            progress.assume(&step);
            steps.push(step);
        }
        steps
    }

    fn assert_as_wanted(&self, before: &BTreeMap<u8, Role>) {
        for (number, role) in &self.wanted {
            let now = self.members.get(number);
            match now {
                None => assert!(self.refused.contains(number), "{number} is not there"),
                Some(now) if *number >= 2 => {
                    let settled = role.is_none_or(|role| role == *now);
                    assert!(
                        settled || self.fixed.contains(number),
                        "{number} is {now:?}"
                    );
                }
                Some(_) => {}
            }
        }
        for number in before.keys().filter(|it| !self.wanted.contains_key(it)) {
            let stays = !self.exact || *number < 2 || self.fixed.contains(number);
            assert_eq!(self.members.contains_key(number), stays, "{number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_end_is_the_wish_as_far_as_nobody_refuses(mut case in case()) {
        let before = case.members.clone();
        let steps = case.run();
        case.assert_as_wanted(&before);
        prop_assert_eq!(steps.contains(&Step::Subject), case.renames);
        // A repetition tries again what was refused, and changes nothing.
        let after = case.members.clone();
        case.renames = false;
        let again = case.run();
        prop_assert_eq!(&after, &case.members);
        let refusing: BTreeSet<_> = case.refused.union(&case.fixed).map(|it| person(*it)).collect();
        for person in again.iter().flat_map(Step::people) {
            prop_assert!(refusing.contains(person), "{:?}", again);
        }
    }

    #[test]
    fn the_plan_is_what_is_then_done(mut case in case()) {
        case.refused.clear();
        case.fixed.clear();
        let plan = case.plan();
        prop_assert_eq!(plan, case.run());
        prop_assert_eq!(case.plan().iter().filter(|it| **it != Step::Subject).count(), 0);
    }
}

/// A list that shows the account and the creator by phone, and somebody by a private id.
fn with_lid(pn: Option<ParticipantId>) -> View {
    let mut case = Case {
        members: [(0, Role::Admin), (1, Role::Superadmin)].into(),
        wanted: [(5, None)].into(),
        exact: true,
        renames: false,
        refused: BTreeSet::new(),
        fixed: BTreeSet::new(),
        most: 10,
    }
    .view();
    case.members.insert(Participant {
        id: "80001@lid".parse().unwrap(),
        role: Role::Participant,
        lid: Some("80001@lid".parse().unwrap()),
        pn,
    });
    case
}

/// The step after the person was added with this outcome; by `me`, the account.
fn after_adding(view: View, me: &str, outcome: OutcomeKind) -> Option<Step> {
    let wanted = json!({
        "groupId": "120363000000000001@g.us", "participants": [person(5)], "exact": true,
    });
    let wanted: EnsureGroup = serde_json::from_value(wanted).unwrap();
    let me = [me.parse().unwrap()];
    let wish = Wish {
        wanted: &wanted,
        me: &me,
        most: 10,
    };
    let mut progress = Progress::new(&wanted);
    let step = Step::Add(vec![person(5)]);
    let outcomes = [Outcome {
        id: person(5),
        outcome,
        code: 200,
        invite: None,
    }];
    let record = Record {
        outcome: Ok(to_raw_value(&outcomes).unwrap()),
        events: Vec::new(),
        at: Timestamp(jiff::Timestamp::UNIX_EPOCH),
    };
    let planned = Planned { step, from: None };
    progress.learn(planned, record).unwrap();
    // Read after the addition, as when a command is taken up again.
    progress.view = Some(view);
    wish.next(progress.view.as_ref(), &progress.tried)
}

#[test]
fn nobody_is_removed_who_may_be_somebody_that_is_wanted() {
    let me = person(0).to_string();
    for outcome in [
        OutcomeKind::Ok,
        OutcomeKind::AlreadyMember,
        OutcomeKind::Unknown,
    ] {
        assert_eq!(
            after_adding(with_lid(None), &me, outcome),
            None,
            "{outcome:?}"
        );
    }
    // Who was refused is not in the group, so it is another person.
    let removal = Some(Step::Remove(vec!["80001@lid".parse().unwrap()]));
    let refused = OutcomeKind::PrivacyBlocked;
    assert_eq!(after_adding(with_lid(None), &me, refused), removal);
    // It is known who it is.
    let other = with_lid(Some(person(7)));
    assert_eq!(after_adding(other, &me, refused), removal);
    let wanted = with_lid(Some(person(5)));
    assert_eq!(after_adding(wanted, &me, OutcomeKind::Ok), None);
    // The account may be the one with the private id.
    let elsewhere = "491700000099@c.us";
    assert_eq!(after_adding(with_lid(None), elsewhere, refused), None);
}
