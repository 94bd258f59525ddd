//! The whole command over the sandbox, with an engine that fails and workers that are killed.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::place::{Place, ensure_group, result};
use crate::config;
use crate::contract::{
    CommandType, EnsuredGroup, ErrorCode, EventPayload, OutcomeKind, ParticipantId, Role, Timestamp,
};
use crate::executor::tests::scripted::accepted;
use crate::executor::{Accepted, CommandOutcome, Verdict};

const ME: &str = "15550000001@c.us";

/// Additions of ten people, then one every 20 ms.
fn slow_additions(config: &mut config::Config) {
    config.safety.limits = config::Limits::On;
    config.safety.add_participants.burst = 10.try_into().unwrap();
    config.safety.add_participants.refill = Duration::from_millis(20);
}

/// A command with more people than may be added at once, of whom some are added.
async fn begun() -> (Place, Accepted) {
    let place = Place::new(1, slow_additions).await;
    let people: Vec<_> = (0..30).map(|n| format!("4917000010{n:02}@c.us")).collect();
    let command = ensure_group("make", &json!({"name": "Group", "participants": people}));
    let first = place.attempt(&command).await;
    assert!(matches!(first, Verdict::Deferred(_)), "{first:?}");
    (place, command)
}

fn past() -> Timestamp {
    Timestamp(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1))
}

/// Who joined, by the events; each event once.
fn joined(outcomes: &[&CommandOutcome]) -> Vec<ParticipantId> {
    let mut known = BTreeSet::<Uuid>::new();
    let events = outcomes.iter().flat_map(|it| &it.events);
    let mut joined = Vec::new();
    for event in events.filter(|it| known.insert(it.id)) {
        if event.event.as_str() == "group.join"
            && let EventPayload::Notification(told) = &event.payload
        {
            joined.extend(told.recipient_ids.clone());
        }
    }
    joined
}

fn random_people(chance: &mut StdRng) -> Vec<Value> {
    let mut numbers = BTreeSet::new();
    for _ in 0..chance.random_range(0..12) {
        numbers.insert(chance.random_range(1..30));
    }
    let mut people: Vec<_> = numbers
        .into_iter()
        .map(|number| {
            let id = format!("4917000001{number:02}@c.us");
            match chance.random_range(0..4) {
                0 => json!({"id": id, "role": "admin"}),
                1 => json!({"id": id, "role": "participant"}),
                _ => json!({ "id": id }),
            }
        })
        .collect();
    if chance.random_range(0..3) == 0 {
        people.push(json!("999001230403@c.us"));
    }
    people
}

fn random_settings(chance: &mut StdRng) -> Value {
    let mut settings = json!({
        "infoAdminOnly": chance.random_range(0..2) == 0,
        "messagesAdminOnly": chance.random_range(0..2) == 0,
        "membersCanAddNewMember": chance.random_range(0..2) == 0,
        "newMembersApprovalRequired": chance.random_range(0..2) == 0,
        "membersCanShareHistory": chance.random_range(0..2) == 0,
        "disappearingSeconds": ([0, 86_400, 604_800][chance.random_range(0..3)]),
    });
    settings
        .as_object_mut()
        .unwrap()
        .retain(|_, _| chance.random_range(0..3) > 0);
    settings
}

fn random_wish(chance: &mut StdRng, name: &str) -> Value {
    json!({
        "name": name,
        "description": if chance.random_range(0..2) == 0 { "" } else { "What it is about" },
        "participants": random_people(chance),
        "exact": chance.random_range(0..2) == 0,
        "settings": random_settings(chance),
        "confirmRemove": true,
    })
}

fn assert_as_wanted(wish: &Value, ensured: &EnsuredGroup) {
    let group = ensured.group.as_ref().unwrap();
    assert_eq!(group.subject.as_str(), wish["name"]);
    assert_eq!(group.description.as_str(), wish["description"]);
    let settings = serde_json::to_value(group.settings).unwrap();
    for (name, value) in wish["settings"].as_object().unwrap() {
        assert_eq!(settings[name], *value, "{name}");
    }
    let members = group.participants.as_ref().unwrap();
    let mut wanted = BTreeSet::from([ME.to_owned()]);
    for person in wish["participants"].as_array().unwrap() {
        let id = person.as_str().or(person["id"].as_str()).unwrap();
        wanted.insert(id.to_owned());
        let Some(member) = members.iter().find(|it| it.id.as_str() == id) else {
            assert!(id.starts_with("99900"), "{id} is missing");
            let outcome = ensured.outcomes.iter().find(|it| it.id.as_str() == id);
            assert_eq!(outcome.unwrap().outcome, OutcomeKind::PrivacyBlocked);
            continue;
        };
        match person["role"].as_str() {
            Some("admin") => assert_eq!(member.role, Role::Admin, "{id}"),
            Some("participant") => assert_eq!(member.role, Role::Participant, "{id}"),
            _ => {}
        }
    }
    if wish["exact"] == true {
        for member in members {
            assert!(wanted.contains(member.id.as_str()), "{member:?}");
        }
    }
}

