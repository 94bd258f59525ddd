//! The documents: tables match the code, links and commands exist, README stays short.
//!
//! `tests/clients` runs the programs that they show. `src/gateway/problem.rs` checks the table of HTTP
//! statuses, `src/store/db/codes.rs` the runbook's table of database errors, `tests/deploy` that each alert
//! has a section in the runbook.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test helper may stop the test"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use groupmq::contract::{
    CommandType, EngineName, ErrorBody, ErrorCode, EventName, NoticeName, schema,
};
use groupmq::executor::{CommandIdentity, Rejected};
use groupmq::observability::metrics::{ALL, MetricKind};

/// Where the documents are, from the repository's root.
const FOLDERS: [&str; 3] = ["", "docs", "deploy"];

fn repository(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The paths of the documents in one of the folders.
fn documents_in(folder: &str) -> Vec<PathBuf> {
    let entries = repository(folder).read_dir().unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let mut documents: Vec<_> = names
        .map(|name| Path::new(folder).join(name))
        .filter(|path| path.extension().is_some_and(|it| it == "md"))
        .collect();
    documents.sort();
    documents
}

fn documents() -> Vec<PathBuf> {
    FOLDERS.into_iter().flat_map(documents_in).collect()
}

/// A document without its code blocks, in which brackets are no links and `#` begins no heading.
fn prose(document: &str) -> String {
    document.split("\n```").step_by(2).collect()
}

/// The anchor that GitHub gives to a heading.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter_map(|character| match character {
        ' ' => Some('-'),
        '-' | '_' => Some(character),
        _ => character.is_alphanumeric().then_some(character),
    });
    kept.collect()
}

/// The rows of a page's table with this heading, cell by cell.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let page_text = read(page);
    let (_, rest) = page_text
        .split_once(&format!("\n{heading}\n|"))
        .unwrap_or_else(|| panic!("{page} has no table {heading}"));
    rest.lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn assert_table(page: &str, heading: &str, expected: impl Iterator<Item = Vec<String>>) {
    let expected: Vec<_> = expected.collect();
    let rows: Vec<_> = expected
        .iter()
        .map(|cells| format!("| {} |", cells.join(" | ")))
        .collect();
    assert!(
        table(page, heading) == expected,
        "the table in {page} should be:\n{heading}\n{}",
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
        "docs/errors.md",
        "| code | retryable | kept | cause | remedy |",
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
    CommandIdentity::rejected(&rejected, b"")
        .refused(rejected.error.clone(), EngineName::Sandbox, now)
        .dead()
        .is_some()
}

#[test]
fn every_command_is_there_with_its_fields() {
    let page = "docs/commands.md";
    let heading = "| type | payload | result | in WAHA |";
    let rows = table(page, heading);
    let result = |number: usize| {
        rows.get(number)
            .map_or("", |row| row[2].as_str())
            .to_owned()
    };
    assert_table(
        page,
        heading,
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
    let names: Vec<_> = table("docs/events.md", "| event | published when |")
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
    let rows = table("docs/errors.md", "| header | meaning |");
    let documented: BTreeSet<_> = rows.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(documented, set);
}

#[test]
fn every_metric_is_there_with_its_help() {
    let kind = |kind| match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Seconds => "histogram",
    };
    let labels = |labels: &[&str]| {
        let labels: Vec<_> = labels.iter().map(|label| code(label)).collect();
        labels.join(", ")
    };
    assert_table(
        "docs/metrics.md",
        "| metric | type | labels | description |",
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
        "docs/clients.md",
        "| exit code | meaning |",
        codes.lines().filter_map(|line| {
            let (code, meaning) = line.trim().split_once("  ")?;
            Some(vec![code.to_owned(), meaning.to_owned()])
        }),
    );
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut tried = 0;
    for path in documents() {
        let document = read(&path);
        for link in prose(&document).split("](").skip(1) {
            let (target, _) = link.split_once(')').unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let from = path.display();
            assert!(repository(&file).exists(), "{from}: no file {target}");
            if !heading.is_empty() {
                let linked = prose(&read(&file));
                let mut headings = linked.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|it| anchor(it) == heading),
                    "{from}: no heading {target}"
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn readme_is_short_and_links_to_every_page() {
    let readme = read("README.md");
    assert!(
        readme.len() <= 10 * 1024,
        "README has {} bytes",
        readme.len()
    );
    let pages = ["docs", "deploy"].into_iter().flat_map(documents_in);
    for page in pages {
        let link = format!("]({})", page.display());
        assert!(readme.contains(&link), "README has no link {link}");
    }
}

#[test]
fn the_commands_of_groupmq_exist() {
    let mut tried = 0;
    // A changelog may name what is gone.
    for path in documents()
        .into_iter()
        .filter(|path| !path.ends_with("CHANGELOG.md"))
    {
        let document = read(&path);
        let blocks = document.split("\n```").skip(1).step_by(2);
        let lines = blocks.flat_map(str::lines);
        let lines = lines.map(|line| line.trim_start_matches("$ "));
        let lines = lines.map(|line| line.split(" #").next().unwrap().to_owned());
        let prose = prose(&document).replace('\n', " ");
        let phrases = prose.split('`').skip(1).step_by(2).map(str::to_owned);
        for command in lines.chain(phrases) {
            let Some(arguments) = command.strip_prefix("groupmq ") else {
                continue;
            };
            // --help checks the options and does nothing.
            let output = Command::new(env!("CARGO_BIN_EXE_groupmq"))
                .args(arguments.split_whitespace())
                .arg("--help")
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            let from = path.display();
            assert!(output.status.success(), "{from}: {command}\n{error}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
}
