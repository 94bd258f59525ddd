//! The sandbox's rules, through the engine's own door, over a real store.

mod adding;
mod admins;
mod events;
mod joining;
mod leaving;
mod properties;
mod reading;
mod settings;

use crate::engines::Context;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Pictures, Sandbox};
use crate::clock::Clock;
use crate::config;
use crate::contract::{CommandType, ErrorCode, Event, Timestamp};
use crate::engines::{Call, Disposition, Effect, Engine, EngineError, Found, ResultLimit};
use crate::store::Store;
use crate::store::ledger::Starts;
use crate::store::sandbox_groups::SandboxGroups;

/// The accounts: alice, bob and carol are sessions, the others only people.
const ALICE: &str = "491700000001@c.us";
const BOB: &str = "491700000002@c.us";
const CAROL: &str = "491700000003@c.us";
const DAVE: &str = "491700000004@c.us";
const ERIN: &str = "491700000005@c.us";

/// A day, in milliseconds.
const DAY: i64 = 86_400_000;

#[derive(Debug)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

/// A sandbox of its own.
struct World {
    engine: Sandbox,
    groups: SandboxGroups,
    clock: Arc<ManualClock>,
    commands: AtomicU32,
    _dir: TempDir,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    outcome: Result<Value, ErrorCode>,
    events: Vec<Event>,
}

/// Nothing is fetched by tests of the model.
impl World {
    async fn new() -> Self {
        Self::with(config::Sandbox::default()).await
    }

    /// The config, with the usual sessions.
    async fn with(config: config::Sandbox) -> Self {
        Self::limited(config, ResultLimit::of_messages(16 << 20)).await
    }

    /// As [`World::with`], where results have a limit.
    #[expect(clippy::disallowed_methods, reason = "tests have no lifecycle")]
    async fn limited(config: config::Sandbox, limit: ResultLimit) -> Self {
        let dir = TempDir::new().unwrap();
        let store = config::Store {
            url: format!("sqlite:{}", dir.path().join("test.db").display()).into(),
            url_file: None,
            connections: 2,
            timeout: Duration::from_secs(10),
        };
        let clock = Arc::new(ManualClock(AtomicI64::new(1_732_355_881_123)));
        let (store, writer) = Store::open(&store, clock.clone()).await.unwrap();
        tokio::spawn(writer);
        let sessions = [("alice", ALICE), ("bob", BOB), ("carol", CAROL)];
        let session = |(name, phone): (&str, &str)| (name.parse().unwrap(), phone.parse().unwrap());
        let config = config::Sandbox {
            sessions: sessions.into_iter().map(session).collect(),
            ..config
        };
        Self {
            groups: store.sandbox_groups(),
            engine: Sandbox::seeded(store, config, clock.clone(), Pictures::of_tests(), limit, 7),
            clock,
            commands: AtomicU32::new(0),
            _dir: dir,
        }
    }

    fn later(&self, milliseconds: i64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    async fn execute(
        &self,
        id: &str,
        session: &str,
        name: &str,
        payload: Value,
    ) -> Result<Effect, EngineError> {
        self.engine.execute(&call(id, session, name, payload)).await
    }

    /// The effect that the engine finds of a command.
    async fn found(&self, call: &Call) -> Option<Answer> {
        let never = Timestamp(jiff::Timestamp::UNIX_EPOCH);
        let starts = Starts {
            first: never,
            last: never,
            times: 1,
        };
        match self.engine.find(call, starts).await.unwrap() {
            Found::Effect(effect) => Some(Answer::of(effect)),
            Found::Nothing => None,
            other => panic!("{other:?}"),
        }
    }

    /// Carries out a command under this id.
    async fn send_as(&self, id: &str, session: &str, name: &str, payload: Value) -> Answer {
        match self.execute(id, session, name, payload).await {
            Ok(effect) => Answer::of(effect),
            Err(EngineError::Refused { code, .. }) => Answer {
                outcome: Err(code),
                events: Vec::new(),
            },
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Carries out a command under a new id.
    async fn send(&self, session: &str, name: &str, payload: Value) -> Answer {
        let id = self.commands.fetch_add(1, Ordering::Relaxed);
        self.send_as(&format!("c{id}"), session, name, payload)
            .await
    }

    async fn ok(&self, session: &str, name: &str, payload: Value) -> Value {
        self.send(session, name, payload).await.outcome.unwrap()
    }

    async fn refused(&self, session: &str, name: &str, payload: Value) -> ErrorCode {
        let answer = self.send(session, name, payload).await;
        assert!(answer.events.is_empty());
        answer.outcome.unwrap_err()
    }

    /// A group of alice's with these people, whose id is told.
    async fn group(&self, people: &[&str]) -> String {
        let payload = json!({"name": "Group", "participants": people});
        let made = self.ok("alice", "CreateGroup", payload).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// As [`World::group`], with some of them admins.
    async fn group_with_admins(&self, people: &[&str], admins: &[&str]) -> String {
        let id = self.group(people).await;
        self.ok("alice", "PromoteAdmin", on(&id, admins)).await;
        id
    }

    /// Who is in a group and as what, in order of joining, as a session sees it.
    async fn roles(&self, session: &str, group: &str) -> Vec<(String, String)> {
        let people = self.ok(session, "GetParticipants", of(group)).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let role = |person: &Value| (text(&person["id"]), text(&person["role"]));
        people.as_array().unwrap().iter().map(role).collect()
    }
}

impl Answer {
    fn of(effect: Effect) -> Self {
        Self {
            outcome: Ok(serde_json::from_str(effect.result.get()).unwrap()),
            events: effect.events,
        }
    }
}

fn call(id: &str, session: &str, name: &str, payload: Value) -> Call {
    let kind: CommandType = name.parse().unwrap();
    Call {
        id: id.parse().unwrap(),
        session: session.parse().unwrap(),
        command: kind.read(payload).unwrap(),
        fingerprint: [7; 32],
        part: None,
        context: Context::default(),
    }
}

/// The payload of a command for a group.
fn of(group: &str) -> Value {
    json!({"groupId": group})
}

/// The payload of a command for people in a group.
fn on(group: &str, people: &[&str]) -> Value {
    json!({"groupId": group, "participants": people})
}

/// Somebody in a list, with both ids.
fn person(phone: &str, role: Option<&str>) -> Value {
    let number = phone.strip_suffix("@c.us").unwrap();
    let mut person = json!({"id": phone, "lid": format!("8000{number}@lid"), "pn": phone});
    if let Some(role) = role {
        person["role"] = json!(role);
    }
    person
}

/// Outcome and code of each person.
fn outcomes(result: &Value) -> Vec<(String, u64)> {
    let one = |outcome: &Value| {
        (
            outcome["outcome"].as_str().unwrap().to_owned(),
            outcome["code"].as_u64().unwrap(),
        )
    };
    result.as_array().unwrap().iter().map(one).collect()
}

fn expect(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|(kind, code)| ((*kind).to_owned(), *code))
        .collect()
}

fn roles(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(who, role)| ((*who).to_owned(), (*role).to_owned()))
        .collect()
}

#[tokio::test]
async fn a_session_without_a_phone_gets_the_key_to_set() {
    let world = World::new().await;
    let error = world
        .execute("x", "nobody", "ListGroups", json!({}))
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::SessionNotFound);
    assert!(
        error.to_string().contains("[engine.sandbox.sessions]"),
        "{error}"
    );
}

#[tokio::test]
async fn an_offline_session_records_nothing() {
    let fault = config::Fault {
        outage: true,
        ..config::Fault::default()
    };
    let faults = [("bob".parse().unwrap(), fault)].into();
    let world = World::with(config::Sandbox {
        faults,
        ..config::Sandbox::default()
    })
    .await;
    let create = json!({"name": "Group", "participants": []});
    let error = world
        .execute("x", "bob", "CreateGroup", create.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, EngineError::NotReady { .. }));
    let made = world.send_as("x", "alice", "CreateGroup", create).await;
    assert!(made.outcome.is_ok());
}