#[tokio::test]
async fn whatever_fails_or_is_killed_the_group_is_as_wanted_and_nobody_is_added_twice() {
    let mut chance = StdRng::seed_from_u64(17);
    let mut place = Place::new(17, |_| {}).await;
    for n in 0..40 {
        place.engine.failing.store(30, Ordering::SeqCst);
        let wish = random_wish(&mut chance, &format!("Group {n}"));
        let (made, first) = place.ensure(&format!("make-{n}"), &wish).await;
        assert!(made.created);
        assert_as_wanted(&wish, &made);
        // Everybody once, the account too.
        let mut people = joined(&[&first]);
        let all = people.len();
        people.sort();
        people.dedup();
        assert_eq!(people.len(), all, "{people:?}");
        let id = made.group_id.clone().unwrap();
        for event in &first.events {
            let payload = serde_json::to_value(&event.payload).unwrap();
            assert_eq!(payload["commandId"], format!("make-{n}"));
        }

        let mut other = random_wish(&mut chance, &format!("Other {n}"));
        other["groupId"] = json!(id);
        let (changed, _) = place.ensure(&format!("change-{n}"), &other).await;
        assert!(!changed.created);
        assert_as_wanted(&other, &changed);

        // A repetition with a new id finds no difference, but for those who refuse.
        place.engine.failing.store(0, Ordering::SeqCst);
        let (again, outcome) = place.ensure(&format!("again-{n}"), &other).await;
        assert!(outcome.events.is_empty());
        let tried = again.changes.iter().flat_map(|it| &it.participants);
        for who in tried {
            assert!(who.as_str().starts_with("99900"), "{again:?}");
        }
        // The same id gets the same answer.
        let repeated = place.outcome(&format!("again-{n}"), &other).await;
        assert!(repeated.reply.replayed);
        assert_eq!(result(&repeated.reply), again);
    }
    assert_eq!(place.groups().await.len(), 40);
}

#[tokio::test]
async fn the_plan_of_a_wish_is_what_is_then_done() {
    let mut chance = StdRng::seed_from_u64(18);
    let mut place = Place::new(18, |_| {}).await;
    for n in 0..20 {
        let mut wish = random_wish(&mut chance, &format!("Group {n}"));
        wish["participants"]
            .as_array_mut()
            .unwrap()
            .retain(|it| !it.is_string());
        let mut group = Value::Null;
        for turn in ["make", "change"] {
            if turn == "change" {
                wish = random_wish(&mut chance, &format!("Other {n}"));
                wish["participants"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|it| !it.is_string());
                wish["groupId"] = group.clone();
            }
            let mut asked = wish.clone();
            asked["plan"] = json!(true);
            let (plan, outcome) = place.ensure(&format!("plan-{turn}-{n}"), &asked).await;
            assert!(outcome.events.is_empty());
            assert_eq!(plan.seconds, Some(0));
            assert_eq!(plan.group_id.is_none(), turn == "make");
            let (done, _) = place.ensure(&format!("{turn}-{n}"), &wish).await;
            assert_eq!(plan.changes, done.changes, "{wish}");
            group = json!(done.group_id);
        }
    }
}

#[tokio::test]
async fn more_than_half_of_a_group_is_removed_only_on_confirmation() {
    let mut place = Place::new(1, |_| {}).await;
    let people: Vec<_> = (1..6).map(|n| format!("49170000010{n}@c.us")).collect();
    let wish = json!({"name": "Group", "participants": people});
    let (made, _) = place.ensure("make", &wish).await;
    let mut fewer = json!({
        "groupId": made.group_id, "participants": [people[0], people[1]], "exact": true,
    });
    // Three of six is not more than half.
    fewer["plan"] = json!(true);
    let (plan, _) = place.ensure("plan", &fewer).await;
    assert_eq!(plan.changes[0].participants.len(), 3);
    fewer["participants"] = json!([people[0]]);
    fewer["plan"] = json!(false);
    let refused = place.outcome("remove", &fewer).await.reply.error.unwrap();
    assert_eq!(refused.code, ErrorCode::NotAllowed);
    assert!(
        refused.message.contains("4 of the group's 6"),
        "{refused:?}"
    );
    fewer["confirmRemove"] = json!(true);
    let (done, _) = place.ensure("confirmed", &fewer).await;
    assert_eq!(done.group.unwrap().size, 2);
}

