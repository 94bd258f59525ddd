//! The session's own account and its group: what is published before its join, the author and the
//! kind.

use super::*;

const TWO: &str = "15550000002@c.us";
const LINK: &str = "https://chat.whatsapp.com/FakeFakeFakeFakeFake12";

fn came(who: &str) -> Observation {
    Observation::MembersJoined(vec![person(who)], NotificationType::Add)
}

fn snapshot(at: i64, people: &[&str]) -> Report {
    report(
        Source::Comparison,
        at,
        vec![Observation::Snapshot(whole(people))],
    )
}

fn names(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |it: &Value| {
        let name = format!("{} {}", text(&it["event"]), text(&it["payload"]["type"]));
        name.trim_end().to_owned()
    };
    events.iter().map(name).collect()
}

/// A session whose groups have been compared, so that a group found later is new.
fn compared() -> World {
    let mut world = World::default();
    world.session.compared = true;
    world
}

#[test]
fn changes_in_a_group_are_published_after_its_join() {
    let mut world = compared();
    assert!(world.apply(&notification(1, came(TWO))).is_empty());
    // The snapshot contains it already, and it is published nevertheless.
    let events = world.apply(&snapshot(5_000, &[ME, TWO]));
    let wanted = [
        "group.v2.join",
        "group.join add",
        "group.join add",
        "group.v2.participants join",
    ];
    assert_eq!(names(&events), wanted);
    assert_eq!(events[2]["payload"]["recipientIds"][0], TWO);
    assert_eq!(
        events[2]["payload"]["id"], "evt_1/0",
        "it is WAHA's own notification"
    );
    let numbers: Vec<_> = events
        .iter()
        .map(|it| it["payload"]["sequence"].as_u64())
        .collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(4)]);
    // Only once: WAHA's other events of it, and further snapshots, change nothing.
    assert!(world.apply(&notification(2, came(TWO))).is_empty());
    assert!(world.apply(&snapshot(60_000, &[ME, TWO])).is_empty());
}

#[test]
fn a_join_that_is_overtaken_comes_first_all_the_same() {
    let mut world = compared();
    assert!(world.apply(&notification(2, came(TWO))).is_empty());
    let events = world.apply(&notification(1, Observation::OwnJoined(whole(&[ME]))));
    let wanted = [
        "group.v2.join",
        "group.join add",
        "group.join add",
        "group.v2.participants join",
    ];
    assert_eq!(names(&events), wanted);
}

#[test]
fn a_change_reported_twice_while_held_is_published_once() {
    let mut world = compared();
    for n in 1..4 {
        assert!(world.apply(&notification(n, came(TWO))).is_empty());
    }
    assert_eq!(world.apply(&snapshot(9_000, &[ME, TWO])).len(), 4);
}

/// WEBJS reports a new group's texts before the account's join is reported.
#[test]
fn texts_that_the_join_shows_as_reported_are_no_event_of_their_own() {
    let text = |subject: &str| {
        let mut group = GroupSnapshot::bare("12345@g.us".parse().unwrap());
        group.subject = Some(subject.parse().unwrap());
        group.description = Some(crate::contract::Description::default());
        Observation::Updated(Box::new(group))
    };
    let mut world = compared();
    assert!(world.apply(&notification(1, text("Climbing"))).is_empty());
    let events = world.apply(&snapshot(2_000, &[ME, TWO]));
    assert_eq!(names(&events), ["group.v2.join", "group.join add"]);
    // A change that the join does not show yet is one event, and only once.
    let mut world = compared();
    assert!(world.apply(&notification(1, text("Bouldering"))).is_empty());
    let events = world.apply(&snapshot(2_000, &[ME, TWO]));
    let wanted = ["group.v2.join", "group.join add", "group.v2.update"];
    assert_eq!(names(&events), wanted);
    assert_eq!(events[0]["payload"]["group"]["subject"], "Climbing");
    let changed = &events[2]["payload"]["group"];
    assert_eq!(changed["subject"], "Bouldering");
    assert!(changed["description"].is_null(), "{changed}");
    assert!(world.apply(&notification(2, text("Bouldering"))).is_empty());
}

