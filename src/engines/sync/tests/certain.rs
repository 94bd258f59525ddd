//! What is certain about members and the account itself if ids do not match.

use super::*;

const TWO: &str = "15550000002@c.us";
const THREE: &str = "15550000003@c.us";
const LID_TWO: &str = "7715550000002@lid";
const LID_THREE: &str = "7715550000003@lid";

fn came(who: &str) -> Observation {
    Observation::MembersJoined(vec![person(who)], NotificationType::Add)
}

fn went(who: &str) -> Observation {
    Observation::MembersLeft(vec![person(who)], NotificationType::Leave)
}

fn snapshot(at: i64, people: &[&str]) -> Report {
    report(
        Source::Comparison,
        at,
        vec![Observation::Snapshot(whole(people))],
    )
}

/// While the account's private id is unknown.
fn without_own_lid(mut report: Report) -> Report {
    report.me.truncate(1);
    report
}

#[test]
fn a_list_from_before_the_join_adds_no_member() {
    let mut world = World::with(&[TWO]);
    let old = snapshot(BEHIND - 1, &[ME, TWO, THREE]);
    let (events, next) = world.apply_and_refresh(&old);
    assert!(events.is_empty(), "{events:?}");
    assert!(next.is_some());
    let later = snapshot(2 * BEHIND, &[ME, TWO, THREE]);
    assert_eq!(world.names(&later), ["group.join", "group.v2.participants"]);
}

#[test]
fn the_own_departure_by_an_unknown_private_id_is_not_another_members() {
    let mut world = World::default();
    let joined = notification(0, Observation::OwnJoined(whole(&[MY_LID, LID_TWO])));
    world.apply(&without_own_lid(joined));
    let (events, next) = world.apply_and_refresh(&without_own_lid(notification(9, went(MY_LID))));
    assert!(events.is_empty(), "{events:?}");
    assert!(next.is_some());
    // Each snapshot looks it up.
    for at in [20_000, 20_000 + BEHIND] {
        world.apply(&snapshot(at, &[LID_TWO]));
    }
    let names: Vec<_> = world.events.iter().map(|it| it.event.as_str()).collect();
    assert_eq!(names[2..], ["group.v2.leave", "group.left"]);
}

#[test]
fn another_members_departure_is_published_once_the_own_private_id_is_known() {
    let mut world = World::default();
    let joined = notification(0, Observation::OwnJoined(whole(&[MY_LID, LID_TWO])));
    world.apply(&without_own_lid(joined));
    assert!(
        world
            .apply(&without_own_lid(notification(9, went(LID_TWO))))
            .is_empty()
    );
    // Private ids alone do not show that the account is out.
    for at in [20_000, 20_000 + 2 * BEHIND] {
        let snapshot = without_own_lid(snapshot(at, &[MY_LID]));
        assert!(world.apply(&snapshot).is_empty());
    }
    let mut left = Vec::new();
    for at in [60_000, 60_000 + BEHIND] {
        left.extend(world.names(&snapshot(at, &[MY_LID])));
    }
    assert_eq!(left, ["group.left", "group.v2.participants"]);
}

#[test]
fn a_group_that_lists_everybody_but_the_account_was_left_whatever_its_size_says() {
    let mut world = World::with(&[TWO, THREE]);
    let snapshot = |people: &[&str]| GroupSnapshot {
        size: Some(3),
        ..*whole(people)
    };
    let mut looks = |at, people: &[&str]| {
        let observation = Observation::Snapshot(Box::new(snapshot(people)));
        world.names(&report(Source::Comparison, at, vec![observation]))
    };
    // Another member is missing too: the id may be either's.
    for at in [10_000, 20_000, 40_000] {
        assert!(looks(at, &[TWO]).is_empty());
    }
    assert!(looks(50_000, &[TWO, THREE]).is_empty());
    let wanted = ["group.v2.leave", "group.left"];
    assert_eq!(looks(50_000 + BEHIND, &[TWO, THREE]), wanted);
}

#[test]
fn an_addition_by_an_unmatched_private_id_is_published_in_the_end() {
    let mut world = World::with(&[TWO]);
    assert!(world.apply(&notification(60, came(LID_THREE))).is_empty());
    // As many private ids as members: it may be the known one.
    let phone_directory = [MY_LID, LID_THREE];
    assert!(
        world
            .apply(&snapshot(60_000 + 2 * BEHIND, &phone_directory))
            .is_empty()
    );
    let phone_directory = [MY_LID, LID_TWO, LID_THREE];
    let events = world.apply(&snapshot(60_000 + 4 * BEHIND, &phone_directory));
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[1]["payload"]["participants"][0]["id"], LID_THREE);
    assert!(
        world
            .apply(&snapshot(60_000 + 9 * BEHIND, &phone_directory))
            .is_empty()
    );
    // A member added by the private id leaves by it.
    let events = world.apply(&notification(200, went(LID_THREE)));
    assert_eq!(events[1]["payload"]["participants"][0]["id"], LID_THREE);
}

#[test]
fn an_addition_reported_by_phone_is_not_published_by_private_id_again() {
    let mut world = World::with(&[TWO]);
    assert_eq!(world.apply(&notification(60, came(THREE))).len(), 2);
    assert!(world.apply(&notification(60, came(LID_THREE))).is_empty());
    // An unreported join: there is one more private id than there are members.
    let phone_directory = [MY_LID, LID_TWO, LID_THREE, "7715550000004@lid"];
    for n in 2..40 {
        let events = world.apply(&snapshot(60_000 + n * BEHIND, &phone_directory));
        assert!(events.is_empty(), "{events:?}");
    }
}

