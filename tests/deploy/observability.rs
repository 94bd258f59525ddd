//! Alert rules and dashboard: right by Prometheus' own tools, and about metrics that exist.

use std::collections::BTreeSet;
use std::process::Command;

use groupmq::observability::metrics::{ALL, MetricKind};
use groupmq_test_support::rabbitmq::{Options, RabbitMq};
use serde_json::Value;

use super::tools::{read, repository, run};

fn promtool() -> Command {
    Command::new("promtool")
}

/// Every query of the dashboard.
pub(crate) fn dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/observability/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect();
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

/// The alerts' names.
pub(crate) fn alerts() -> Vec<String> {
    let names: Vec<_> = read("deploy/observability/alerts.yaml")
        .lines()
        .filter_map(|line| Some(line.trim().strip_prefix("- alert: ")?.to_owned()))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

/// The names in a text that begin so.
fn names<'a>(text: &'a str, beginning: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    text.match_indices(beginning).filter_map(move |(at, _)| {
        let (before, rest) = text.split_at(at);
        let inside = before.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        (!inside).then(|| rest.split_at(end))
    })
}

/// The labels in the braces that follow a metric.
fn labels(rest: &str) -> Vec<&str> {
    let Some(inside) = rest.strip_prefix('{') else {
        return Vec::new();
    };
    let (inside, _) = inside.split_once('}').unwrap();
    inside
        .split("\", ")
        .map(|label| label.split(['=', '!']).next().unwrap().trim())
        .collect()
}

/// The beginning of a text that is in parentheses.
fn parenthesis(text: &str) -> &str {
    let mut depth = 0;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    text.split_at(end.unwrap()).0
}

#[test]
fn the_alert_rules_are_valid_and_each_of_them_fires() {
    let rules = repository("deploy/observability/alerts.yaml");
    run(promtool()
        .args(["check", "rules", "--lint-fatal"])
        .arg(&rules));
    let tests = repository("deploy/observability/alerts.test.yaml");
    run(promtool().args(["test", "rules"]).arg(&tests));
    let tests = read("deploy/observability/alerts.test.yaml");
    for alert in alerts() {
        assert!(tests.contains(&alert), "{alert} is not tested");
    }
}

#[test]
fn the_queries_of_the_dashboard_are_valid() {
    let rules = dashboard().into_iter().enumerate().map(|(number, query)| {
        let query = query.replace("$__rate_interval", "5m");
        serde_json::json!({"record": format!("query{number}"), "expr": query})
    });
    let rules: Vec<_> = rules.collect();
    // JSON is YAML.
    let file = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dashboard.yaml");
    std::fs::write(&path, file.to_string()).unwrap();
    run(promtool().args(["check", "rules"]).arg(&path));
}

#[test]
fn the_dashboard_shows_every_metric() {
    let dashboard = dashboard().join("\n");
    for metric in ALL {
        let mut shown = names(&dashboard, metric.name);
        let bucket = format!("{}_bucket", metric.name);
        let shown = shown.any(|(name, _)| [metric.name, &bucket].contains(&name));
        assert!(shown, "{} is not on the dashboard", metric.name);
    }
}

#[test]
fn rules_and_dashboard_name_metrics_and_labels_that_exist() {
    let mut texts = dashboard();
    texts.push(read("deploy/observability/alerts.yaml"));
    let mut used = BTreeSet::new();
    for text in &texts {
        for (name, rest) in names(text, "groupmq_") {
            let metric = ALL.iter().find(|metric| {
                metric.name == name
                    || metric.kind == MetricKind::Seconds
                        && name
                            .strip_prefix(metric.name)
                            .is_some_and(|part| matches!(part, "_bucket" | "_sum" | "_count"))
            });
            let metric = metric.unwrap_or_else(|| panic!("there is no metric {name}: {text}"));
            used.insert(metric.name);
            for label in labels(rest) {
                assert!(
                    metric.labels.contains(&label),
                    "{name} has no label {label}"
                );
            }
        }
        for by in text.split("by (").skip(1) {
            let (by, of) = by.split_once(") ").unwrap();
            for (name, _) in names(parenthesis(of), "groupmq_") {
                let own = ALL.iter().find(|metric| name.starts_with(metric.name));
                for label in by.split(',').map(str::trim) {
                    let known = label == "le" || own.is_some_and(|it| it.labels.contains(&label));
                    assert!(known, "{name} has no label {label}");
                }
            }
        }
    }
    assert!(used.len() > 15, "{used:?}");
}

mod own_node {
    use groupmq_test_support::worker;

    use super::*;

    #[tokio::test]
    async fn the_broker_has_the_metrics_of_queues_that_are_asked_for() {
        let options = Options::default().plugin("rabbitmq_prometheus");
        let broker = RabbitMq::start(options).await.unwrap();
        let binary = env!("CARGO_BIN_EXE_groupmq");
        run(&mut worker::Options::new(binary, &broker.url(), "groupmq")
            .command(&["topology", "apply"]));
        let path =
            "/metrics/detailed?vhost=%2F&family=queue_coarse_metrics&family=queue_consumer_count";
        let mut texts = dashboard();
        texts.push(read("deploy/observability/alerts.yaml"));
        let wanted: BTreeSet<_> = texts
            .iter()
            .flat_map(|text| names(text, "rabbitmq_"))
            // Names of the rules file itself are cut off with dots.
            .filter(|(name, _)| *name != "rabbitmq_detailed_")
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(wanted.len(), 3, "{wanted:?}");
        let shard = r#"queue="groupmq.commands.0""#;
        let begun = std::time::Instant::now();
        loop {
            let exposed = broker.prometheus(path).await.unwrap();
            let has = |name: &String| {
                exposed
                    .lines()
                    .any(|line| line.starts_with(&format!("{name}{{")) && line.contains(shard))
            };
            if wanted.iter().all(has) {
                return;
            }
            // What queues report is a tick old.
            assert!(begun.elapsed().as_secs() < 60, "{exposed}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    }
}
