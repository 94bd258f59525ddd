//! The figures as a Markdown table and as JSON.

use std::path::Path;

use serde_json::{Value, json};

use crate::measure::{Sample, Spread};

/// The name of a contender, and its runs.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) samples: Vec<Sample>,
}

/// What the figures do not show.
const NOTES: &str = "\
Every contender reads the same commands from a durable quorum queue with the same prefetch, publishes persistent \
messages and acknowledges a command when the broker has confirmed what it published. The bare loop and the workers \
of other languages publish a reply and an event for each command and do nothing else: they have no ledger, so a \
command delivered twice is executed twice; they keep no order within a group; they check no rules. The bare loop \
does not parse the command either. Celery runs a process for each processor, each with one command at a time; it \
and aio-pika get a part of the commands only. \
groupmq does all of it, with its sandbox engine, and its stores write to the disk before they answer. A command that \
reads (GetGroup) has a reply and no event. Processor time, context switches and memory are those of the worker's \
process and its children, without the broker and the PostgreSQL server; time and switches count from the first reply \
to the last, which leaves the start out.";

/// The rates of the first row are what the others are compared with.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | commands/s | of the bare loop | CPU per command | context switches per command | peak memory |\n\
         |---|---|---|---|---|---|\n",
    );
    let bare = rate(&rows[0]).median;
    for row in rows {
        let of = |figure: fn(&Sample) -> f64| Spread::of(&row.samples, figure);
        let line = [
            row.name.clone(),
            cell(rate(row), 0, ""),
            format!("{:.2}", rate(row).median / bare),
            cell(of(|it| it.cpu_us_per_command), 0, " µs"),
            cell(of(|it| it.switches_per_command), 2, ""),
            cell(of(|it| it.peak_memory_mb), 1, " MB"),
        ];
        text.extend(["| ", line.join(" | ").as_str(), " |\n"]);
    }
    let rounds = rows[0].samples.len();
    text + &format!("\nMedian of {rounds} rounds (least–most). {NOTES}\n")
}

pub(crate) fn write_json(path: &Path, settings: &Value, rows: &[Row]) {
    let bare = rate(&rows[0]).median;
    let contenders: Vec<Value> = rows
        .iter()
        .map(|row| {
            let of = |figure: fn(&Sample) -> f64| Spread::of(&row.samples, figure);
            json!({
                "name": row.name,
                "ratio_to_bare": rate(row).median / bare,
                "commands_per_second": rate(row),
                "cpu_us_per_command": of(|it| it.cpu_us_per_command),
                "switches_per_command": of(|it| it.switches_per_command),
                "peak_memory_mb": of(|it| it.peak_memory_mb),
                "rounds": row.samples,
            })
        })
        .collect();
    let all = json!({ "settings": settings, "notes": NOTES, "contenders": contenders });
    std::fs::write(path, format!("{all:#}\n")).unwrap();
}

fn rate(row: &Row) -> Spread {
    Spread::of(&row.samples, |it| it.commands_per_second)
}

fn cell(spread: Spread, digits: usize, unit: &str) -> String {
    let Spread { median, min, max } = spread;
    format!("{median:.digits$}{unit} ({min:.digits$}–{max:.digits$})")
}
