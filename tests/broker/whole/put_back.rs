//! `topology.mode = "declare"`: each part is put back while commands come, and none stays unanswered.

use super::stage::{Part, Stage};

async fn each_comes_back(which: impl Fn(&Part) -> bool, shards: &str) {
    let mut stage = Stage::with(|options| options.set("topology.shards", shards)).await;
    let parts: Vec<_> = stage.parts().await.into_iter().filter(which).collect();
    assert!(parts.len() > 3, "{parts:?}");
    for part in &parts {
        stage.delete(part).await;
        stage.until_whole(part).await;
    }
    stage.nothing_was_done_twice().await;
    stage.only_events_were_delivered();
    let log = stage.worker.log();
    for part in parts.iter().filter_map(Part::called) {
        // That of an endpoint is its line's to make again.
        if !part.contains(".webhook.") {
            assert!(log.contains(&part), "{part}");
        }
    }
    assert!(!log.contains("given up"));
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn an_exchange_that_is_deleted_comes_back_with_all_its_bindings() {
    each_comes_back(|part| matches!(part, Part::Exchange(_)), "1").await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_comes_back_with_all_its_bindings() {
    each_comes_back(|part| matches!(part, Part::Queue(_)), "1").await;
}

#[tokio::test]
async fn a_binding_that_is_removed_comes_back() {
    each_comes_back(|part| matches!(part, Part::Binding { .. }), "1").await;
}

#[tokio::test]
async fn the_shards_come_back_too_and_are_as_many_as_before() {
    let of_shards = |part: &Part| match part {
        Part::Exchange(name) | Part::Queue(name) => name.contains(".commands."),
        Part::Binding { to, .. } => to.contains(".commands."),
    };
    each_comes_back(of_shards, "3").await;
}

#[tokio::test]
async fn what_is_put_back_is_counted() {
    let mut stage = Stage::with(|options| options).await;
    assert_eq!(stage.metric("groupmq_topology_repairs_total").await, 0);
    for end in ["events", "orphan"] {
        let exchange = Part::Exchange(stage.name(end));
        stage.delete(&exchange).await;
        stage.until_whole(&exchange).await;
    }
    assert_eq!(stage.metric("groupmq_topology_repairs_total").await, 2);
    assert_eq!(stage.metric("groupmq_topology_missing").await, 0);
    let log = stage.worker.log();
    assert!(log.contains("are declared again with their bindings"));
}
