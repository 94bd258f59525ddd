//! `apply` on a worker that is killed again and again.

use std::time::Duration;

use groupmq_test_support::worker::{Worker, store_in};

use super::apply::{Files, joins};
use crate::scene::Scene;
use crate::world;

const PEOPLE: usize = 1_000;
const KILLS: usize = 10;

#[tokio::test]
async fn a_thousand_people_are_added_once_each_by_a_worker_that_is_killed_ten_times() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let mut scene = Scene::shared_with(|options| {
        options
            .set("store.url", &store)
            .set("safety.limits", "on")
            .set("safety.add_participants.burst", "60")
            .set("safety.add_participants.refill", "5ms")
    })
    .await;
    let id = scene.groups(1).await.remove(0);
    let people: Vec<_> = (0..PEOPLE).map(|n| format!("4917100{n:05}")).collect();
    let files = Files::new(&format!(
        "groupId: {id}\nparticipants: {{file: members.csv, column: phone}}\n"
    ));
    files.write("members.csv", &format!("phone\n{}\n", people.join("\n")));
    let options = scene.options.clone();
    let kill = async {
        for kill in 0..KILLS {
            // More each time, and never all.
            let enough = (kill + 1) * (PEOPLE / KILLS) - PEOPLE / KILLS / 2;
            while size(&store, &id).await < enough {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            scene.worker.kill().unwrap();
            scene.worker = Worker::start(&scene.options).await.unwrap();
        }
    };
    let (applied, ()) = tokio::join!(files.apply(&options, &["--yes"]), kill);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.out.contains("  + add 1000 people: "), "{applied:?}");
    let joined = joins(&scene, &id, PEOPLE).await;
    let wanted: Vec<_> = people.iter().map(|it| format!("{it}@c.us")).collect();
    assert_eq!(joined, wanted);
    let again = files.apply(&options, &["--yes"]).await;
    assert!(again.out.ends_with("\n  is as wanted\n"), "{again:?}");
}

/// How many people a group has.
async fn size(store: &str, group: &str) -> usize {
    world::groups(store).await[group].state.members.len()
}
