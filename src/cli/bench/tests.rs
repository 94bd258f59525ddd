//! The parts of `groupmq bench` that need no broker.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::flight::{Flight, Sent};
use super::groups::Place;
use super::mix::{self, Mix};
use super::pace::{Pace, Schedule};
use crate::executor::decode::{Decoder, RawCommand};

fn sent(due: Instant) -> Sent {
    Sent {
        due,
        counted: Some(0),
        awaits_confirm: true,
        awaits_answer: true,
        awaits_event: false,
    }
}

#[test]
fn every_payload_of_a_mix_is_valid() {
    let place = Place {
        session: "default".to_owned(),
        group: "123123123123@g.us".to_owned(),
        of: 2,
    };
    let decoder = Decoder::new();
    let mut tried = 0;
    for command in mix::possible() {
        for number in 0..5 {
            let payload = mix::payload(command, &place, number).unwrap();
            let body = json!({
                "id": "a", "type": command.as_str(), "session": "default", "payload": payload,
            });
            let body = body.to_string();
            let raw = RawCommand {
                body: body.as_bytes(),
                ..RawCommand::default()
            };
            assert!(decoder.decode(&raw).is_ok(), "{body}");
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_mix_is_drawn_as_its_weights_say() {
    let mix: Mix = "SetGroupSubject=3, GetGroup".parse().unwrap();
    let mut drawn = BTreeMap::<_, u32>::new();
    for _ in 0..10_000 {
        let (kind, command) = mix.draw().unwrap();
        *drawn.entry((kind, command.as_str())).or_default() += 1;
    }
    let first = drawn[&(0, "SetGroupSubject")];
    assert_eq!(first + drawn[&(1, "GetGroup")], 10_000);
    // Chance exceeds these bounds less often than once in 10^20 times.
    assert!((7_000..8_000).contains(&first), "{first}");
}

#[test]
fn a_wrong_mix_is_refused_and_the_error_lists_what_is_possible() {
    for (wrong, why) in [
        ("CreateGroup=1", "\"CreateGroup\" cannot be in a mix"),
        ("setGroupSubject", "\"setGroupSubject\" cannot be in a mix"),
        ("", "\"\" cannot be in a mix"),
        ("GetGroup,", "\"\" cannot be in a mix"),
        ("GetGroup=1,GetGroup=2", "GetGroup is there twice"),
        ("GetGroup=0", "the weight of GetGroup must be"),
        ("GetGroup=-1", "the weight of GetGroup must be"),
        ("GetGroup=many", "the weight of GetGroup must be"),
    ] {
        let error = wrong.parse::<Mix>().unwrap_err();
        assert!(error.starts_with(why), "{wrong}: {error}");
    }
    let error = "x".parse::<Mix>().unwrap_err();
    for command in mix::possible() {
        assert!(error.contains(command.as_str()), "{error}");
    }
}

#[test]
fn a_mix_knows_whether_it_needs_groups_and_names_people() {
    let mix = |text: &str| text.parse::<Mix>().unwrap();
    assert!(!mix("CountGroups,ListLids=3").needs_groups());
    assert!(mix("CountGroups,GetGroup").needs_groups());
    assert_eq!(mix("SetGroupSubject,GetParticipants").names_people(), None);
    assert!(mix("GetGroup,AddParticipants").names_people().is_some());
}

#[test]
fn an_open_loop_sends_at_fixed_times_whatever_has_an_answer() {
    let begun = Instant::now();
    let second = Duration::from_secs(1);
    let mut schedule = Schedule::new(Pace::Open { rate: 10.0 }, begun, second, 2 * second);
    for number in 0..5 {
        let due = schedule.due(begun + 9 * second, 1_000).unwrap();
        assert_eq!(due, begun + Duration::from_millis(100 * number));
        assert!(!schedule.is_measured(due));
        schedule.sent();
    }
    assert!(schedule.is_measured(begun + second));
    assert_eq!(schedule.unsent(), 30 - 5);
    // A run that is interrupted leaves nothing unsent of the time after that.
    schedule.stop(begun + second + second / 2);
    assert_eq!(schedule.measured_time(), second / 2);
    assert_eq!(schedule.unsent(), 15 - 5);
    schedule.stop(begun);
    assert_eq!(schedule.measured_time(), Duration::ZERO);
}

#[test]
fn a_closed_loop_sends_while_fewer_than_its_number_have_no_answer() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let schedule = Schedule::new(Pace::Closed { in_flight: 3 }, now, second, second);
    assert_eq!(schedule.due(now, 2), Some(now));
    assert_eq!(schedule.due(now, 3), None);
    assert_eq!(schedule.unsent(), 0);
}

#[tokio::test]
async fn an_alarm_rings_at_the_time_that_was_set_last() {
    let mut alarm = Alarm::new().unwrap();
    let now = Instant::now();
    let (soon, never) = (Duration::from_millis(5), Duration::from_hours(1));
    for after in [never, soon, never, 2 * soon] {
        let time = now + after;
        let rang = alarm.until(time);
        if after == never {
            assert!(tokio::time::timeout(soon, rang).await.is_err());
        } else {
            rang.await;
            assert!(Instant::now() >= time);
        }
    }
}

#[test]
fn each_answer_counts_once() {
    let now = Instant::now();
    let mut flight = Flight::default();
    flight.add(sent(now));
    flight.add(sent(now));
    assert_eq!((flight.next(), flight.unanswered()), (2, 2));
    // A reply may overtake the confirm, and the second request the first.
    assert!(flight.answer(1).is_some() && flight.answer(1).is_none());
    assert!(flight.confirm(1).is_some() && flight.confirm(1).is_none());
    assert!(flight.event(1).is_none());
    assert!(flight.confirm(0).is_some() && flight.answer(0).is_some());
    // Both have left the window.
    assert!(flight.answer(0).is_none() && flight.answer(2).is_none());
    assert_eq!((flight.next(), flight.unanswered()), (2, 0));
}

#[test]
fn a_request_without_an_answer_in_time_is_lost_once() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let mut flight = Flight::default();
    for due in [now, now, later] {
        flight.add(sent(due));
    }
    flight.answer(1).unwrap();
    assert_eq!(flight.expire(later).len(), 1);
    assert_eq!(flight.expire(later).len(), 0);
    assert_eq!(flight.unanswered(), 1);
    // Its answer comes too late.
    assert!(flight.answer(0).is_none());
    assert_eq!(flight.clear().count(), 1);
    assert_eq!((flight.next(), flight.unanswered()), (3, 0));
    flight.add(sent(later));
    assert!(flight.answer(3).is_some());
}
