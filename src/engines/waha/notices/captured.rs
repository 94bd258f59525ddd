//! The webhooks of a real WAHA 2026.2.1, parsed and applied: in order, and in any other order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use serde_json::Value;

use super::*;
use crate::contract::Event;
use crate::engines::sync::{GroupKey, GroupState, Lag, SessionState};

const CAPTURES: [(&str, &str); 5] = [
    (
        "noweb-phone",
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-phone/webhooks.json"),
    ),
    (
        "noweb-lid",
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-lid/webhooks.json"),
    ),
    (
        "noweb-store",
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-store/webhooks.json"),
    ),
    (
        "noweb-store-lid",
        include_str!("../../../../tests/support/data/waha-2026.2.1/noweb-store-lid/webhooks.json"),
    ),
    (
        "gows-lid",
        include_str!("../../../../tests/support/data/waha-2026.2.1/gows-lid/webhooks.json"),
    ),
];

/// The webhooks of a capture: the cause of each, and the parsed notice.
fn webhooks(capture: &str) -> Vec<(String, Notice)> {
    let all: Vec<Value> = serde_json::from_str(capture).unwrap();
    let read = |it: &Value| {
        let notice = read(it["body"].to_string().as_bytes()).unwrap();
        (it["cause"].as_str().unwrap().to_owned(), notice)
    };
    all.iter().map(read).collect()
}

/// The state of a session and its groups.
#[derive(Default)]
struct World {
    session: SessionState,
    groups: BTreeMap<GroupId, GroupState>,
    events: Vec<Event>,
}

impl World {
    fn apply(&mut self, notice: &Notice) -> Vec<Value> {
        let NoticeContent::Group(group, observations, moment) = &notice.content else {
            return Vec::new();
        };
        let now = notice.sent;
        let report = Notice::report(
            &notice.id,
            notice.me.clone(),
            observations.clone(),
            moment,
            now,
        );
        let place = GroupKey {
            engine: crate::contract::EngineName::Waha,
            session: &notice.session,
            group,
        };
        let known = self.groups.entry(group.clone()).or_default();
        let effects = known.apply(
            place,
            &mut self.session,
            &report,
            Lag::new(std::time::Duration::from_secs(20)),
        );
        let told = effects
            .events
            .iter()
            .map(|it| serde_json::to_value(it).unwrap());
        let told = told.collect();
        self.events.extend(effects.events);
        told
    }

    /// The groups as a consumer knows them who adds up the events.
    fn sum(&self) -> BTreeMap<String, Sum> {
        let mut all: BTreeMap<String, Sum> = BTreeMap::new();
        for event in &self.events {
            let event = serde_json::to_value(event).unwrap();
            let payload = &event["payload"];
            let group = payload["chatId"].as_str();
            let group = group.or_else(|| payload["group"]["id"].as_str()).unwrap();
            let sum = all.entry(group.to_owned()).or_default();
            match event["event"].as_str().unwrap() {
                "group.v2.join" => {
                    *sum = Sum::default();
                    sum.inside = true;
                    sum.add(&payload["group"]["participants"]);
                    sum.set(&payload["group"]["settings"]);
                    sum.set(&payload["group"]);
                }
                "group.v2.leave" => *sum = Sum::default(),
                // A late report about a group that the account has left changes nothing.
                "group.v2.participants" if sum.inside => sum.add(&payload["participants"]),
                "group.v2.update" if sum.inside => sum.set(&payload["group"]),
                _ => {}
            }
        }
        all
    }
}

#[derive(Debug, Default, PartialEq)]
struct Sum {
    inside: bool,
    people: BTreeMap<String, String>,
    settings: BTreeMap<String, Value>,
}

impl Sum {
    fn add(&mut self, people: &Value) {
        for person in people.as_array().unwrap() {
            let id = person["id"].as_str().unwrap().to_owned();
            match person["role"].as_str() {
                Some(role) => self.people.insert(id, role.to_owned()),
                None => self.people.remove(&id),
            };
        }
    }

    fn set(&mut self, told: &Value) {
        // Description, approval and link have changed again in the later joins of the captures, so
        // they depend on whether the departure was seen.
        const SETTINGS: [&str; 3] = ["subject", "infoAdminOnly", "messagesAdminOnly"];
        for name in SETTINGS {
            if let Some(value) = told.get(name) {
                self.settings.insert(name.to_owned(), value.clone());
            }
        }
    }
}

