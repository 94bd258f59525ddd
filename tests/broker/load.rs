//! Commands of many kinds for some groups, each of which changes something, and what all of them
//! together must have left behind, whatever was killed meanwhile.
//!
//! In each group a person is added, made an admin, and so on: only in this order does every command
//! have its effect, so that an exchange of two commands shows.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use groupmq::contract::Role;
use groupmq_test_support::producer::{Command, Producer, Seen};
use serde_json::{Value, json};

use super::scene::{PATIENCE, create};
use super::world::{self, Account, Remembered};

/// How many commands are handed over to be sent at a time.
const PORTION: usize = 100;

/// The kinds of commands, in the order in which each group gets them.
const STEPS: usize = 8;

/// How much there is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// How many groups the commands are about.
    pub(crate) groups: usize,
    /// How many commands wait or are under way, about.
    pub(crate) backlog: usize,
}

/// The commands sent so far.
#[derive(Debug)]
pub(crate) struct Load {
    groups: Vec<String>,
    /// Whose they are, in turn.
    accounts: Vec<Account>,
    sent: usize,
    /// How many groups there were before.
    earlier: usize,
}

/// What a group must look like after some rounds of commands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looks {
    subject: String,
    description: String,
    guest: Option<Role>,
    guests: usize,
    changed_by: Vec<String>,
}

impl Load {
    /// Commands for groups that exist, each created by the command `group-<n>`.
    pub(crate) fn on(groups: Vec<String>) -> Self {
        Self::of(groups, vec![world::default_account()])
    }

    /// The same, for groups that belong to some sessions in turn.
    pub(crate) fn of(groups: Vec<String>, accounts: Vec<Account>) -> Self {
        Self {
            earlier: groups.len(),
            groups,
            accounts,
            sent: 0,
        }
    }

    /// How many commands there were, those that made the groups included.
    pub(crate) fn count(&self) -> usize {
        self.earlier + self.sent
    }

    /// The next ones.
    pub(crate) fn next(&mut self, count: usize) -> Vec<Command> {
        let from = self.sent;
        self.sent += count;
        (from..self.sent).map(|n| self.command(n)).collect()
    }

