//! Workers that are killed while WAHA makes groups: never two groups for one `CreateGroup`.

use std::collections::BTreeMap;
use std::time::Duration;

use groupmq_test_support::postgres::Postgres;
use groupmq_test_support::producer::Command;
use groupmq_test_support::worker::{Worker, store_in};
use rand::Rng as _;
use serde_json::json;

use crate::behaviour::stage::{Kind, Stage};
use crate::scene::PATIENCE;
use crate::torture::{self, Chance};

const GROUPS: usize = 24;

async fn never_two_groups(kind: Kind, store: &str) {
    let mut chance = Chance::new();
    let seed = chance.seed;
    println!("{kind:?}: seed {seed}");
    let mut stage = Stage::with(kind, |options| options.set("store.url", store)).await;
    // WAHA takes its time, before and after: a kill meets a creation at any stage of it.
    let pace = Duration::from_millis(120);
    stage.waha().pace(pace, pace);
    let name = |n: usize| format!("Once {n}");
    let create = |n: usize| {
        let payload = json!({"name": name(n), "participants": ["491700000001@c.us"]});
        Command::new(&format!("once-{n}"), "CreateGroup", "default", &payload)
    };
    let mut kills = 0;
    for (n, batch) in (0..GROUPS)
        .collect::<Vec<_>>()
        .chunks(GROUPS / 3)
        .enumerate()
    {
        let batch: Vec<_> = batch.iter().map(|n| create(*n)).collect();
        stage.scene.producer.send_all(batch).await.unwrap();
        for _ in 0..torture::kills(3).div_ceil(3) {
            let pause = Duration::from_millis(chance.rng.random_range(0..500));
            tokio::time::sleep(pause).await;
            stage.scene.worker.kill().unwrap();
            kills += 1;
            stage.scene.worker = Worker::start(&stage.scene.options).await.unwrap();
        }
        println!("{kind:?}: batch {n}, {kills} kills");
    }
    stage
        .scene
        .producer
        .answered(GROUPS, 3 * PATIENCE)
        .await
        .unwrap();
    let mut made: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for group in stage.waha().groups() {
        made.entry(group.subject).or_default().push(group.id);
    }
    for n in 0..GROUPS {
        let reply = stage.scene.producer.seen().answer_to(&format!("once-{n}"));
        assert_eq!(reply["status"], "ok", "seed {seed}: {reply}");
        let ids = made.get(&name(n)).map_or(&[][..], Vec::as_slice);
        assert_eq!(ids.len(), 1, "seed {seed}: {} is there as {ids:?}", name(n));
        assert_eq!(reply["result"]["id"], ids[0], "seed {seed}");
    }
    assert_eq!(made.len(), GROUPS);
    assert_eq!(stage.scene.producer.dead_letters().await.unwrap().len(), 0);
    stage.assert_valid();
}

async fn on_sqlite(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    never_two_groups(kind, &store_in(folder.path())).await;
}

#[tokio::test]
async fn webjs_makes_one_group_for_each_creation_however_often_workers_are_killed() {
    on_sqlite(Kind::Webjs).await;
}

#[tokio::test]
async fn noweb_makes_one_group_for_each_creation_however_often_workers_are_killed() {
    on_sqlite(Kind::Noweb).await;
}

#[tokio::test]
async fn gows_makes_one_group_for_each_creation_however_often_workers_are_killed() {
    let database = Postgres::shared().unwrap().database().unwrap();
    never_two_groups(Kind::Gows, &database.url).await;
}
