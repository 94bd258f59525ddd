//! The runbook: a section for each alert, and commands that exist.

use std::process::Command;

use super::observability::alerts;
use super::tools::{read, repository, run};

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

#[test]
fn the_commands_of_groupmq_in_runbook_and_readme_exist() {
    let mut tried = 0;
    for path in ["deploy/RUNBOOK.md", "deploy/README.md"] {
        let text = read(path);
        // In blocks, and within sentences.
        let blocks = text.lines().filter(|line| line.starts_with("groupmq "));
        let phrases = text.split('`').skip(1).step_by(2);
        let phrases =
            phrases.filter(|phrase| phrase.starts_with("groupmq ") && !phrase.contains('\n'));
        for line in blocks.chain(phrases) {
            // With its own options, and --help, so that it does nothing.
            let words = line.split(' ').skip(1);
            run(Command::new(env!("CARGO_BIN_EXE_groupmq"))
                .args(words)
                .arg("--help"));
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn every_link_leads_to_something() {
    for path in ["deploy/RUNBOOK.md", "deploy/README.md"] {
        let text = read(path);
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').unwrap();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                path.to_owned()
            } else {
                format!("deploy/{file}")
            };
            assert!(repository(&file).exists(), "{path}: no file {target}");
            if !anchor.is_empty() {
                let heads = read(&file);
                let mut heads = heads.lines().filter_map(|line| line.strip_prefix("## "));
                let fits = |head: &str| head.to_lowercase().replace(' ', "-") == anchor;
                assert!(heads.any(fits), "{path}: no heading {target}");
            }
        }
    }
}
