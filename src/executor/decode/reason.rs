//! The reasons why a field is wrong, as sentences.
//!
//! A reason says how to correct the field. It never quotes a value: values are phone numbers and texts, and
//! a refusal is read in more places than the command.

use jsonschema::JsonType;
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

use super::Problems;
use crate::contract::{CommandType, ErrorCode};

/// The maximum length of a name that is quoted.
const MAX_QUOTED: usize = 40;

/// Adds the meaning of a validation error for the caller.
pub(super) fn explain(
    error: &ValidationError<'_>,
    schema: &Value,
    command: CommandType,
    problems: &mut Problems,
) {
    let path = format!("/payload{}", error.instance_path().as_str());
    let keyword = error.schema_path().as_str();
    let parent = keyword.rsplit_once('/').map_or("", |(parent, _)| parent);
    let parent = schema.pointer(parent).unwrap_or(schema);
    let invalid = ErrorCode::InvalidPayload;
    match error.kind() {
        Kind::Required { property } => {
            let property = property.as_str().unwrap_or_default();
            problems.add(invalid, format!("{path}/{property}"), "is required");
        }
        Kind::AdditionalProperties { unexpected } => {
            let of = if path == "/payload" {
                command.as_str()
            } else {
                "this object"
            };
            for field in unexpected {
                unknown_field(&path, field, of, parent, problems);
            }
        }
        // `beyond` reports which entries are equal.
        Kind::UniqueItems => {}
        // A nullable field may have another type too, and only that is worth reporting.
        Kind::AnyOf { context } => {
            let worth = |branch: &&Vec<ValidationError<'_>>| !is_only_null(branch);
            for error in context.iter().filter(worth).flatten() {
                explain(error, schema, command, problems);
            }
        }
        kind => problems.add(invalid, path, sentence(kind, error.instance(), parent)),
    }
}

/// Whether this branch of a choice accepts only null.
fn is_only_null(errors: &[ValidationError<'_>]) -> bool {
    errors.iter().any(|error| match error.kind() {
        Kind::Type {
            kind: TypeKind::Single(wanted),
        } => *wanted == JsonType::Null,
        _ => false,
    })
}

fn unknown_field(path: &str, field: &str, of: &str, schema: &Value, problems: &mut Problems) {
    let takes = schema.get("properties").and_then(Value::as_object);
    let takes = takes.map_or_else(String::new, |fields| {
        fields
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    });
    let takes = if takes.is_empty() {
        "nothing".to_owned()
    } else {
        takes
    };
    let (path, reason) = match quotable(field) {
        Some(field) => (
            format!("{path}/{field}"),
            format!("is not a field of {of}; it takes {takes}"),
        ),
        None => (
            path.to_owned(),
            format!("has a field that is not one of {of}; it takes {takes}"),
        ),
    };
    problems.add(ErrorCode::InvalidPayload, path, reason);
}

/// How to correct the value, by the keyword that failed and its schema.
fn sentence(kind: &Kind, value: &Value, schema: &Value) -> String {
    let form = schema.get("description").and_then(Value::as_str);
    let form = form
        .and_then(|text| text.strip_prefix("Must be "))
        .map(|form| format!("must be {}", form.trim_end_matches('.')));
    match kind {
        Kind::MaxItems { limit } => {
            let got = value.as_array().map_or(0, Vec::len);
            format!("must have at most {}, got {got}", entries(*limit))
        }
        Kind::MinItems { limit } => format!("must have at least {}", entries(*limit)),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::MaxLength { limit } => {
            let got = value.as_str().map_or(0, |text| text.chars().count());
            let form = form.unwrap_or_else(|| format!("must be at most {limit} characters"));
            format!("{form}; got {got} characters")
        }
        Kind::OneOfNotValid { .. } | Kind::Enum { .. } => {
            format!("must be one of {}", choices(schema).join(", "))
        }
        Kind::Type { .. } => form.unwrap_or_else(|| format!("must be {}", types(schema))),
        _ => form.unwrap_or_else(|| format!("breaks the schema's rule {}", kind.keyword())),
    }
}

fn entries(count: u64) -> String {
    let plural = if count == 1 { "entry" } else { "entries" };
    format!("{count} {plural}")
}

fn choices(schema: &Value) -> Vec<String> {
    let plain = schema.get("enum").and_then(Value::as_array);
    let documented = schema.get("oneOf").and_then(Value::as_array);
    let documented = documented.into_iter().flatten();
    // A variant with a description stands alone; those without one share an `enum`.
    let all = plain
        .into_iter()
        .flatten()
        .chain(documented.filter_map(|one| one.get("const")));
    all.map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .collect()
}

fn types(schema: &Value) -> String {
    let worded = |name: &str| match name {
        "object" => "an object".to_owned(),
        "array" => "an array".to_owned(),
        "integer" => "a whole number".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => format!("a {other}"),
    };
    match schema.get("type") {
        Some(Value::String(name)) => worded(name),
        Some(Value::Array(names)) => {
            // Null means absent where it is allowed, which is no advice.
            let names = names.iter().filter_map(Value::as_str);
            let names = names.filter(|name| *name != "null").map(worded);
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => "of another type".to_owned(),
    }
}

/// The hint for a body that cannot be read, if its producer declares an encoding.
pub(super) fn encoded(content_encoding: Option<&str>) -> String {
    let none = ["", "identity", "utf-8", "utf8"];
    let encoding = content_encoding
        .filter(|encoding| !none.iter().any(|it| it.eq_ignore_ascii_case(encoding)));
    encoding.map_or_else(String::new, |encoding| {
        let named = quotable(encoding).map_or_else(
            || "is set".to_owned(),
            |encoding| format!("says {encoding}"),
        );
        format!(
            "; the AMQP property content_encoding {named}: send the body as it is, without encoding"
        )
    })
}

/// A caller's name that may be quoted: short, plain, and not a phone number.
pub(super) fn quotable(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let fits = (1..=MAX_QUOTED).contains(&name.len()) && name.bytes().all(plain) && digits < 5;
    fits.then_some(name)
}

/// Reports that a type is unknown, with the one that is probably meant, or with all that exist.
pub(super) fn no_such_command(text: &str) -> String {
    let known: Vec<_> = CommandType::ALL
        .iter()
        .map(|known| known.as_str())
        .collect();
    let meant = quotable(text).and_then(|text| {
        let text = squeezed(text);
        let distance = |known: &&&str| edits(&squeezed(known), &text);
        let nearest = known.iter().min_by_key(distance)?;
        // At most a quarter of the letters may differ.
        (distance(&nearest) <= nearest.len() / 4).then_some(*nearest)
    });
    match meant {
        Some(meant) => format!("is not a command; {meant} is probably meant"),
        None => format!("is not a command; there are {}", known.join(", ")),
    }
}

/// A name without case and separators, in which conventions differ.
fn squeezed(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The edit distance of two texts.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut before = above + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(before + 1);
            before = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}
