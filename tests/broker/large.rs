//! What would be larger than the broker takes: it is answered with how to ask for less, and the worker goes on.

use groupmq_test_support::worker::store_in;
use serde_json::json;

use crate::scene::Scene;
use crate::world;

#[tokio::test]
async fn a_list_that_cannot_be_sent_takes_no_more_memory_than_one_that_can() {
    const GROUPS: usize = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(folder.path());
    let scene = Scene::shared_with(|options| options.set("store.url", &store)).await;
    scene.assert_works("before").await;
    // About 100 MB, of which a message holds 16 MiB.
    world::fill(&store, GROUPS).await;
    let before = scene.worker.status("VmHWM").unwrap();
    let all = scene.call("all", "ListGroups", &json!({})).await;
    assert_eq!(all["error"]["code"], "INVALID_PAYLOAD", "{all}");
    assert_eq!(
        all["error"]["details"][0]["path"], "/payload/limit",
        "{all}"
    );
    let most = scene.worker.status("VmHWM").unwrap();
    println!("resident: {before} KiB before, {most} KiB at most");
    assert!(most < before + 96 * 1024, "{most} KiB, {before} KiB before");
    let part = json!({"limit": 500, "offset": GROUPS - 250});
    let part = scene.call("part", "ListGroups", &part).await;
    assert_eq!(part["result"].as_array().unwrap().len(), 250);
    let count = scene.call("count", "CountGroups", &json!({})).await;
    assert_eq!(count["result"]["count"], GROUPS);
}

mod own_node {
    use groupmq_test_support::rabbitmq::{Options, RabbitMq};
    use serde_json::json;

    use crate::scene::Scene;

    const MOST: &str = "131072";
    const GROUPS: usize = 6;
    const PEOPLE: usize = 400;

    #[tokio::test]
    async fn a_list_that_the_broker_does_not_take_can_be_had_in_parts() {
        let broker = Options::default().config(&format!("max_message_size = {MOST}"));
        let broker = RabbitMq::start(broker).await.unwrap();
        let most =
            |options: groupmq_test_support::worker::Options| options.set("amqp.message_max", MOST);
        let scene = Scene::at(&broker.url(), most).await;
        for group in 0..GROUPS {
            let person = |n| format!("4917{n:08}@c.us");
            let people: Vec<_> = (0..PEOPLE).map(person).collect();
            let new = json!({"name": "Many", "participants": people});
            let id = format!("new-{group}");
            let made = scene.call(&id, "CreateGroup", &new).await;
            assert_eq!(made["status"], "ok", "{made}");
        }
        let all = scene.call("all", "ListGroups", &json!({})).await;
        assert_eq!(all["error"]["code"], "INVALID_PAYLOAD", "{all}");
        let wrong = &all["error"]["details"][0];
        assert_eq!(wrong["path"], "/payload/limit", "{all}");
        for (id, less) in [
            ("one", json!({"limit": 1, "offset": 5})),
            ("bare", json!({"exclude": ["participants"]})),
        ] {
            let part = scene.call(id, "ListGroups", &less).await;
            assert_eq!(part["status"], "ok", "{part}");
        }
        let log = scene.worker.log();
        assert!(!log.contains("link to the broker is down"), "{log}");
    }
}
