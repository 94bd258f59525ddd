//! The groups that the files of `groupmq apply` describe. Every mistake in them is found before anything is sent.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::document::{self, Field, Kind, Node};
use super::people::{self, Source};
use super::problems::{Place, Problem};
use crate::contract::{Command, CommandType, EnsureGroup, SessionName};
use crate::executor::decode::{Decoder, RawCommand};

/// The fields of a group, besides those of the payload.
const OWN: [&str; 2] = ["session", "id"];

/// The fields of the payload that a file may have; options decide about the others.
const PAYLOAD: [&str; 6] = [
    "groupId",
    "name",
    "description",
    "participants",
    "exact",
    "settings",
];

/// A group as a file wants it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) place: Place,
    pub(super) session: SessionName,
    pub(super) group: EnsureGroup,
    /// The same as JSON, with the fields that the file has and no others.
    pub(super) payload: Map<String, Value>,
    /// What a new group is known by until the file has its `groupId`.
    pub(super) key: String,
}

impl Wanted {
    /// What people call it.
    pub(super) fn title(&self) -> String {
        match (&self.group.name, &self.group.group_id) {
            (Some(name), _) => name.to_string(),
            (None, Some(id)) => id.to_string(),
            (None, None) => self.key.clone(),
        }
    }
}

/// The groups of all files, and what is wrong or worth a note.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) groups: Vec<Wanted>,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Problem>,
}

/// Reads all files; `-` is stdin.
pub(super) fn read_all(files: &[String], session: &SessionName, decoder: &Decoder) -> Read {
    let mut read = Read::default();
    for file in files {
        match text_of(file) {
            Ok(text) => read.file(file, &text, session, decoder),
            Err(reason) => {
                let problem = Problem::new(Place::new(file, 1), "", reason);
                read.problems.push(problem);
            }
        }
    }
    read.check_that_each_is_another_group();
    read
}

