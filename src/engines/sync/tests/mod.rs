//! Applying reports: each change produces events once, whatever its source and however often it is
//! reported.

use crate::store::pending_events::Headers;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const ME: &str = "15550000001@c.us";
const MY_LID: &str = "7715550000001@lid";

/// The maximum age of snapshots, in milliseconds.
const BEHIND: i64 = 5_000;

fn lag() -> Lag {
    Lag::new(std::time::Duration::from_secs(5))
}

fn id(text: &str) -> ParticipantId {
    text.parse().unwrap()
}

fn person(text: &str) -> Person {
    Person {
        id: id(text),
        lid: None,
        role: Role::Participant,
    }
}

fn whole(people: &[&str]) -> Box<GroupSnapshot> {
    Box::new(GroupSnapshot {
        subject: Some("Climbing".parse().unwrap()),
        people: Some(people.iter().map(|it| person(it)).collect()),
        ..GroupSnapshot::bare("12345@g.us".parse().unwrap())
    })
}

fn report(source: Source, at: i64, observations: Vec<Observation>) -> Report {
    Report {
        source,
        at,
        observed_at: at,
        now: at,
        me: vec![id(ME), id(MY_LID)],
        author: None,
        observations,
        trace: Headers::new(),
    }
}

fn notification(n: i64, observation: Observation) -> Report {
    report(
        Source::Notification(format!("evt_{n}")),
        n * 1_000 + 1,
        vec![observation],
    )
}

/// A group and the events so far.
#[derive(Default)]
struct World {
    state: GroupState,
    session: SessionState,
    events: Vec<Event>,
}

impl World {
    /// A group with the account and these members.
    fn with(people: &[&str]) -> Self {
        let mut world = Self::default();
        let mut all = vec![ME];
        all.extend(people);
        world.apply(&notification(0, Observation::OwnJoined(whole(&all))));
        world.events.clear();
        world
    }

    fn apply(&mut self, report: &Report) -> Vec<Value> {
        self.apply_and_refresh(report).0
    }

    /// Also returns when the group has to be read next.
    fn apply_and_refresh(&mut self, report: &Report) -> (Vec<Value>, Option<i64>) {
        let (session, group) = ("default".parse().unwrap(), "12345@g.us".parse().unwrap());
        let key = GroupKey {
            engine: crate::contract::EngineName::Waha,
            session: &session,
            group: &group,
        };
        let effects = self.state.apply(key, &mut self.session, report, lag());
        let written = effects
            .events
            .iter()
            .map(|it| serde_json::to_value(it).unwrap());
        let written = written.collect();
        self.events.extend(effects.events);
        // The state is stored as JSON.
        let kept = serde_json::to_string(&self.state).unwrap();
        self.state = serde_json::from_str(&kept).unwrap();
        (written, effects.refresh_at)
    }