#[test]
fn a_link_changed_before_the_join_is_published_once() {
    let mut world = compared();
    let changed = |n| notification(n, Observation::InviteChanged(LINK.to_owned()));
    assert!(world.apply(&changed(1)).is_empty());
    let events = world.apply(&snapshot(2_000, &[ME, TWO]));
    let wanted = ["group.v2.join", "group.join add", "group.v2.update"];
    assert_eq!(names(&events), wanted);
    assert!(world.apply(&changed(2)).is_empty());
}

#[test]
fn a_notification_that_no_snapshot_explains_is_published_without_a_join_in_the_end() {
    let mut world = compared();
    assert!(world.apply(&notification(1, came(TWO))).is_empty());
    let missing = |at| report(Source::Comparison, at, vec![Observation::Missing]);
    assert!(
        world.apply(&missing(5_000)).is_empty(),
        "it may have come too early"
    );
    let events = world.apply(&missing(40_000));
    assert_eq!(
        names(&events),
        ["group.join add", "group.v2.participants join"]
    );
}

#[test]
fn what_waits_is_bounded_and_none_of_it_is_lost() {
    let mut world = compared();
    for n in 0..150 {
        let who = format!("1555001{n:04}@c.us");
        world.apply(&report(
            Source::Notification(format!("evt_{n}")),
            1_000 + n,
            vec![came(&who)],
        ));
    }
    assert!(world.state.held.len() <= 100, "{}", world.state.held.len());
    world.apply(&snapshot(90_000, &[ME]));
    let told = world
        .events
        .iter()
        .filter(|it| it.event.as_str() == "group.join");
    // In addition to the account's own.
    assert!(told.count() >= 150);
}

#[test]
fn a_departure_reported_late_does_not_undo_a_newer_join() {
    let mut world = World::with(&[]);
    assert!(
        world
            .apply(&notification(9, Observation::OwnJoined(whole(&[ME]))))
            .is_empty()
    );
    let left = Observation::OwnLeft(NotificationType::Leave);
    assert!(world.apply(&notification(5, left)).is_empty());
    assert!(world.state.is_inside());
}

#[test]
fn an_account_that_has_left_is_not_brought_back_by_a_late_report() {
    let mut world = World::default();
    assert_eq!(
        world
            .apply(&notification(9, Observation::OwnJoined(whole(&[ME]))))
            .len(),
        2
    );
    // TWO had joined and left before this list was made.
    assert!(world.apply(&notification(5, came(TWO))).is_empty());
}

#[test]
fn the_account_is_recognised_by_its_private_id_alone() {
    let mut world = World::with(&[TWO]);
    let went = Observation::MembersLeft(vec![person(MY_LID)], NotificationType::Remove);
    let by = Report {
        author: Some(person(TWO)),
        ..notification(1, went)
    };
    let events = world.apply(&by);
    assert_eq!(names(&events), ["group.v2.leave", "group.left remove"]);
    assert_eq!(events[0]["payload"]["author"], TWO);
    assert_eq!(events[1]["payload"]["recipientIds"][0], ME);
    // `group.v2.leave` arrives before it or after it.
    let left = Observation::OwnLeft(NotificationType::Remove);
    assert!(world.apply(&notification(2, left)).is_empty());
}

#[test]
fn a_command_that_removes_its_own_account_is_named_by_any_first_report() {
    for answer_first in [true, false] {
        let mut world = World::with(&[TWO]);
        world.state.expect(PendingCommand {
            command: command("remove-1"),
            at: 500,
            reported: false,
            change: ExpectedChange::MembersLeave([id(ME)].into()),
        });
        let left = Observation::OwnLeft(NotificationType::Leave);
        let answer = report(Source::Command(command("remove-1")), 500, vec![left]);
        let went = Observation::MembersLeft(vec![person(MY_LID)], NotificationType::Leave);
        let event = notification(1, went);
        let order = if answer_first {
            [&answer, &event]
        } else {
            [&event, &answer]
        };
        let first = world.apply(order[0]);
        assert_eq!(names(&first), ["group.v2.leave", "group.left leave"]);
        assert_eq!(
            first[0]["payload"]["commandId"], "remove-1",
            "{answer_first}"
        );
        assert_eq!(
            first[1]["payload"]["commandId"], "remove-1",
            "{answer_first}"
        );
        assert!(world.apply(order[1]).is_empty());
    }
}

