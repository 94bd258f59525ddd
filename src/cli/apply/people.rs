//! The people of a group in a file: named there, or in a CSV file beside it.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::document::{Field, Kind, Node};
use super::problems::{Place, Problem};
use super::{number, table};
use crate::contract::{ParticipantId, Role};

const FORM: &str = "must be a list of people, or {file: members.csv, column: phone}";

/// The file that names the people.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
    /// Where paths in it begin.
    pub(super) folder: &'a Path,
}

/// The people so far.
#[derive(Debug, Default)]
struct People {
    list: Vec<(ParticipantId, Option<Role>, Place)>,
    places: HashMap<ParticipantId, usize>,
    problems: Vec<Problem>,
    notes: Vec<Problem>,
}

/// Reads the field `participants`: as the payload has it, or nothing if there is a problem.
///
/// Somebody who is named twice is in the group once; the entry with a role decides.
pub(super) fn read(
    field: &Field,
    source: Source<'_>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Problem>,
) -> Option<Value> {
    let mut people = People::default();
    match &field.value.kind {
        Kind::List(entries) => {
            for (number, entry) in entries.iter().enumerate() {
                people.entry(entry, &format!("participants[{number}]"), source);
            }
        }
        Kind::Fields(_) => people.entry(&field.value, "participants", source),
        Kind::Scalar(_) => {
            let place = Place::new(source.name, field.line);
            people
                .problems
                .push(Problem::new(place, "participants", FORM));
        }
    }
    let is_valid = people.problems.is_empty();
    problems.append(&mut people.problems);
    notes.append(&mut people.notes);
    is_valid.then(|| {
        let person = |(id, role, _): &(ParticipantId, Option<Role>, Place)| match role {
            Some(role) => json!({ "id": id, "role": role }),
            None => json!(id),
        };
        people.list.iter().map(person).collect()
    })
}

impl People {
    fn entry(&mut self, node: &Node, field: &str, source: Source<'_>) {
        let place = |line| Place::new(source.name, line);
        let mut problem = |line, field: &str, reason: &str| {
            self.problems.push(Problem::new(place(line), field, reason));
        };
        let Kind::Fields(fields) = &node.kind else {
            match node.text(source.text) {
                Some(text) => self.person(&text, None, field, place(node.line)),
                None => problem(
                    node.line,
                    field,
                    "must be a phone number, an id, or an object",
                ),
            }
            return;
        };
        let has_file = node.get("file").is_some();
        let known: &[&str] = if has_file {
            &["file", "column", "role"]
        } else {
            &["id", "role"]
        };
        for unknown in fields
            .iter()
            .filter(|it| !known.contains(&it.name.as_str()))
        {
            let reason = format!("is not a field here; there are {}", known.join(", "));
            problem(unknown.line, &format!("{field}.{}", unknown.name), &reason);
        }
        let role = node.get("role").and_then(|it| {
            let role = serde_json::from_value(it.value.json()).ok();
            if role.is_none() {
                let reason = "must be participant, admin or superadmin";
                problem(it.line, &format!("{field}.role"), reason);
            }
            role
        });
        let mut text = |name: &str, reason: &str| {
            let value = node.get(name);
            let text = value.and_then(|it| it.value.text(source.text));
            if text.is_none() {
                let line = value.map_or(node.line, |it| it.line);
                problem(line, &format!("{field}.{name}"), reason);
            }
            text
        };
        if !has_file {
            if let Some(id) = text("id", "is required: a phone number, or an id") {
                self.person(
                    &id,
                    role,
                    &format!("{field}.id"),
                    place(node.line_of("/id")),
                );
            }
            return;
        }
        let file = text("file", "must be a path, relative to this file");
        let column = text(
            "column",
            "is required: the name of the column with the numbers",
        );
        let (Some(file), Some(column)) = (file, column) else {
            return;
        };
        match table::read(&source.folder.join(file), &column) {
            Ok(rows) => {
                for (id, place) in rows {
                    self.add(id, role, &column, place);
                }
            }
            Err(mut problems) => self.problems.append(&mut problems),
        }
    }

    fn person(&mut self, written: &str, role: Option<Role>, field: &str, place: Place) {
        match number::read(written) {
            Ok(id) => self.add(id, role, field, place),
            Err(reason) => self.problems.push(Problem::new(place, field, reason)),
        }
    }

    fn add(&mut self, id: ParticipantId, role: Option<Role>, field: &str, place: Place) {
        let known = self.places.get(&id).and_then(|it| self.list.get_mut(*it));
        let Some((_, known_role, known_place)) = known else {
            self.places.insert(id.clone(), self.list.len());
            self.list.push((id, role, place));
            return;
        };
        match (*known_role, role) {
            (Some(one), Some(other)) if one != other => {
                let reason = format!("is the person of {known_place}, with another role");
                self.problems.push(Problem::new(place, field, reason));
            }
            _ => {
                *known_role = known_role.or(role);
                let reason = format!("is the person of {known_place}, and counts once");
                self.notes.push(Problem::new(place, field, reason));
            }
        }
    }
}