    fn names(&mut self, report: &Report) -> Vec<String> {
        let events = self.apply(report);
        events
            .iter()
            .map(|it| it["event"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn command(text: &str) -> CommandId {
    text.parse().unwrap()
}

fn promotes(world: &mut World, by: &str, at: i64) {
    world.state.expect(PendingCommand {
        command: command(by),
        at,
        reported: false,
        change: ExpectedChange::Promote([id("15550000002@c.us")].into()),
    });
}

fn promoted() -> Observation {
    Observation::Promoted(vec![person("15550000002@c.us")])
}

#[test]
fn a_commands_answer_and_wahas_event_are_one_event_whichever_is_first() {
    for answer_first in [true, false] {
        let mut world = World::with(&["15550000002@c.us"]);
        promotes(&mut world, "promote-1", 1_000);
        let answer = report(
            Source::Command(command("promote-1")),
            1_000,
            vec![promoted()],
        );
        let event = notification(1, promoted());
        let order = if answer_first {
            [&answer, &event]
        } else {
            [&event, &answer]
        };
        let first = world.apply(order[0]);
        assert_eq!(first.len(), 1);
        assert_eq!(first[0]["payload"]["commandId"], "promote-1");
        assert_eq!(first[0]["payload"]["author"], ME);
        assert!(world.apply(order[1]).is_empty());
    }
}

#[test]
fn an_echo_that_comes_late_does_not_undo_what_was_done_since() {
    let mut world = World::with(&["15550000002@c.us"]);
    promotes(&mut world, "promote-1", 1_000);
    world.apply(&report(
        Source::Command(command("promote-1")),
        1_000,
        vec![promoted()],
    ));
    let demoted = Observation::Demoted(vec![person("15550000002@c.us")]);
    assert_eq!(world.apply(&notification(3, demoted)).len(), 1);
    // WAHA's clock is ahead, so the time does not show that this is a repetition; the command does.
    assert!(world.apply(&notification(5, promoted())).is_empty());
    // The same change by another author is another change.
    let again = world.apply(&notification(6, promoted()));
    assert_eq!(again.len(), 1);
    assert!(again[0]["payload"]["commandId"].is_null());
}

#[test]
fn a_picture_is_told_once_for_each_command() {
    let mut world = World::with(&[ME]);
    let by = |id: &str, at, change| {
        let observation = Observation::PictureChanged(change);
        report(Source::Command(command(id)), at, vec![observation])
    };
    let mut told = |id: &str, at, change| {
        let events = world.apply(&by(id, at, change));
        let told = events.iter().map(|event| {
            let payload = &event["payload"];
            format!(
                "{} by {}",
                payload["group"]["picture"], payload["commandId"]
            )
        });
        told.collect::<Vec<_>>()
    };
    let (changed, removed) = (PictureChange::Changed, PictureChange::Removed);
    assert_eq!(told("a", 10_000, changed), [r#""changed" by "a""#]);
    // Executed again after a crash.
    assert_eq!(told("a", 20_000, changed), [""; 0]);
    assert_eq!(told("b", 30_000, changed), [r#""changed" by "b""#]);
    assert_eq!(told("c", 40_000, removed), [r#""removed" by "c""#]);
}

#[test]
fn the_same_command_again_waits_for_its_own_answer() {
    let mut world = World::with(&["15550000002@c.us"]);
    for n in [1, 2, 3] {
        let by = format!("promote-{n}");
        promotes(&mut world, &by, n * 1_000);
        let answer = report(Source::Command(command(&by)), n * 1_000, vec![promoted()]);
        let events = world.apply(&answer);
        assert_eq!(events.len(), 1, "nobody else told of it");
        assert_eq!(events[0]["payload"]["commandId"], by);
    }
}

#[test]
fn a_created_group_is_reported_once_with_its_command() {
    let mut world = World::default();
    world.session.pending_creations.push(PendingCreation {
        command: command("create-1"),
        subject: "Climbing".parse().unwrap(),
        at: 500,
    });
    let events = world.apply(&notification(
        1,
        Observation::OwnJoined(whole(&[ME, "15550000002@c.us"])),
    ));
    assert_eq!(events[0]["event"], "group.v2.join");
    assert_eq!(events[1]["payload"]["type"], "create");
    assert_eq!(
        events[1]["payload"]["recipientIds"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(events[1]["payload"]["commandId"], "create-1");
    let answer = Observation::OwnJoined(whole(&[ME, "15550000002@c.us"]));
    let answer = report(Source::Command(command("create-1")), 600, vec![answer]);
    assert!(world.apply(&answer).is_empty());
    let same = Observation::MembersJoined(vec![person("15550000002@c.us")], NotificationType::Add);
    assert!(world.apply(&notification(2, same)).is_empty());
}

#[test]
fn the_answer_to_a_creation_that_was_reported_without_members_has_the_commands_id() {
    let mut world = World::default();
    // With another subject, so that it is not taken for the command's group.
    let bare = GroupSnapshot {
        subject: Some("Tidied".parse().unwrap()),
        ..GroupSnapshot::bare("12345@g.us".parse().unwrap())
    };
    assert!(
        world
            .apply(&notification(1, Observation::OwnJoined(Box::new(bare))))
            .is_empty()
    );
    let answer = Observation::OwnJoined(whole(&[ME, "15550000002@c.us"]));
    let answer = report(Source::Command(command("create-1")), 600, vec![answer]);
    let events = world.apply(&answer);
    assert_eq!(events.len(), 2);
    for event in &events {
        assert_eq!(event["payload"]["commandId"], "create-1", "{event}");
        assert_eq!(event["payload"]["author"], ME, "{event}");
    }
    assert_eq!(events[1]["payload"]["type"], "create");
}

#[test]
fn what_is_older_than_what_is_known_changes_nothing() {
    let mut world = World::with(&[]);
    let went = Observation::MembersLeft(vec![person("15550000002@c.us")], NotificationType::Leave);
    let came = Observation::MembersJoined(vec![person("15550000002@c.us")], NotificationType::Add);
    assert_eq!(world.names(&notification(2, came.clone())).len(), 2);
    assert_eq!(world.names(&notification(4, went)).len(), 2);
    assert!(world.names(&notification(3, came.clone())).is_empty());
    assert_eq!(
        world.names(&notification(5, came)),
        ["group.join", "group.v2.participants"]
    );
}

#[test]
fn a_comparison_reports_only_what_was_not_reported_before() {
    let mut world = World::with(&["15550000002@c.us", "15550000003@c.us"]);
    let mut now = whole(&[ME, "15550000003@c.us", "15550000004@c.us"]);
    now.people.as_mut().unwrap()[1].role = Role::Admin;
    now.subject = Some("Bouldering".parse().unwrap());
    let look = |at| {
        report(
            Source::Comparison,
            at,
            vec![Observation::Snapshot(now.clone())],
        )
    };
    let first = world.names(&look(50_000));
    // A new member contradicts nothing; an absence, and another role, is checked again.
    let wanted = ["group.join", "group.v2.participants", "group.v2.update"];
    assert_eq!(first, wanted);
    assert!(world.apply(&look(50_000 + BEHIND - 1)).is_empty());
    let events = world.apply(&look(50_000 + BEHIND));
    assert!(events.iter().all(|it| it["payload"]["reconciled"] == true));
    let names: Vec<_> = events
        .iter()
        .map(|it| it["event"].as_str().unwrap())
        .collect();
    let wanted = [
        "group.left",
        "group.v2.participants",
        "group.v2.participants",
    ];
    assert_eq!(names, wanted);
    assert!(world.apply(&look(70_000)).is_empty());
}

#[test]
fn a_comparison_does_not_undo_reports_received_while_it_was_requested() {
    let mut world = World::with(&["15550000002@c.us"]);
    let came = Observation::MembersJoined(vec![person("15550000003@c.us")], NotificationType::Add);
    world.apply(&notification(70, came));
    // Requested at 60, so it cannot contain the join at 70.
    let old = Observation::Snapshot(whole(&[ME, "15550000002@c.us"]));
    assert!(
        world
            .apply(&report(Source::Comparison, 60_000, vec![old]))
            .is_empty()
    );
}

#[test]
fn a_group_in_the_first_comparison_is_no_event_and_a_later_one_is() {
    let look = |at| {
        report(
            Source::Comparison,
            at,
            vec![Observation::Snapshot(whole(&[ME]))],
        )
    };
    let mut world = World::default();
    assert!(world.apply(&look(1_000)).is_empty());
    let mut later = World::default();
    later.session.compared = true;
    assert_eq!(later.names(&look(1_000)), ["group.v2.join", "group.join"]);
}

#[test]
fn leaving_is_reported_once_by_any_event() {
    let mut world = World::with(&["15550000002@c.us"]);
    // A group of private ids: only the participants' event comes (WAHA#2206).
    let went = Observation::MembersLeft(vec![person(ME)], NotificationType::Leave);
    assert_eq!(
        world.names(&notification(1, went)),
        ["group.v2.leave", "group.left"]
    );
    assert!(
        world
            .names(&notification(
                2,
                Observation::OwnLeft(NotificationType::Leave)
            ))
            .is_empty()
    );
}

#[test]
fn a_person_known_by_a_private_id_is_the_same_by_phone() {
    let mut world = World::with(&[]);
    let private =
        Observation::MembersJoined(vec![person("7715550000002@lid")], NotificationType::Add);
    world.apply(&notification(1, private));
    let both = Person {
        lid: Some(id("7715550000002@lid")),
        ..person("15550000002@c.us")
    };
    assert!(
        world
            .apply(&notification(
                2,
                Observation::MembersJoined(vec![both], NotificationType::Add)
            ))
            .is_empty()
    );
    // An event has used the private id, which therefore stays until they leave.
    let events = world.apply(&notification(
        3,
        Observation::Promoted(vec![person("15550000002@c.us")]),
    ));
    let who = |events: &[Value], n: usize| events[n]["payload"]["participants"][0]["id"].clone();
    assert_eq!(who(&events, 0), "7715550000002@lid");
    let went = Observation::MembersLeft(vec![person("15550000002@c.us")], NotificationType::Leave);
    assert_eq!(
        who(&world.apply(&notification(4, went)), 1),
        "7715550000002@lid"
    );
    let back = Observation::MembersJoined(vec![person("7715550000002@lid")], NotificationType::Add);
    assert_eq!(
        who(&world.apply(&notification(5, back)), 1),
        "15550000002@c.us"
    );
}

proptest! {
    /// Whatever is reported, in whatever order and however often: the sequence has no gap, and the sum
    /// of the events is the group's members with their roles.
    #[test]
    fn the_events_add_up_to_the_group(
        told_of in proptest::collection::vec((0_u8..4, 0_u8..4, 0_i64..40), 0..40),
        repeat in any::<bool>(),
    ) {
        let people: Vec<_> = (0..4).map(|n| format!("1555000010{n}@c.us")).collect();
        let mut world = World::with(&[]);
        for (n, (what, who, at)) in told_of.iter().enumerate() {
            let who = vec![person(&people[usize::from(*who)])];
            let observation = match what {
                0 => Observation::MembersJoined(who, NotificationType::Add),
                1 => Observation::MembersLeft(who, NotificationType::Leave),
                2 => Observation::Promoted(who),
                _ => Observation::Demoted(who),
            };
            let report = Report {
                source: Source::Notification(format!("evt_{n}")),
                ..notification(*at, observation)
            };
            world.apply(&report);
            if repeat {
                prop_assert!(world.apply(&report).is_empty());
            }
        }
        let mut sum: BTreeMap<String, String> = BTreeMap::new();
        for (n, event) in world.events.iter().enumerate() {
            let event = serde_json::to_value(event).unwrap();
            let payload = &event["payload"];
            // Two events came before these.
            prop_assert_eq!(payload["sequence"].as_u64(), u64::try_from(n + 3).ok());
            for person in payload["participants"].as_array().into_iter().flatten() {
                let who = person["id"].as_str().unwrap().to_owned();
                match person["role"].as_str() {
                    Some(role) => sum.insert(who, role.to_owned()),
                    None => sum.remove(&who),
                };
            }
        }
        for who in &people {
            let role = world.state.people.get(&id(who)).and_then(|member| member.role);
            let role = role.map(|role| serde_json::to_value(role).unwrap());
            let role = role.as_ref().and_then(Value::as_str);
            prop_assert_eq!(sum.get(who).map(String::as_str), role);
        }
    }
}

mod certain;
mod histories;
mod joins;
mod requests;
mod stored;
