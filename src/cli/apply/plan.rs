//! What `groupmq apply` would do to a group, and what it has done, as people read it.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::file::Wanted;
use crate::cli::output::printable;
use crate::contract::{
    Change, CommandType, EnsuredGroup, ErrorBody, Outcome, OutcomeKind, ParticipantId,
};

/// How many people a line names.
const NAMED: usize = 20;

/// How much of a text a line shows.
const SHOWN: usize = 120;

/// The differences of a group.
pub(super) fn plan(wanted: &Wanted, ensured: &EnsuredGroup) -> String {
    let mut lines = vec![head(wanted, ensured)];
    if ensured.changes.is_empty() {
        lines.push("  is as wanted".to_owned());
    }
    lines.extend(differences(&ensured.changes));
    if let Some(whole) = removed_of(ensured).filter(|it| it.is_most()) {
        lines.push(format!(
            "  ! removes {} of {} people, more than half: this needs --yes-remove",
            whole.removed, whole.all
        ));
    }
    if let Some(seconds @ 1..) = ensured.seconds {
        lines.push(format!(
            "  takes {}, since the account's limits let no more through",
            roughly(Duration::from_secs(seconds))
        ));
    }
    lines.join("\n")
}

/// What was done to a group, and who was refused.
pub(super) fn summary(wanted: &Wanted, ensured: &EnsuredGroup) -> String {
    let mut lines = vec![head(wanted, ensured)];
    if let (true, Some(id)) = (ensured.created, &ensured.group_id) {
        lines.push(format!(
            "  created {id}: write `groupId: {id}` into {}, or a second group will follow",
            wanted.place
        ));
    }
    if ensured.changes.is_empty() {
        lines.push("  was as wanted".to_owned());
    }
    let refused: Vec<_> = ensured
        .outcomes
        .iter()
        .filter(|it| it.outcome != OutcomeKind::Ok)
        .collect();
    let is_done = |who: &ParticipantId| !refused.iter().any(|it| it.id == *who);
    for mut change in merged(&ensured.changes) {
        change.participants.retain(is_done);
        lines.extend(difference(&change));
    }
    for change in ensured.changes.iter().filter(|it| it.error.is_some()) {
        if let Some(error) = &change.error {
            lines.push(format!(
                "  ! {}: {}",
                what(change.command_type),
                words(error)
            ));
        }
    }
    lines.extend(refusals(&refused));
    lines.join("\n")
}

/// The answer to a group's command that is an error.
pub(super) fn refusal(wanted: &Wanted, error: &ErrorBody) -> String {
    let mut lines = format!("{}\n  ! {}", title(wanted), words(error));
    for detail in error.further_details() {
        write!(lines, "\n    {}: {}", detail.path, detail.reason).ok();
    }
    lines
}

/// How many of a group's people a plan removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Removal {
    removed: usize,
    all: usize,
}

impl Removal {
    /// Whether it is so many that the worker asks for a confirmation.
    pub(super) const fn is_most(self) -> bool {
        2 * self.removed > self.all
    }
}

pub(super) fn removed_of(ensured: &EnsuredGroup) -> Option<Removal> {
    let group = ensured.group.as_ref()?;
    let removals = ensured.changes.iter();
    let removals = removals.filter(|it| it.command_type == CommandType::RemoveParticipants);
    Some(Removal {
        removed: removals.map(|it| it.participants.len()).sum(),
        all: group.participants.as_ref().map_or(0, Vec::len),
    })
}

/// A duration as people say it.
pub(super) fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (number, unit) = match seconds {
        0..90 => (seconds, "second"),
        90..5_400 => ((seconds + 30) / 60, "minute"),
        5_400..172_800 => ((seconds + 1_800) / 3_600, "hour"),
        _ => ((seconds + 43_200) / 86_400, "day"),
    };
    format!(
        "about {}",
        count(usize::try_from(number).unwrap_or(usize::MAX), unit)
    )
}

/// A number of things.
pub(super) fn count(number: usize, thing: &str) -> String {
    match (number, thing) {
        (1, "people") => "1 person".to_owned(),
        (1, _) => format!("1 {thing}"),
        (_, "people") => format!("{number} people"),
        _ => format!("{number} {thing}s"),
    }
}

/// Where a group is in the files, and what it is called.
pub(super) fn title(wanted: &Wanted) -> String {
    format!("{}  {}", wanted.place, printable(&wanted.title(), SHOWN))
}

fn head(wanted: &Wanted, ensured: &EnsuredGroup) -> String {
    let group = match &ensured.group_id {
        Some(id) => id.to_string(),
        None => "a new group".to_owned(),
    };
    format!("{} ({group}, session {})", title(wanted), wanted.session)
}

/// The changes, with those of one kind together: the worker makes some in several steps.
fn merged(changes: &[Change]) -> Vec<Change> {
    let mut merged: Vec<Change> = Vec::new();
    for change in changes.iter().filter(|it| it.error.is_none()) {
        let same = merged
            .iter_mut()
            .find(|it| it.command_type == change.command_type);
        match same {
            Some(same) => same.participants.extend_from_slice(&change.participants),
            None => merged.push(change.clone()),
        }
    }
    merged
}

