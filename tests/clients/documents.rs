//! Programs and sessions, taken out of the documents that show them.

pub(crate) const README: &str = include_str!("../../README.md");
pub(crate) const CLIENTS: &str = include_str!("../../docs/clients.md");
pub(crate) const DESIRED: &str = include_str!("../../docs/desired-state.md");
pub(crate) const OPERATING: &str = include_str!("../../docs/operating.md");
const ENGINES: &str = include_str!("../../docs/engines.md");

/// The block of a language that contains a word.
pub(crate) fn block(page: &str, language: &str, word: &str) -> String {
    let fence = format!("\n```{language}\n");
    let blocks = page.split(&fence).skip(1);
    let mut blocks = blocks.map(|rest| rest.split_once("\n```").unwrap().0);
    let found = blocks.find(|block| block.contains(word));
    let found = found.unwrap_or_else(|| panic!("no {language} block with {word}"));
    format!("{found}\n")
}

/// The commands typed at a prompt, each with the output that the page shows.
pub(crate) fn session(page: &str) -> Vec<(String, Vec<String>)> {
    let mut session: Vec<(String, Vec<String>)> = Vec::new();
    for line in block(page, "console", "$ groupmq").lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            session.push((command.to_owned(), Vec::new()));
        } else {
            session.last_mut().unwrap().1.push(line.to_owned());
        }
    }
    session
}

/// Compares line by line. Times may differ, and `…` stands for any lines.
pub(crate) fn assert_shown(command: &str, expected: &[String], shown: &str) {
    let lines: Vec<_> = shown.lines().map(timeless).collect();
    let mut rest = lines.as_slice();
    let mut gap = false;
    for line in expected {
        if line == "…" {
            gap = true;
            continue;
        }
        let line = timeless(line);
        let place = rest.iter().position(|it| *it == line);
        let place = place.filter(|place| gap || *place == 0);
        let place = place.unwrap_or_else(|| {
            panic!("the page shows {line:?}, but\n$ {command}\nprints\n{shown}");
        });
        rest = &rest[place + 1..];
        gap = false;
    }
    assert!(
        gap || rest.is_empty(),
        "the page shows less than\n$ {command}\nprints\n{shown}"
    );
}

/// A line whose time, if it has one, is no particular time.
fn timeless(line: &str) -> String {
    let words = line.split('"');
    let is_time = |word: &str| word.parse::<groupmq::contract::Timestamp>().is_ok();
    let words = words.map(|word| if is_time(word) { "<time>" } else { word });
    words.collect::<Vec<_>>().join("\"")
}

/// The words of a command line, some of them in single quotes.
pub(crate) fn words(line: &str) -> Vec<String> {
    let word = |word: &str| word.trim_matches('\'').to_owned();
    line.split_whitespace().map(word).collect()
}

/// The sandbox's special numbers, with the outcome and the code of each.
pub(crate) fn special_numbers() -> Vec<(String, String, String)> {
    let (_, table) = ENGINES
        .split_once("\n| number | outcome | code |\n")
        .unwrap();
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let numbers: Vec<_> = rows
        .map(|row| {
            let mut quoted = row.split('`').skip(1).step_by(2).map(str::to_owned);
            let code = row.trim_matches(['|', ' ']).rsplit(' ').next().unwrap();
            (
                quoted.next().unwrap(),
                quoted.next().unwrap(),
                code.to_owned(),
            )
        })
        .collect();
    assert_eq!(numbers.len(), 6);
    numbers
}