fn text_of(file: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().read_to_end(&mut bytes).map(drop)
    } else {
        std::fs::read(file).map(|it| bytes = it)
    };
    read.map_err(|error| format!("cannot be read: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

impl Read {
    fn file(&mut self, file: &str, text: &str, session: &SessionName, decoder: &Decoder) {
        let documents = match document::read(file, text) {
            Ok(documents) => documents,
            Err(problem) => return self.problems.push(problem),
        };
        if documents.is_empty() {
            let problem = Problem::new(Place::new(file, 1), "", "has no groups");
            self.problems.push(problem);
        }
        let source = Source {
            name: file,
            text,
            folder: Path::new(file).parent().unwrap_or(Path::new("")),
        };
        for node in &documents {
            let mut problems = Vec::new();
            let mut reader = Reader {
                source,
                node,
                problems: &mut problems,
            };
            let group = reader.group(session, decoder, &mut self.notes);
            self.groups.extend(group);
            self.problems.append(&mut problems);
        }
    }

    /// Two documents about one group would undo each other.
    fn check_that_each_is_another_group(&mut self) {
        let mut known: HashMap<(&SessionName, String), &Place> = HashMap::new();
        for wanted in &self.groups {
            let (field, name) = match &wanted.group.group_id {
                Some(id) => ("groupId", id.to_string()),
                None => ("name", wanted.key.clone()),
            };
            if let Some(earlier) = known.insert((&wanted.session, name), &wanted.place) {
                let reason = match field {
                    "groupId" => format!("names the group of {earlier}"),
                    _ => format!("is that of {earlier}: give each of these new groups an `id`"),
                };
                self.problems
                    .push(Problem::new(wanted.place.clone(), field, reason));
            }
        }
    }
}

/// Reads one group.
struct Reader<'a> {
    source: Source<'a>,
    node: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn group(
        &mut self,
        session: &SessionName,
        decoder: &Decoder,
        notes: &mut Vec<Problem>,
    ) -> Option<Wanted> {
        if !matches!(self.node.kind, Kind::Fields(_)) {
            self.problem(
                self.node.line,
                "",
                "must be a group: an object with its fields",
            );
            return None;
        }
        self.check_fields();
        let session = self.session(session);
        let mut payload = Map::new();
        for name in PAYLOAD {
            let Some(field) = self.node.get(name) else {
                continue;
            };
            let value = match name {
                "participants" => people::read(field, self.source, self.problems, notes),
                "groupId" | "name" | "description" => Some(self.text(field)),
                _ => Some(field.value.json()),
            };
            payload.extend(value.map(|value| (name.to_owned(), value)));
        }
        let group = self.check_payload(&payload, decoder)?;
        let id = self.node.get("id").map(|it| self.text(it));
        let key = match (id.as_ref().and_then(Value::as_str), &group.name) {
            (Some(id), _) => format!("id {id}"),
            (None, Some(name)) => format!("name {name}"),
            (None, None) => String::new(),
        };
        Some(Wanted {
            place: Place::new(self.source.name, self.node.line),
            session: session?,
            group,
            payload,
            key,
        })
    }

    fn check_fields(&mut self) {
        for field in self.node.fields() {
            let name = field.name.as_str();
            let reason = match name {
                "plan" => "belongs to the command: --plan".to_owned(),
                "confirmRemove" => "belongs to the command: --yes-remove".to_owned(),
                _ if OWN.contains(&name) || PAYLOAD.contains(&name) => continue,
                _ => {
                    let known: Vec<_> = OWN.into_iter().chain(PAYLOAD).collect();
                    format!("is not a field of a group; it has {}", known.join(", "))
                }
            };
            self.problem(field.line, name, reason);
        }
        if self.node.get("groupId").is_none() && self.node.get("name").is_none() {
            let reason = "must have a groupId, or the name of a new group";
            self.problem(self.node.line, "", reason);
        }
        if let Some(exact) = self.node.get("exact")
            && self.node.get("participants").is_none()
        {
            self.problem(exact.line, "exact", "needs participants");
        }
    }

    fn session(&mut self, default: &SessionName) -> Option<SessionName> {
        let Some(field) = self.node.get("session") else {
            return Some(default.clone());
        };
        let session = self.text(field).as_str().unwrap_or_default().parse();
        match session {
            Ok(session) => Some(session),
            Err(error) => {
                self.problem(field.line, "session", error.to_string());
                None
            }
        }
    }

    /// Checks the payload as the worker will, and names what is wrong by its line.
    fn check_payload(
        &mut self,
        payload: &Map<String, Value>,
        decoder: &Decoder,
    ) -> Option<EnsureGroup> {
        let is_valid = self.problems.is_empty();
        let id = Uuid::nil().to_string();
        let body = json!({ "payload": payload }).to_string();
        let read = decoder.decode(&RawCommand {
            body: body.as_bytes(),
            message_id: Some(&id),
            message_type: Some(CommandType::EnsureGroup.as_str()),
            session: Some("default"),
            content_encoding: None,
        });
        let rejected = match read {
            Ok(accepted) => match accepted.command {
                Command::EnsureGroup(group) if is_valid => return Some(group),
                _ => return None,
            },
            Err(rejected) => rejected,
        };
        for detail in rejected.error.details {
            let pointer = detail.path.strip_prefix("/payload").unwrap_or("");
            let field = pointer.trim_start_matches('/').replace('/', ".");
            let line = self.node.line_of(pointer);
            let is_known = |it: &Problem| {
                it.place.line == line && (it.field.is_empty() || field.starts_with(&it.field))
            };
            // What was wrong with it already is the reason why the rest is.
            let is_absent = self
                .node
                .get(field.split('.').next().unwrap_or_default())
                .is_none();
            if !is_valid && (is_absent || self.problems.iter().any(is_known)) {
                continue;
            }
            self.problem(line, &field, detail.reason);
        }
        None
    }

    /// A value that is a text, whatever YAML takes it for.
    fn text(&self, field: &Field) -> Value {
        let text = field.value.text(self.source.text);
        text.map_or_else(|| field.value.json(), Value::String)
    }

    fn problem(&mut self, line: u64, field: &str, reason: impl Into<String>) {
        let place = Place::new(self.source.name, line);
        self.problems.push(Problem::new(place, field, reason));
    }
}
