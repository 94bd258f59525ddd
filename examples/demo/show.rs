//! Prints what happens, at a glance; colours only on a terminal.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what this file is for"
)]

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Error;
use serde_json::Value;

use crate::producer::Counts;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const CYAN: &str = "36";

pub(crate) fn opening(prefix: &str) {
    println!("The life of a group: commands go in, replies and events come out (sandbox engine).");
    println!("Session default is 15550000001, second is 15550000002; exchanges are {prefix}.*");
}

pub(crate) fn command(number: usize, session: &str, command: &str, payload: &Value) {
    println!(
        "\n{number}  {}  (session {session})",
        painted(BOLD, command)
    );
    println!("   {payload}");
}

pub(crate) fn reply(reply: &Value) {
    let (status, lines) = match reply.get("error") {
        None => (painted(GREEN, "ok   "), result(&reply["result"])),
        Some(error) => (
            painted(RED, "error"),
            vec![line(error, "code"), line(error, "message")],
        ),
    };
    for (number, line) in lines.iter().enumerate() {
        if number == 0 {
            println!("   reply  {status}  {line}");
        } else {
            println!("                 {line}");
        }
    }
}

/// A result, line by line.
fn result(result: &Value) -> Vec<String> {
    match result {
        Value::Array(outcomes) => outcomes.iter().map(outcome).collect(),
        Value::Object(group) if group.contains_key("outcomes") => {
            let head = format!("group {}, {} people", text(&result["id"]), result["size"]);
            let outcomes = result["outcomes"].as_array();
            std::iter::once(head)
                .chain(outcomes.into_iter().flatten().map(outcome))
                .collect()
        }
        Value::Object(invite) if invite.contains_key("inviteUrl") => {
            vec![line(result, "inviteUrl")]
        }
        other => vec![other.to_string()],
    }
}

/// What became of one person.
fn outcome(outcome: &Value) -> String {
    let colour = if outcome["code"] == 200 { GREEN } else { RED };
    let told = painted(colour, text(&outcome["outcome"]));
    let invite = outcome.pointer("/invite/code").map(text);
    let invite = invite.map_or(String::new(), |code| format!("  invite {code}"));
    format!(
        "{:<15} {} {told}{invite}",
        person(&outcome["id"]),
        outcome["code"]
    )
}

pub(crate) fn event(key: &str, payload: &Value) {
    let key = painted(CYAN, &format!("{key:<29}"));
    let number = painted(DIM, &format!("#{:<2}", payload["sequence"].to_string()));
    println!("   event  {key}  {number}  {}", particulars(payload));
}

/// What an event tells, in a few words.
fn particulars(payload: &Value) -> String {
    let kind = text(&payload["type"]);
    let who = payload.get("recipientIds").or(payload.get("participants"));
    if let Some(Value::Array(who)) = who {
        // Names, or objects that have one.
        let who = who.iter().map(|one| person(one.get("id").unwrap_or(one)));
        return format!("{kind} {}", who.collect::<Vec<_>>().join(" "));
    }
    let group = &payload["group"];
    match (group.get("size"), group.get("subject")) {
        (Some(size), _) => format!("this account is in a group of {size}"),
        (None, Some(subject)) => format!("subject {subject}"),
        (None, None) => "this account is out".to_owned(),
    }
}

pub(crate) fn ending(counts: &Counts, took: Duration) {
    let Counts { replies, events } = counts;
    println!(
        "\n{} {replies} replies and {events} events came back as they should, in order and without a gap.",
        painted(GREEN, "✓")
    );
    println!(
        "{} The worker finished on SIGTERM with exit code 0. ({:.1} s in all)",
        painted(GREEN, "✓"),
        took.as_secs_f64()
    );
}

pub(crate) fn failure(error: &Error) {
    // Some errors repeat what is underneath them.
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(&cause) {
            told = if told.is_empty() {
                cause
            } else {
                format!("{told}: {cause}")
            };
        }
    }
    eprintln!("\nThe demo failed: {told}");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn line(object: &Value, field: &str) -> String {
    text(&object[field]).to_owned()
}

/// Everybody here is `@c.us`.
fn person(id: &Value) -> &str {
    text(id).trim_end_matches("@c.us")
}

/// Coloured, where the reader is a person.
fn painted(colour: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
