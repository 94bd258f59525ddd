//! What `doctor` sees of a way that is gone, while nobody puts it back; `topology apply` mends all of it.

use std::time::Instant;

use groupmq_test_support::rabbitmq::RabbitMq;
use serde_json::Value;

use super::stage::{Part, Stage};
use crate::scene::PATIENCE;

#[tokio::test]
async fn doctor_finds_each_way_that_is_gone_and_topology_apply_mends_it() {
    let mut stage = Stage::with(|options| options.set("topology.interval", "1h")).await;
    let well = stage.run(&["doctor"]).await;
    assert_eq!(well.code, 0, "{well:?}");
    assert!(
        well.out.contains("events reach the queues of 1 endpoints"),
        "{well:?}"
    );
    let is_binding = |part: &Part| matches!(part, Part::Binding { .. });
    let is_shown = |part: &Part| match part {
        // A webhook's retry is no ping's way, and of an endpoint's keys one is tried.
        Part::Binding { to, key, .. } => !to.contains(".webhook.") || key == "*.group.join",
        _ => false,
    };
    let mut parts: Vec<_> = stage.parts().await.into_iter().filter(is_binding).collect();
    parts.push(Part::Binding {
        from: stage.name("events"),
        key: "*.group.join".to_owned(),
        to: stage.name("webhook.hook"),
    });
    for part in parts.iter().filter(|it| is_shown(it)) {
        let said = stage.until_missed(part).await;
        let report: Value = serde_json::from_str(&said.out).unwrap();
        let checks = report["checks"].as_array().unwrap().iter();
        let wrong: Vec<_> = checks.filter(|check| check["ok"] == false).collect();
        println!("{part:?}: {wrong:?}");
        assert_eq!(wrong.len(), 1, "{part:?}: {report}");
        let finding = wrong[0]["finding"].as_str().unwrap();
        assert!(finding.contains("`groupmq topology apply`"), "{finding}");
        assert_eq!(stage.run(&["topology", "apply"]).await.code, 0);
        stage.until_whole(part).await;
    }
    stage.only_events_were_delivered();
    // Nothing of it stays anywhere.
    assert!(stage.producer.dead_letters().await.unwrap().is_empty());
    let broker = RabbitMq::shared().await.unwrap();
    let (orphan, webhooks) = (stage.name("orphan"), stage.name("dead.webhooks"));
    // RabbitMQ's counts may be a second old.
    let begun = Instant::now();
    let depths = loop {
        let depths = broker.queue_depths().await.unwrap();
        if depths[&webhooks] == 0 || begun.elapsed() > PATIENCE {
            break depths;
        }
    };
    // One that came back while the return exchange led nowhere is an orphan for a minute.
    assert!(depths[&orphan] <= 1, "{}", depths[&orphan]);
    assert_eq!(depths[&webhooks], 0);
}
