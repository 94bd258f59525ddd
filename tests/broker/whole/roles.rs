//! Who may make what: a process that may not, or does not know all bindings, names what is missing.

use groupmq_test_support::worker::Worker;

use super::stage::{Part, Stage, until};
use crate::queues::Queues;

#[tokio::test]
async fn in_passive_mode_each_missing_part_is_named_until_topology_apply_has_made_it() {
    let mut stage = Stage::with(|options| options.set("topology.mode", "passive")).await;
    let endpoint = stage.name("webhook.hook");
    let parts = stage.parts().await;
    for part in parts.iter().filter(|it| it.called().is_some()) {
        // That of an endpoint is made again whatever the mode: endpoints come and go at run time.
        if *part == Part::Queue(endpoint.clone()) {
            continue;
        }
        let called = part.called().unwrap();
        stage.delete(part).await;
        let is_named = async || {
            let (status, said) = stage.worker.get("/readyz").await.unwrap();
            status == 503 && said.contains(&called)
        };
        until(is_named, &called).await;
        let is_counted = async || stage.metric("groupmq_topology_missing").await == 1;
        until(is_counted, &called).await;
        let said = stage.run(&["doctor"]).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.contains(&called), "{said:?}");

        let applied = stage.run(&["topology", "apply"]).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        stage
            .worker
            .until_ready(crate::scene::PATIENCE)
            .await
            .unwrap();
        stage.until_whole(part).await;
    }
    assert_eq!(stage.metric("groupmq_topology_repairs_total").await, 0);
    assert!(
        stage
            .worker
            .log()
            .contains("the topology on the broker is incomplete")
    );
    stage.nothing_was_done_twice().await;
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
}

#[tokio::test]
async fn a_process_that_does_not_know_the_bindings_of_an_exchange_does_not_make_it() {
    let mut stage = Stage::with(|options| options).await;
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
    for (role, end) in [
        ("gateway", "commands"),
        ("gateway", "events"),
        ("webhooks", "return"),
    ] {
        let options = stage.options.clone().set("roles", role);
        let mut alone = Worker::start(&options).await.unwrap();
        let exchange = Part::Exchange(stage.name(end));
        stage.delete(&exchange).await;
        let called = exchange.called().unwrap();
        let is_named = async || {
            let (status, said) = alone.get("/readyz").await.unwrap();
            status == 503 && said.contains(&called) && said.contains("role commands")
        };
        until(is_named, role).await;

        // Whoever executes commands puts it back, and nobody has to be started anew.
        let executing = stage.options.clone().set("roles", "commands,webhooks");
        stage.worker = Worker::start(&executing).await.unwrap();
        alone.until_ready(crate::scene::PATIENCE).await.unwrap();
        assert_eq!(stage.worker.stop().await.unwrap(), 0);
        assert_eq!(alone.stop().await.unwrap(), 0);
    }
    let queues = Queues::connect(&stage.url).await;
    assert!(queues.has(&stage.name("commands.0")).await);
}

#[tokio::test]
async fn a_process_that_only_delivers_puts_the_exchange_of_events_back_with_every_endpoint() {
    let mut stage = Stage::with(|options| options).await;
    // Another one executes commands, and would see to it within the hour.
    assert_eq!(stage.worker.stop().await.unwrap(), 0);
    let commands = stage.options.clone().set("topology.interval", "1h");
    let mut executing = Worker::start(&commands.set("roles", "commands"))
        .await
        .unwrap();
    let delivering = stage.options.clone().set("roles", "webhooks,gateway");
    stage.worker = Worker::start(&delivering).await.unwrap();
    let exchange = Part::Exchange(stage.name("events"));
    let is_back = async || {
        let is_back = stage.metric("groupmq_topology_repairs_total").await > 0;
        if !is_back {
            // While it starts, the other one may have put it back.
            stage.delete(&exchange).await;
        }
        is_back
    };
    until(is_back, "it does not come back").await;
    stage.until_delivered().await;
    for worker in [&mut stage.worker, &mut executing] {
        assert_eq!(worker.stop().await.unwrap(), 0);
    }
}