#[test]
fn the_author_is_named_by_phone_if_it_was_ever_reported() {
    let mut world = World::with(&[TWO]);
    let both = Person {
        lid: Some(id("77122@lid")),
        ..person(TWO)
    };
    let by = |n, author: Person| Report {
        author: Some(author),
        ..notification(n, came(&format!("1555000010{n}@c.us")))
    };
    assert_eq!(world.apply(&by(1, both))[0]["payload"]["author"], TWO);
    let events = world.apply(&by(2, person("77122@lid")));
    assert_eq!(events[0]["payload"]["author"], TWO);
}

#[test]
fn an_account_that_joined_by_itself_used_the_link_or_created_the_group() {
    let joined = |owner: &str, created: i64| {
        let mut group = whole(&[ME, TWO]);
        group.owner = Some(id(owner));
        group.created_at = Some(crate::contract::Timestamp(
            jiff::Timestamp::from_second(created).unwrap(),
        ));
        let by = Report {
            author: Some(person(MY_LID)),
            ..notification(1_000, Observation::OwnJoined(group))
        };
        names(&World::default().apply(&by))[1].clone()
    };
    assert_eq!(joined(TWO, 10), "group.join invite");
    assert_eq!(joined(ME, 999), "group.join create");
    assert_eq!(joined(ME, 10), "group.join invite");
}

fn revokes(world: &mut World) {
    world.state.expect(PendingCommand {
        command: command("revoke-1"),
        at: 500,
        reported: false,
        change: ExpectedChange::Invite,
    });
}

#[test]
fn a_link_that_our_own_command_changed_is_published_once_with_it() {
    for answer_first in [true, false] {
        let mut world = World::with(&[]);
        revokes(&mut world);
        let new = Observation::InviteChanged(LINK.to_owned());
        let answer = report(Source::Command(command("revoke-1")), 500, vec![new.clone()]);
        let event = notification(1, new);
        let order = if answer_first {
            [&answer, &event]
        } else {
            [&event, &answer]
        };
        let first = world.apply(order[0]);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0]["payload"]["group"]["invite"], LINK);
        assert_eq!(
            first[0]["payload"]["commandId"], "revoke-1",
            "{answer_first}"
        );
        assert!(world.apply(order[1]).is_empty());
    }
}

#[test]
fn a_link_that_another_admin_changed_is_published_and_one_that_is_only_shown_is_not() {
    let mut world = World::with(&[]);
    let shown = |n, link: &str| notification(n, Observation::InviteShown(link.to_owned()));
    assert!(
        world.apply(&shown(1, LINK)).is_empty(),
        "it may have been so before"
    );
    let other = "https://chat.whatsapp.com/FakeFakeFakeFakeFake34";
    let events = world.apply(&shown(2, other));
    assert_eq!(names(&events), ["group.v2.update"]);
    assert!(world.apply(&shown(3, other)).is_empty());
    let events = world.apply(&notification(
        4,
        Observation::InviteChanged(LINK.to_owned()),
    ));
    assert_eq!(events.len(), 1);
    assert!(events[0]["payload"]["commandId"].is_null());
}

#[test]
fn a_change_published_without_a_join_is_not_published_again() {
    let mut world = compared();
    let missing = |at| report(Source::Comparison, at, vec![Observation::Missing]);
    let left = || Observation::MembersLeft(vec![person(TWO)], NotificationType::Leave);
    world.apply(&notification(1, left()));
    let wanted = ["group.left leave", "group.v2.participants leave"];
    assert_eq!(names(&world.apply(&missing(40_000))), wanted);
    // They came back and left again; their return was not reported.
    assert!(world.apply(&notification(50, left())).is_empty());
    assert!(world.apply(&missing(90_000)).is_empty());
}

#[test]
fn a_change_published_before_an_own_departure_was_found_is_not_held_again() {
    let mut world = World::with(&[TWO]);
    let missing = |at| report(Source::Comparison, at, vec![Observation::Missing]);
    assert!(world.apply(&missing(10_000)).is_empty());
    assert_eq!(world.names(&notification(12, promoted())).len(), 1);
    assert_eq!(world.names(&missing(10_000 + BEHIND)).len(), 2);
    let late = Report {
        observed_at: 20_000,
        now: 20_000,
        ..notification(12, promoted())
    };
    assert!(world.apply(&late).is_empty());
    // By the time the account's return is found, they have left.
    assert!(world.apply(&snapshot(30_000, &[ME])).is_empty());
    let events = world.apply(&snapshot(30_000 + BEHIND, &[ME]));
    assert_eq!(names(&events), ["group.v2.join", "group.join add"]);
}