#[tokio::test]
async fn a_command_that_comes_again_has_no_second_effect_and_the_same_answer() {
    let world = World::new().await;
    let create = json!({"name": "Group", "participants": [BOB]});
    let first = world
        .send_as("x", "alice", "CreateGroup", create.clone())
        .await;
    world.later(1000);
    let again = world
        .send_as("x", "alice", "CreateGroup", create.clone())
        .await;
    assert_eq!(first, again);
    assert!(!first.events.is_empty());
    // Another session's command of the same id is another command.
    let other = world.send_as("x", "bob", "CreateGroup", create).await;
    assert_ne!(other.outcome.unwrap()["id"], first.outcome.unwrap()["id"]);
}

#[tokio::test]
async fn a_command_finds_its_own_effect_though_others_did_the_same() {
    let world = World::new().await;
    let create = json!({"name": "Group", "participants": [BOB]});
    let creating = call("x", "alice", "CreateGroup", create.clone());
    world
        .send_as("other", "alice", "CreateGroup", create.clone())
        .await;
    assert_eq!(world.found(&creating).await, None);
    let made = world.send_as("x", "alice", "CreateGroup", create).await;
    assert_eq!(world.found(&creating).await, Some(made.clone()));

    let group = made.outcome.unwrap()["id"].as_str().unwrap().to_owned();
    let adding = call("y", "alice", "AddParticipants", on(&group, &[CAROL]));
    assert_eq!(world.found(&adding).await, None);
    let added = world
        .send_as("y", "alice", "AddParticipants", on(&group, &[CAROL]))
        .await;
    assert!(!added.events.is_empty());
    assert_eq!(world.found(&adding).await, Some(added));
}

#[tokio::test]
async fn a_refused_command_is_judged_anew() {
    let world = World::new().await;
    let group = world.group(&[]).await;
    let leave = world.send_as("x", "bob", "LeaveGroup", of(&group)).await;
    assert_eq!(leave.outcome, Err(ErrorCode::GroupNotFound));
    world
        .ok("alice", "AddParticipants", on(&group, &[BOB]))
        .await;
    let leave = world.send_as("x", "bob", "LeaveGroup", of(&group)).await;
    assert_eq!(leave.outcome, Ok(json!(true)));
}

#[tokio::test]
async fn the_outcome_of_a_command_is_not_that_of_another_one_with_its_id() {
    let world = World::new().await;
    let create = json!({"name": "Group", "participants": []});
    world
        .send_as("x", "alice", "CreateGroup", create.clone())
        .await;
    let other = Call {
        fingerprint: [8; 32],
        part: None,
        ..call("x", "alice", "CreateGroup", create)
    };
    assert_eq!(world.found(&other).await, None);
    let refused = world.engine.execute(&other).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::IdReused);
}

#[tokio::test]
async fn what_the_store_did_not_confirm_is_open_and_is_found_out_by_the_next_attempt() {
    let world = World::new().await;
    let create = json!({"name": "Group", "participants": []});
    world.engine.store.fail_once().await;
    let error = world
        .execute("x", "alice", "CreateGroup", create.clone())
        .await
        .unwrap_err();
    assert_eq!(error.disposition(), Disposition::Unknown, "{error:?}");
    let creating = call("x", "alice", "CreateGroup", create);
    assert_eq!(world.found(&creating).await, None);
}