/// The ids by which WAHA's event of our own command names the person, and when it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Never,
    Before,
    After,
}

#[test]
fn changes_by_our_own_commands_are_published_once_with_their_ids() {
    let forms = ["5511987654321@c.us", "551187654321@c.us"];
    let lid = "7715550000009@lid";
    for kind in 0..4 {
        for (asked, shown) in [(0, 0), (0, 1), (1, 0)] {
            for hook in [Hook::Never, Hook::Before, Hook::After] {
                for names in ["phone", "lid", "both"] {
                    for is_paired in [true, false] {
                        let case = format!("{kind} {asked} {shown} {hook:?} {names} {is_paired}");
                        let by = |form: usize| Person {
                            lid: is_paired.then(|| id(lid)),
                            ..person(forms[form])
                        };
                        let event = match names {
                            "phone" => person(forms[shown]),
                            "lid" => person(lid),
                            _ => Person {
                                lid: Some(id(lid)),
                                ..person(forms[shown])
                            },
                        };
                        own_command(kind, forms[asked], by(shown), event, hook, &case);
                    }
                }
            }
        }
    }
}

/// One command about a person: the list before, the ids in WAHA's event, and when the event arrives.
fn own_command(kind: u8, asked: &str, listed: Person, event: Person, hook: Hook, case: &str) {
    let mut before = listed.clone();
    before.role = if kind == 3 {
        Role::Admin
    } else {
        Role::Participant
    };
    let mut group = whole(&[ME, TWO]);
    if kind != 0 {
        group.people.as_mut().unwrap().push(before);
    }
    let mut world = World::default();
    world.apply(&notification(0, Observation::OwnJoined(group)));
    world.events.clear();
    let observation = |who: Person| match kind {
        0 => Observation::MembersJoined(vec![who], NotificationType::Add),
        1 => Observation::MembersLeft(vec![who], NotificationType::Remove),
        2 => Observation::Promoted(vec![who]),
        _ => Observation::Demoted(vec![who]),
    };
    let people = [id(asked)].into();
    let change = match kind {
        0 => ExpectedChange::MembersJoin(people),
        1 => ExpectedChange::MembersLeave(people),
        2 => ExpectedChange::Promote(people),
        _ => ExpectedChange::Demote(people),
    };
    world.state.expect(PendingCommand {
        command: command("ours"),
        at: 60_000,
        reported: false,
        change,
    });
    let answer = observation(person(asked));
    let answer = report(Source::Command(command("ours")), 60_500, vec![answer]);
    let event = notification(60, observation(event));
    if hook == Hook::Before {
        world.apply(&event);
    }
    world.apply(&answer);
    if hook == Hook::After {
        world.apply(&event);
    }
    let mut after = whole(&[ME, TWO]);
    if kind != 1 {
        let mut now = listed;
        now.role = if kind == 2 {
            Role::Admin
        } else {
            Role::Participant
        };
        after.people.as_mut().unwrap().push(now);
    }
    for n in 1..5 {
        let observation = Observation::Snapshot(after.clone());
        world.apply(&report(
            Source::Comparison,
            60_000 + n * 2 * BEHIND,
            vec![observation],
        ));
    }
    let changes = world
        .events
        .iter()
        .map(|it| serde_json::to_value(it).unwrap());
    let changes: Vec<_> = changes
        .filter(|it| it["event"] == "group.v2.participants")
        .collect();
    assert_eq!(changes.len(), 1, "{case}: {changes:?}");
    assert_eq!(changes[0]["payload"]["commandId"], "ours", "{case}");
    assert_eq!(changes[0]["payload"]["author"], ME, "{case}");
}

#[test]
fn a_join_and_departure_reported_by_phone_are_not_a_join_by_private_id() {
    let mut world = World::with(&[TWO]);
    assert!(world.apply(&notification(60, came(LID_THREE))).is_empty());
    assert_eq!(world.apply(&notification(60, came(THREE))).len(), 2);
    assert_eq!(world.apply(&notification(61, went(THREE))).len(), 2);
    // A list still shows them, and a person whose join was not reported.
    let phone_directory = [MY_LID, LID_TWO, LID_THREE, "7715550000004@lid"];
    let events = world.apply(&snapshot(60_000 + 4 * BEHIND, &phone_directory));
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn who_was_known_under_two_ids_has_left_under_the_phone() {
    let mut world = World::with(&[TWO]);
    // They left unreported, came back by a private id, and the pair is never reported.
    assert!(world.apply(&notification(60, came(LID_TWO))).is_empty());
    let phone_directory = [MY_LID, LID_TWO, LID_THREE];
    let events = world.apply(&snapshot(60_000 + 2 * BEHIND, &phone_directory));
    assert_eq!(events[1]["payload"]["participants"][0]["id"], LID_TWO);
    assert_eq!(
        world
            .names(&notification(80, Observation::Promoted(vec![person(TWO)])))
            .len(),
        1
    );
    let mut snapshot = whole(&[ME, TWO, LID_THREE]);
    let people = snapshot.people.as_mut().unwrap();
    people[1].lid = Some(id(LID_TWO));
    let observation = Observation::Snapshot(snapshot);
    let events = world.apply(&report(Source::Comparison, 100_000, vec![observation]));
    let mut left = events.iter().filter(|it| it["payload"]["type"] == "leave");
    assert_eq!(left.next().unwrap()["payload"]["recipientIds"][0], TWO);
    assert_eq!(world.state.people.len(), 3);
}