fn differences(changes: &[Change]) -> impl Iterator<Item = String> {
    merged(changes).into_iter().filter_map(|it| difference(&it))
}

/// A line about a change; none if it is about people, and about nobody.
fn difference(change: &Change) -> Option<String> {
    let people = &change.participants;
    let (sign, verb) = match change.command_type {
        CommandType::CreateGroup => {
            let name = change.to.as_ref().map_or_else(String::new, value);
            let with = if people.is_empty() {
                String::new()
            } else {
                format!(" with {}", listed(people))
            };
            return Some(format!("  + create the group {name}{with}"));
        }
        CommandType::AddParticipants => ('+', "add"),
        CommandType::RemoveParticipants => ('-', "remove"),
        CommandType::PromoteAdmin => ('~', "promote"),
        CommandType::DemoteAdmin => ('~', "demote"),
        other => {
            let from = change.from.as_ref().map_or("?".to_owned(), value);
            let to = change.to.as_ref().map_or("?".to_owned(), value);
            return Some(format!("  ~ {}: {from} → {to}", what(other)));
        }
    };
    (!people.is_empty()).then(|| format!("  {sign} {verb} {}", listed(people)))
}

/// What a command sets: `SetGroupSubject` the `subject`.
fn what(command: CommandType) -> String {
    let name = command.as_str();
    let name = name.strip_prefix("Set").unwrap_or(name);
    let name = name.strip_prefix("Group").unwrap_or(name);
    let mut letters = name.chars();
    let first = letters.next().map(|it| it.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

fn value(value: &Value) -> String {
    shortened(&value.to_string())
}

fn words(error: &ErrorBody) -> String {
    format!(
        "{}: {}",
        error.code.as_str(),
        printable(&error.message, 1_000)
    )
}

fn shortened(text: &str) -> String {
    let short = printable(text, SHOWN);
    if text.chars().count() > SHOWN {
        format!("{short}…")
    } else {
        short
    }
}

/// People by number, the first of them by name.
fn listed(people: &[ParticipantId]) -> String {
    format!("{}: {}", count(people.len(), "people"), names(people))
}

fn names(people: &[ParticipantId]) -> String {
    let name = |id: &ParticipantId| id.as_str().trim_end_matches("@c.us").to_owned();
    let named: Vec<_> = people.iter().take(NAMED).map(name).collect();
    let more = match people.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

/// Who was refused, by reason.
fn refusals(refused: &[&Outcome]) -> Vec<String> {
    let mut kinds: Vec<(String, Vec<ParticipantId>)> = Vec::new();
    for outcome in refused {
        let kind = serde_json::to_value(outcome.outcome).unwrap_or_default();
        let kind = format!("{} ({})", kind.as_str().unwrap_or_default(), outcome.code);
        match kinds.iter_mut().find(|it| it.0 == kind) {
            Some((_, people)) => people.push(outcome.id.clone()),
            None => kinds.push((kind, vec![outcome.id.clone()])),
        }
    }
    let line =
        |(kind, people): &(String, Vec<ParticipantId>)| format!("  ! {kind}: {}", listed(people));
    kinds.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(change: Value) -> Change {
        serde_json::from_value(change).unwrap()
    }

    #[test]
    fn changes_of_one_kind_are_one_line_which_names_the_first_people() {
        let people = |range: std::ops::Range<u64>| -> Vec<String> {
            range.map(|n| format!("4917000000{n}@c.us")).collect()
        };
        let add = |range| change(json!({"type": "AddParticipants", "participants": people(range)}));
        let lines: Vec<_> = differences(&[add(10..25), add(25..40)]).collect();
        let [line] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert!(
            line.starts_with("  + add 30 people: 491700000010, "),
            "{line}"
        );
        assert!(line.ends_with(", 491700000029 and 10 more"), "{line}");
    }

    #[test]
    fn what_a_group_says_does_not_reach_the_terminal_as_control_characters() {
        let texts = change(json!({
            "type": "SetGroupDescription",
            "from": "\u{1b}[2J\u{9b}2J",
            "to": "x".repeat(500),
        }));
        let lines: Vec<_> = differences(&[texts]).collect();
        assert!(!lines[0].contains(char::is_control), "{lines:?}");
        assert!(lines[0].ends_with("x…"), "{lines:?}");
        assert!(lines[0].chars().count() < 300, "{lines:?}");
    }

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (seconds, text) in [
            (1, "about 1 second"),
            (89, "about 89 seconds"),
            (90, "about 2 minutes"),
            (1_500, "about 25 minutes"),
            (5_400, "about 2 hours"),
            (172_800, "about 2 days"),
        ] {
            assert_eq!(roughly(Duration::from_secs(seconds)), text);
        }
    }
}
