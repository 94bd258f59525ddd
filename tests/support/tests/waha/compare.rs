//! Compares what was captured with what the stand-in says: ids and codes by names that they share, times
//! not at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// What stands for what: captured ids and codes, and those of the stand-in, by a name that they share.
#[derive(Debug, Default)]
pub(crate) struct Names {
    pub(crate) captured: BTreeMap<String, String>,
    pub(crate) ours: BTreeMap<String, String>,
    /// From captured to ours.
    pairs: BTreeMap<String, String>,
}

impl Names {
    pub(crate) fn pair(&mut self, captured: &str, ours: &str, kind: &str) {
        let name = format!("<{kind} {}>", self.captured.len());
        self.captured.insert(captured.to_owned(), name.clone());
        self.ours.insert(ours.to_owned(), name);
        self.pairs.insert(captured.to_owned(), ours.to_owned());
    }

    /// Ids and codes in a text, as the stand-in has them.
    pub(crate) fn translated(&self, text: &str) -> String {
        replaced(text, &self.pairs)
    }

    /// Pairs what an answer tells for the first time.
    pub(crate) fn learn(&mut self, captured: &Value, ours: &Value) {
        for field in ["id", "JID"] {
            let both = (captured[field].as_str(), ours[field].as_str());
            if let (Some(captured), Some(ours)) = both
                && captured.ends_with("@g.us")
                && !self.pairs.contains_key(captured)
            {
                self.pair(captured, ours, "group");
            }
        }
        let code = |value: &Value| {
            let text = value.as_str()?;
            Some(text.rsplit('/').next()?.to_owned())
        };
        if let (Some(captured), Some(ours)) = (code(captured), code(ours))
            && captured.len() == 22
            && !self.pairs.contains_key(&captured)
        {
            self.pair(&captured, &ours, "code");
        }
    }
}

fn replaced(text: &str, by: &BTreeMap<String, String>) -> String {
    by.iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The same for all runs: names for ids and codes, and no times.
pub(crate) fn normal(value: &Value, names: &BTreeMap<String, String>) -> Value {
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|it| it > 1_000_000_000) => {
            json!("<time>")
        }
        Value::String(text) if is_time(text) => json!("<time>"),
        Value::String(text) => json!(replaced(text, names)),
        Value::Array(all) => all.iter().map(|it| normal(it, names)).collect(),
        Value::Object(all) => {
            let fields = all.iter().map(|(field, value)| {
                let known = value.is_string() && value != "";
                let value = match field.as_str() {
                    "stack" | "pushName" | "TopicID" | "client" | "stream" if known => {
                        json!("<text>")
                    }
                    "date" => json!("<text>"),
                    _ => normal(value, names),
                };
                (replaced(field, names), value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// `2026-11-27T20:36:59Z`, or seconds as text; the year 1 is none.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let iso = bytes.len() >= 20 && bytes[4] == b'-' && bytes[10] == b'T' && text.ends_with('Z');
    let seconds = bytes.len() == 10 && bytes.iter().all(u8::is_ascii_digit);
    (iso && !text.starts_with("0001")) || seconds
}

/// What differs between two values, by where it stands.
pub(crate) fn differences(at: &str, captured: &Value, ours: &Value, found: &mut Vec<String>) {
    match (captured, ours) {
        (Value::Object(captured), Value::Object(ours)) => {
            let fields: BTreeSet<_> = captured.keys().chain(ours.keys()).collect();
            for field in fields {
                let missing = json!("<missing>");
                let of = |all: &serde_json::Map<_, _>| all.get(field).cloned();
                let captured = of(captured).unwrap_or_else(|| missing.clone());
                let ours = of(ours).unwrap_or(missing);
                differences(&format!("{at} {field}"), &captured, &ours, found);
            }
        }
        (captured, ours) if captured != ours => {
            found.push(format!("{at}\n  captured {captured}\n  ours     {ours}"));
        }
        _ => {}
    }
}
