//! The runbook has a section for each alert. `tests/docs.rs` checks its links and commands.

use super::observability::alerts;
use super::tools::read;

#[test]
fn each_alert_leads_to_its_section_in_the_runbook() {
    let runbook = read("deploy/RUNBOOK.md");
    // What is not about an alert stands behind them.
    let sections: Vec<_> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|section| section.starts_with("Groupmq"))
        .collect();
    assert_eq!(sections, alerts());
    let rules = read("deploy/observability/alerts.yaml");
    for alert in alerts() {
        let link = format!("runbook: deploy/RUNBOOK.md#{}\n", alert.to_lowercase());
        assert!(
            rules.contains(&link),
            "{alert} does not lead to its section"
        );
        let (_, section) = runbook.split_once(&format!("\n## {alert}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for part in ["**Means**: ", "**Look**", "**Do**"] {
            assert!(section.contains(part), "{alert} has no {part}");
        }
    }
}
