//! README's tables say what the code says. `tests/clients` runs its programs.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]

use std::collections::BTreeSet;
use std::process::Command;

use groupmq::contract::{
    CommandType, EngineName, ErrorBody, ErrorCode, EventName, NoticeName, schema,
};
use groupmq::executor::{Rejected, Subject};
use groupmq::observability::metrics::{ALL, Kind};

const README: &str = include_str!("../README.md");

/// The rows of the table with this heading, cell by cell.
fn table(heading: &str) -> Vec<Vec<String>> {
    let (_, rest) = README
        .split_once(&format!("\n{heading}\n|"))
        .unwrap_or_else(|| panic!("README has no table {heading}"));
    rest.lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn assert_table(heading: &str, expected: impl Iterator<Item = Vec<String>>) {
    let expected: Vec<_> = expected.collect();
    let rows: Vec<_> = expected
        .iter()
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    assert!(
        table(heading) == expected,
        "README's table should be:\n{heading}\n{}",
        rows.join("\n")
    );
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

#[test]
fn every_error_code_is_there_with_cause_and_remedy() {
    assert_table(
        "| code | again | kept | cause | what to do |",
        ErrorCode::ALL.iter().map(|&error| {
            vec![
                code(error.as_str()),
                yes_or_no(error.retryable()),
                yes_or_no(is_kept(error)),
                error.cause().to_owned(),
                error.remedy().to_owned(),
            ]
        }),
    );
}

/// Whether a message that fails so becomes a dead letter.
fn is_kept(code: ErrorCode) -> bool {
    let rejected = Rejected {
        error: ErrorBody::new(code, ""),
        command_id: None,
        command_type: None,
        session: None,
    };
    let now = "2026-11-23T10:00:00Z".parse().unwrap();
    Subject::rejected(&rejected, b"")
        .refused(rejected.error.clone(), EngineName::Sandbox, now)
        .dead()
        .is_some()
}

#[test]
fn every_command_is_there_with_its_fields() {
    let rows = table("| type | payload | result | in WAHA |");
    let result = |number: usize| {
        rows.get(number)
            .map_or("", |row| row[2].as_str())
            .to_owned()
    };
    assert_table(
        "| type | payload | result | in WAHA |",
        CommandType::ALL
            .iter()
            .enumerate()
            .map(|(number, command)| {
                vec![
                    code(command.as_str()),
                    fields(*command),
                    result(number),
                    command.endpoint().map_or("–".to_owned(), code),
                ]
            }),
    );
}

/// The fields of a payload, with a question mark where they may be absent.
fn fields(command: CommandType) -> String {
    let schema = schema::payload(command);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields = schema["properties"].as_object().unwrap().keys();
    let field = |name: &String| {
        let optional = if required.iter().any(|it| it == name) {
            ""
        } else {
            "?"
        };
        format!("`{name}{optional}`")
    };
    fields.map(field).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_event_is_there() {
    let names: Vec<_> = table("| event | what happened |")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let groups = EventName::ALL.iter().map(|it| code(it.as_str()));
    let notices = NoticeName::ALL.iter().map(|it| code(it.as_str()));
    let expected: Vec<_> = groups.chain(notices).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_headers_of_dead_letters_are_those_that_the_worker_sets() {
    let source = include_str!("../src/amqp/message.rs");
    let set: BTreeSet<_> = source
        .split('"')
        .filter(|text| text.starts_with("groupmq-"))
        .map(code)
        .collect();
    let told = table("| header | what it says |");
    let told: BTreeSet<_> = told.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(told, set);
}

#[test]
fn every_metric_is_there_with_what_it_tells() {
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Seconds => "histogram",
    };
    let labels = |labels: &[&str]| {
        let labels: Vec<_> = labels.iter().map(|label| code(label)).collect();
        labels.join(", ")
    };
    assert_table(
        "| metric | type | labels | what it tells |",
        ALL.iter().map(|metric| {
            vec![
                code(metric.name),
                kind(metric.kind).to_owned(),
                labels(metric.labels),
                metric.help.to_owned(),
            ]
        }),
    );
}

#[test]
fn the_exit_codes_are_those_of_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_groupmq"))
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, codes) = help.split_once("Exit codes:\n").unwrap();
    assert_table(
        "| exit code | meaning |",
        codes.lines().filter_map(|line| {
            let (code, meaning) = line.trim().split_once("  ")?;
            Some(vec![code.to_owned(), meaning.to_owned()])
        }),
    );
}

#[test]
fn every_link_leads_to_something() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // Programs hold brackets that are no links.
    let prose: Vec<_> = README.split("\n```").step_by(2).collect();
    let prose = prose.concat();
    let headings: Vec<_> = prose
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    for link in prose.split("](").skip(1) {
        let (target, _) = link.split_once(')').unwrap();
        match target.strip_prefix('#') {
            Some(heading) => assert!(
                headings.iter().any(|it| it == heading),
                "no heading {target}"
            ),
            None => assert!(root.join(target).exists(), "no file {target}"),
        }
    }
}
