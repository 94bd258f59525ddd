//! The order of each group, with everything that endangers it at once and left to chance: failures,
//! retries in the lane, rests, kills, orderly stops, windows of any size. Sixteen commands run at the
//! same time. A seed tells what was drawn, though not when the machine did what.

use std::fmt::Write as _;

use futures_util::future::join_all;
use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Seen;
use groupmq_test_support::worker::{Options, store_in};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use serde_json::{Value, json};

use super::crew::{Crew, endure};
use super::load::Amount;
use super::scene::{PATIENCE, Scene, create};
use super::torture::{self, Chance};

/// How the workers are set up, as drawn.
struct Drawn {
    settings: Vec<(&'static str, String)>,
    on_postgres: bool,
    workers: usize,
    amount: Amount,
}

impl Drawn {
    fn by(chance: &mut Chance) -> Self {
        let rng = &mut chance.rng;
        let mut one_of =
            |values: &[&str]| values.choose(rng).copied().unwrap_or_default().to_owned();
        let settings = vec![
            ("executor.concurrency", "16".to_owned()),
            ("retry.attempts", "1000".to_owned()),
            (
                "engine.sandbox.faults.default.error_rate",
                one_of(&["0.05", "0.2", "0.4"]),
            ),
            (
                "engine.sandbox.faults.default.delay",
                one_of(&["0s", "1ms", "5ms"]),
            ),
            // Nothing in the lane, most of it, or nearly all.
            ("retry.within", one_of(&["0s", "10ms", "50ms"])),
            ("retry.first", one_of(&["1ms", "10ms"])),
            ("amqp.prefetch", one_of(&["10", "50", "300"])),
            (
                "topology.delay_tiers",
                one_of(&["50ms", "20ms,100ms", "50ms,100ms,200ms"]),
            ),
        ];
        Self {
            settings,
            on_postgres: rng.random_bool(0.5),
            workers: rng.random_range(1..=2),
            amount: Amount {
                groups: rng.random_range(5..40),
                backlog: rng.random_range(50..300),
            },
        }
    }

    fn of(&self, options: Options) -> Options {
        let set = |options: Options, (key, value): &(&str, String)| options.set(key, value);
        self.settings.iter().fold(options, set)
    }

    fn text(&self) -> String {
        let store = if self.on_postgres {
            "PostgreSQL"
        } else {
            "SQLite"
        };
        let mut text = format!(
            "{store}, {} workers, {} groups, {} commands at a time",
            self.workers, self.amount.groups, self.amount.backlog
        );
        for (key, value) in &self.settings {
            let name = key.rsplit('.').next().unwrap_or(key);
            write!(text, ", {name} {value}").unwrap();
        }
        text
    }
}

async fn keeps_order(mut chance: Chance) {
    let drawn = Drawn::by(&mut chance);
    let what = format!("seed {}", chance.seed);
    println!("{what}: {}", drawn.text());
    let folder = tempfile::tempdir().unwrap();
    let database = drawn
        .on_postgres
        .then(|| Postgres::shared().unwrap().database().unwrap());
    let store = match &database {
        Some(database) => database.url.clone(),
        None => store_in(folder.path()),
    };
    let ordeal = async |crew: &mut Crew<'_>| {
        for _ in 0..4 {
            crew.complete(drawn.workers).await;
            crew.work(60, &mut chance).await;
            if chance.rng.random_bool(0.3) {
                crew.dismiss().await;
            } else {
                crew.lose(&mut chance).await;
            }
        }
        crew.complete(drawn.workers).await;
    };
    let settings = |options| drawn.of(options);
    endure(&what, &store, drawn.amount, settings, ordeal).await;
}

#[tokio::test]
async fn each_group_keeps_its_order_whatever_goes_wrong_at_once() {
    let first = Chance::new().seed;
    for n in 0..torture::seeds(3) {
        keeps_order(Chance::of(first + u64::try_from(n).unwrap())).await;
    }
}

#[tokio::test]
async fn the_events_of_a_new_group_come_before_those_of_what_follows_its_reply() {
    // The worker's channel is young, so the messages of a batch are written one by one.
    let scene = &Scene::shared().await;
    let come_and_go = |n: usize| async move {
        let name = format!("group {n}");
        let made = scene
            .call(&format!("make-{n}"), "CreateGroup", &create(&name))
            .await;
        let group = made["result"]["id"].as_str().unwrap().to_owned();
        let payload = json!({ "groupId": group });
        let left = scene
            .call(&format!("leave-{n}"), "LeaveGroup", &payload)
            .await;
        assert_eq!(left["status"], "ok", "{left}");
        group
    };
    let groups = join_all((0..60).map(come_and_go)).await;
    let all = |seen: &Seen| {
        let left = |event: &&Value| event["event"] == "group.left";
        let events = seen.events();
        (events.iter().filter(left).count() == groups.len()).then_some(events)
    };
    let events = scene.producer.until(PATIENCE, all).await.unwrap();
    for group in &groups {
        let about = |event: &&Value| {
            let payload = &event["payload"];
            [&payload["chatId"], &payload["group"]["id"]].contains(&&json!(group))
                && event["session"] == "default"
        };
        let numbers = events.iter().filter(about);
        let numbers: Vec<_> = numbers
            .map(|it| it["payload"]["sequence"].clone())
            .collect();
        let in_order: Vec<_> = (1..=numbers.len()).map(|n| json!(n)).collect();
        assert_eq!(numbers, in_order, "{group}");
    }
}