/// An event without its ids and times.
fn short(event: &Value) -> String {
    let payload = &event["payload"];
    let mut line = event["event"].as_str().unwrap().to_owned();
    if let Some(kind) = payload["type"].as_str() {
        write!(line, " {kind}").unwrap();
    }
    let people = payload["recipientIds"].as_array().into_iter().flatten();
    for id in people {
        write!(line, " {}", local(id)).unwrap();
    }
    let people = payload["participants"].as_array().into_iter().flatten();
    for person in people {
        let role = person["role"].as_str().unwrap_or("gone");
        write!(line, " {}:{role}", local(&person["id"])).unwrap();
    }
    let mut group = payload["group"].clone();
    if let Some(fields) = group.as_object_mut() {
        let people = fields.remove("participants");
        for name in ["id", "createdAt", "outcomes", "size"] {
            fields.remove(name);
        }
        for person in people.iter().filter_map(Value::as_array).flatten() {
            write!(line, " {}:{}", local(&person["id"]), local(&person["role"])).unwrap();
        }
        if !fields.is_empty() {
            write!(line, " {group}").unwrap();
        }
    }
    write!(line, " by {}", local(&payload["author"])).unwrap();
    line
}

/// The last digits of a phone; all of anything else.
fn local(id: &Value) -> String {
    let id = id.as_str().unwrap_or("nobody");
    match id.strip_suffix("@c.us") {
        Some(phone) => phone.trim_start_matches("1555000").to_owned(),
        None => id.to_owned(),
    }
}

#[test]
fn what_each_webhook_of_a_real_waha_becomes() {
    for (name, capture) in CAPTURES {
        let mut world = World::default();
        let mut table = String::new();
        for (cause, notice) in webhooks(capture) {
            let told = world.apply(&notice);
            let becomes: Vec<_> = match &notice.content {
                NoticeContent::Group(..) if told.is_empty() => vec!["nothing new".to_owned()],
                NoticeContent::Group(..) => told.iter().map(short).collect(),
                NoticeContent::Refresh(_) => vec!["a look".to_owned()],
                NoticeContent::Status(status, at) => vec![format!("{status} at {at}")],
                NoticeContent::Ignored => vec!["nothing".to_owned()],
            };
            writeln!(table, "{cause}\n    {}", becomes.join("\n    ")).unwrap();
        }
        insta::assert_snapshot!(name, table);
    }
}

#[test]
fn in_whatever_order_the_webhooks_come_their_events_add_up_to_the_same() {
    for (name, capture) in CAPTURES {
        let mut ordered = World::default();
        for (_, notice) in webhooks(capture) {
            ordered.apply(&notice);
        }
        let wanted = ordered.sum();
        assert!(wanted.values().any(|sum| sum.inside), "{name}");
        let mut webhooks = webhooks(capture);
        for seed in 0..100 {
            webhooks.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
            let mut world = World::default();
            for (_, notice) in &webhooks {
                world.apply(notice);
            }
            assert_eq!(world.sum(), wanted, "{name}, seed {seed}");
            let mut next: BTreeMap<String, u64> = BTreeMap::new();
            for event in &world.events {
                let payload = serde_json::to_value(event).unwrap()["payload"].take();
                let group = payload["chatId"].as_str();
                let group = group.or_else(|| payload["group"]["id"].as_str()).unwrap();
                let number = next.entry(group.to_owned()).or_default();
                *number += 1;
                assert_eq!(
                    payload["sequence"].as_u64(),
                    Some(*number),
                    "{name}, {seed}"
                );
            }
        }
    }
}

#[test]
fn webhooks_that_overtake_their_neighbours_become_no_other_events() {
    for (name, capture) in CAPTURES {
        let mut ordered = World::default();
        for (_, notice) in webhooks(capture) {
            ordered.apply(&notice);
        }
        let events = |world: &World| {
            let all = world.events.iter();
            let all = all.map(|it| short(&serde_json::to_value(it).unwrap()));
            all.collect::<BTreeSet<_>>()
        };
        let wanted = events(&ordered);
        for seed in 0..100 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let mut webhooks = webhooks(capture);
            for some in webhooks.chunks_mut(2) {
                some.shuffle(&mut rng);
            }
            let mut world = World::default();
            for (_, notice) in &webhooks {
                world.apply(notice);
            }
            let others: Vec<_> = events(&world).difference(&wanted).cloned().collect();
            assert_eq!(others, Vec::<String>::new(), "{name}, seed {seed}");
        }
    }
}