#[tokio::test]
async fn a_wish_that_exceeds_the_accounts_limits_goes_on_when_they_allow_it() {
    let mut place = Place::new(1, |config| {
        config.safety.limits = config::Limits::On;
        config.safety.add_participants.burst = 10.try_into().unwrap();
        config.safety.add_participants.refill = Duration::from_millis(2);
    })
    .await;
    let people: Vec<_> = (0..100).map(|n| format!("4917000010{n:02}@c.us")).collect();
    let mut wish = json!({"name": "Group", "participants": people, "plan": true});
    let (plan, _) = place.ensure("plan", &wish).await;
    assert_eq!(plan.changes.len(), 10);
    wish["plan"] = json!(false);
    let (made, outcome) = place.ensure("make", &wish).await;
    assert_eq!(made.group.unwrap().size, 101);
    assert_eq!(joined(&[&outcome]).len(), 101);
    let steps: Vec<_> = made
        .changes
        .iter()
        .map(|it| it.participants.len())
        .collect();
    assert_eq!(steps, [10; 10]);
}

#[tokio::test]
async fn what_was_begun_in_time_goes_on_after_it() {
    let (mut place, mut command) = begun().await;
    command.expires_at = Some(past());
    let outcome = place.until_answered(&command).await;
    assert_eq!(result(&outcome.reply).group.unwrap().size, 31);
    // What was not begun in time is not begun.
    command.id = "late".parse().unwrap();
    let late = place.until_answered(&command).await.reply.error.unwrap();
    assert_eq!(late.code, ErrorCode::Expired);
}

#[tokio::test]
async fn nobody_is_removed_while_the_engine_does_not_tell_the_accounts_own_id() {
    let mut place = Place::new(1, |_| {}).await;
    place.engine.is_anonymous.store(true, Ordering::SeqCst);
    let wish = json!({"name": "Group", "participants": [], "exact": true});
    let mut command = accepted("1", CommandType::EnsureGroup, wish);
    let verdict = place.attempt(&command).await;
    let Verdict::Deferred(deferral) = verdict else {
        panic!("not deferred: {verdict:?}");
    };
    assert_eq!(deferral.cause.code, ErrorCode::SessionNotReady);
    // It was taken up and nothing of it was done, which is no reason for doubt.
    command.expires_at = Some(past());
    let outcome = place.until_answered(&command).await;
    assert_eq!(outcome.reply.error.unwrap().code, ErrorCode::Expired);
}

#[tokio::test]
async fn a_command_that_ends_in_a_refusal_has_the_events_of_what_it_did_and_names_its_group() {
    let (mut place, command) = begun().await;
    // The id is this command's, also while it waits.
    let other = ensure_group("make", &json!({"name": "Other"}));
    let reused = place.until_answered(&other).await.reply.error.unwrap();
    assert_eq!(reused.code, ErrorCode::IdReused);
    let group = place.groups().await.remove(0);
    let (id, size) = (group["id"].clone(), group["size"].as_u64().unwrap());
    let leave = accepted("leave", CommandType::LeaveGroup, json!({ "groupId": id }));
    place.until_answered(&leave).await;
    let outcome = place.until_answered(&command).await;
    let error = outcome.reply.error.as_ref().unwrap();
    assert_eq!(error.code, ErrorCode::NotAMember);
    assert!(error.message.contains(id.as_str().unwrap()), "{error:?}");
    assert_eq!(joined(&[&outcome]).len() as u64, size);
}

#[tokio::test]
async fn a_group_that_is_not_there_is_the_answer() {
    let mut place = Place::new(1, |_| {}).await;
    let wish = json!({"groupId": "120363000000000001@g.us", "name": "Group"});
    let error = place.outcome("1", &wish).await.reply.error.unwrap();
    assert_eq!(error.code, ErrorCode::GroupNotFound);
}