    /// Keeps so many commands waiting, until told that it is enough.
    pub(crate) async fn feed(&mut self, producer: &Producer, backlog: usize, enough: &Cell<bool>) {
        while !enough.get() {
            if self.count() < producer.seen().answered() + backlog {
                producer.send_all(self.next(PORTION)).await.unwrap();
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Which group the command is for, and the how manieth of that group it is.
    fn place(&self, n: usize) -> (usize, usize) {
        (n % self.groups.len(), n / self.groups.len())
    }

    fn id(&self, n: usize) -> String {
        let (group, round) = self.place(n);
        match round % STEPS {
            7 => format!("create-{group}-{round}"),
            _ => format!("change-{group}-{round}"),
        }
    }

    fn command(&self, n: usize) -> Command {
        let (number, round) = self.place(n);
        let group = &self.groups[number];
        let guest = json!([{ "id": guest(round) }]);
        let (command_type, payload) = match round % STEPS {
            0 => (
                "SetGroupSubject",
                json!({"groupId": group, "subject": text(round)}),
            ),
            1 => (
                "AddParticipants",
                json!({"groupId": group, "participants": guest}),
            ),
            2 => (
                "PromoteAdmin",
                json!({"groupId": group, "participants": guest}),
            ),
            3 => (
                "SetGroupDescription",
                json!({"groupId": group, "description": text(round)}),
            ),
            4 => (
                "DemoteAdmin",
                json!({"groupId": group, "participants": guest}),
            ),
            5 => (
                "RemoveParticipants",
                json!({"groupId": group, "participants": guest}),
            ),
            6 => ("RevokeInviteCode", json!({ "groupId": group })),
            _ => ("CreateGroup", create(&self.id(n))),
        };
        let (session, _) = &self.accounts[number % self.accounts.len()];
        Command::new(&self.id(n), command_type, session, &payload)
    }

    /// What each group must look like now.
    fn wanted(&self) -> BTreeMap<&str, Looks> {
        let mut wanted = BTreeMap::new();
        for (number, group) in self.groups.iter().enumerate() {
            let first = format!("group-{number}");
            let looks = Looks {
                subject: first.clone(),
                changed_by: vec![first],
                ..Looks::default()
            };
            wanted.insert(group.as_str(), looks);
        }
        for n in 0..self.sent {
            let (number, round) = self.place(n);
            let Some(looks) = wanted.get_mut(self.groups[number].as_str()) else {
                continue;
            };
            match round % STEPS {
                0 => looks.subject = text(round),
                1 => (looks.guest, looks.guests) = (Some(Role::Participant), looks.guests + 1),
                2 => looks.guest = Some(Role::Admin),
                3 => looks.description = text(round),
                4 => looks.guest = Some(Role::Participant),
                5 => (looks.guest, looks.guests) = (None, looks.guests - 1),
                6 => {}
                _ => continue,
            }
            looks.changed_by.push(self.id(n));
        }
        wanted
    }

    /// Waits for all answers, and sees that each command was done once, and in the order of its
    /// group: in the replies, in the sandbox's own memory, and in the events. Says what it counted.
    pub(crate) async fn assert_once_each(&self, producer: &Producer, store: &str) -> String {
        let all = self.count();
        let both_ways =
            |seen: &Seen| (seen.answered() >= all && seen.answered_directly() >= all).then_some(());
        producer.until(4 * PATIENCE, both_ways).await.unwrap();
        let world = self.assert_effects(producer, store).await;
        assert_events(producer, &world).await;
        let dead = producer.dead_letters().await.unwrap();
        assert!(
            dead.is_empty(),
            "{} dead letters: {:?}",
            dead.len(),
            dead[0]
        );
        let seen = producer.seen();
        let effects: usize = world.values().map(|group| group.changed_by.len()).sum();
        format!(
            "{} commands, {effects} effects in {} groups, {} events; with repetitions {} replies \
             and {} events",
            self.count(),
            world.len(),
            seen.event_count(),
            seen.reply_copies(),
            seen.event_copies(),
        )
    }

    /// Sees that each command, all of which are answered, was done once and in the order of its group: in
    /// the replies and in the sandbox's own memory, which it returns.
    pub(crate) async fn assert_effects(
        &self,
        producer: &Producer,
        store: &str,
    ) -> BTreeMap<String, Remembered> {
        self.assert_answers(producer);
        let world = world::groups_of(store, &self.accounts).await;
        self.assert_world(&world);
        world
    }

    fn assert_answers(&self, producer: &Producer) {
        for n in 0..self.sent {
            let id = self.id(n);
            let replies = producer.seen().replies(&id);
            let answer = &replies[0].body;
            assert_eq!(answer["status"], "ok", "{answer}");
            let outcome = &answer["result"][0]["outcome"];
            assert!(outcome.is_null() || outcome == "ok", "{answer}");
            for reply in &replies {
                for field in ["id", "commandId", "status", "result"] {
                    assert_eq!(reply.body[field], answer[field], "{id}");
                }
            }
        }
    }

    fn assert_world(&self, world: &BTreeMap<String, Remembered>) {
        let mut created = 0;
        let wanted = self.wanted();
        for (id, found) in world {
            let Some(wanted) = wanted.get(id.as_str()) else {
                created += 1;
                assert_eq!(found.changed_by.len(), 1, "{id}: {:?}", found.changed_by);
                assert_eq!(found.changed_by[0], found.state.subject.as_str(), "{id}");
                continue;
            };
            let mut looks = looks(found);
            looks.guests -= 2;
            assert_eq!(looks, *wanted, "{id}");
        }
        let creations = (0..self.sent).filter(|n| self.place(*n).1 % STEPS == 7);
        assert_eq!(created, creations.count(), "groups that were created");
    }
}

/// How the sandbox remembers a group.
fn looks(group: &Remembered) -> Looks {
    let members = &group.state.members;
    let guest = members
        .iter()
        .find(|(id, _)| id.as_str().starts_with(GUEST));
    Looks {
        subject: group.state.subject.as_str().to_owned(),
        description: group.state.description.as_str().to_owned(),
        guest: guest.map(|(_, member)| member.role),
        guests: members.len(),
        changed_by: group.changed_by.clone(),
    }
}

/// Sees that the events of each group came in order, all of them, and caused by its commands in turn.
pub(crate) async fn assert_events(producer: &Producer, world: &BTreeMap<String, Remembered>) {
    let all: u64 = world.values().map(Remembered::events).sum();
    let all = usize::try_from(all).unwrap();
    let came = |seen: &Seen| (seen.event_count() >= all).then_some(());
    producer.until(2 * PATIENCE, came).await.unwrap();
    let mut by_group = BTreeMap::<String, Vec<Value>>::new();
    for event in producer.seen().events() {
        let payload = &event["payload"];
        let group = payload["chatId"].as_str();
        let group = group.or(payload["group"]["id"].as_str()).unwrap();
        by_group.entry(group.to_owned()).or_default().push(event);
    }
    assert_eq!(by_group.len(), world.len());
    for (group, events) in by_group {
        let remembered = &world[&group];
        let sequences = events.iter().map(|event| &event["payload"]["sequence"]);
        let sequences: Vec<_> = sequences.map(|it| it.as_u64().unwrap()).collect();
        // Repetitions (same id) dropped, in the order in which each came first.
        let in_order: Vec<_> = (1..=remembered.events()).collect();
        assert_eq!(sequences, in_order, "{group}");
        let causes = events.iter().map(|event| &event["payload"]["commandId"]);
        let mut causes: Vec<_> = causes.map(|it| it.as_str().unwrap()).collect();
        causes.dedup();
        assert_eq!(causes, remembered.changed_by, "{group}");
    }
}

/// How the numbers of people begin who come and go.
const GUEST: &str = "4918";

/// Who comes and goes in a round.
fn guest(round: usize) -> String {
    format!("{GUEST}{:08}@c.us", round / STEPS)
}

/// A text that no other round has.
fn text(round: usize) -> String {
    format!("round {round}")
}
