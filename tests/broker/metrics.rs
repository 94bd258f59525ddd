//! What is exposed to Prometheus is what is documented, no less and no more.

use std::collections::BTreeMap;

use groupmq::observability::metrics::{ALL, MetricKind};
use serde_json::json;

use super::scene::Scene;

/// The metrics of an exposition: name, type, and the labels of their series.
fn exposed(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            all.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
        } else if !line.starts_with('#')
            && let Some((series, _)) = line.rsplit_once(' ')
        {
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let parts = ["_bucket", "_sum", "_count"];
            let name = parts
                .iter()
                .find_map(|part| name.strip_suffix(part))
                .unwrap_or(name);
            let labels = labels.trim_end_matches('}').split(',');
            let names = labels.filter_map(|label| label.split_once('='));
            let own = names.map(|(name, _)| name).filter(|name| *name != "le");
            if let Some((_, seen)) = all.get_mut(name) {
                *seen = own.map(ToOwned::to_owned).collect();
            }
        }
    }
    all
}

#[tokio::test]
async fn metrics_have_the_names_types_and_labels_that_are_documented() {
    let scene = Scene::shared().await;
    scene.assert_works("counted").await;
    // One that changes something is in the ledger.
    scene.groups(1).await;
    // A message that ends as a dead letter counts too.
    let reply = scene
        .call("wrong", "GetGroup", &json!({"groupId": 7}))
        .await;
    assert_eq!(reply["status"], "error", "{reply}");
    let (status, text) = scene.worker.get("/metrics").await.unwrap();
    assert_eq!(status, 200);

    let exposed = exposed(&text);
    for (name, (kind, labels)) in &exposed {
        let Some(metric) = ALL.iter().find(|metric| metric.name == name) else {
            panic!("{name} is exposed and not documented");
        };
        let wanted = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Seconds => "histogram",
        };
        assert_eq!(kind, wanted, "{name}");
        assert_eq!(labels, metric.labels, "{name}");
    }
    for metric in ALL.iter().filter(|metric| metric.labels.is_empty()) {
        assert!(
            exposed.contains_key(metric.name),
            "{} is not exposed",
            metric.name
        );
    }
    for name in [
        "groupmq_commands_total",
        "groupmq_command_duration_seconds",
        "groupmq_dead_letters_total",
        "groupmq_broker_connections_total",
    ] {
        assert!(exposed.contains_key(name), "{name} is not in\n{text}");
    }
    for stage in ["queue", "wait", "ledger", "engine", "confirm", "total"] {
        let series = format!("groupmq_command_stage_duration_seconds_count{{stage=\"{stage}\"}}");
        assert!(text.contains(&series), "{series} is not in\n{text}");
    }
    println!("{} of {} metrics have series", exposed.len(), ALL.len());
}
