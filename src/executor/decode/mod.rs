//! Decodes one message into a command that is safe to execute, or lists all its problems.
//!
//! A payload is validated against the generated JSON Schema itself and then read by serde, so the schema
//! and the worker cannot drift apart; `beyond` holds the rules that a schema cannot state. It knows no
//! broker, no clock (expiry is checked before each attempt) and no ledger. Called for each message by the
//! executor.

use std::io;
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::contract::{
    Command, CommandId, CommandType, ErrorBody, ErrorCode, ErrorDetail, SessionName, Timestamp,
    schema,
};
use crate::store::ledger::Key;

mod beyond;
mod body;

mod envelope;
mod reason;
#[cfg(test)]
mod tests;

/// The maximum number of wrong fields that a refusal lists.
pub const MAX_DETAILS: usize = 32;

/// A received message that is not decoded yet: its body, and the AMQP properties that may replace fields of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCommand<'a> {
    /// The body: JSON, or anything else.
    pub body: &'a [u8],
    /// The property `message_id`; empty counts as absent.
    pub message_id: Option<&'a str>,
    /// The property `type`; empty counts as absent.
    pub message_type: Option<&'a str>,
    /// The routing key if it is a session (the message came from the commands exchange); none if it was
    /// published directly to the queue.
    pub session: Option<&'a str>,
    /// The property `content_encoding`. It explains why a body cannot be read; a body that can be read is
    /// accepted whatever it says, since some clients put a character set there.
    pub content_encoding: Option<&'a str>,
}

/// A command that has been decoded and validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The command's id, unique within the session.
    pub id: CommandId,
    /// The session that executes it.
    pub session: SessionName,
    /// The command itself.
    pub command: Command,
    /// SHA-256 of type and canonical payload: independent of the spelling.
    pub fingerprint: [u8; 32],
    /// It is not started after this time.
    pub expires_at: Option<Timestamp>,
}

impl Accepted {
    /// The key of its effect in the ledger.
    #[must_use]
    pub fn key(&self) -> Key {
        Key {
            session: self.session.clone(),
            command_id: self.id.clone(),
        }
    }
}

/// A message that is not a valid command, with the parts that address the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The problems, with how to correct them.
    pub error: ErrorBody,
    /// The id, if there is a well-formed one; the property's if the body names another.
    pub command_id: Option<CommandId>,
    /// The type as the producer wrote it, if it is short and printable; it may be unknown.
    pub command_type: Option<String>,
    /// The session, if there is a well-formed one; the routing key's if the body names another.
    pub session: Option<SessionName>,
}

/// Decodes commands. A payload's schema is compiled when the first such command arrives, and kept: few
/// deployments send all commands, and each compiled schema takes memory.
#[derive(Debug)]
pub struct Decoder {
    /// In the order of [`CommandType::ALL`].
    payloads: Vec<(CommandType, OnceLock<Option<PayloadSchema>>)>,
}

#[derive(Debug)]
struct PayloadSchema {
    schema: Value,
    validator: jsonschema::Validator,
}

impl PayloadSchema {
    /// Compiles the schema of a payload; a test checks that each can be compiled.
    fn compile(command: CommandType) -> Option<Self> {
        let schema = schema::payload(command);
        let validator = jsonschema::options()
            // The engine without backtracking: its time is linear in the length of the text.
            .with_pattern_options(jsonschema::PatternOptions::regex())
            .build(&schema)
            .ok()?;
        Some(Self { schema, validator })
    }

    /// Removes the fields that the schema does not know from the payload and from its participants, and
    /// returns them.
    fn strip(&self, payload: &mut Value) -> Unknown {
        let mut unknown = Unknown::default();
        let mut own = Vec::new();
        for error in self.validator.iter_errors(payload) {
            if let Kind::AdditionalProperties { unexpected } = error.kind()
                && error.instance_path().as_str().is_empty()
            {
                own.extend(unexpected.iter().cloned());
            }
        }
        if let Value::Object(fields) = payload {
            for name in &own {
                fields.shift_remove(name);
            }
        }
        unknown.own = own.iter().map(|name| pointer("", name)).collect();
        let people = payload
            .get_mut("participants")
            .and_then(Value::as_array_mut);
        for (index, person) in people.into_iter().flatten().enumerate() {
            if let Value::Object(fields) = person
                && fields.contains_key("id")
            {
                let others = fields.keys().filter(|name| *name != "id");
                let place = format!("/participants/{index}");
                unknown
                    .nested
                    .extend(others.map(|name| pointer(&place, name)));
                fields.retain(|name, _| name == "id");
            }
        }
        unknown
    }
}

fn pointer(place: &str, name: &str) -> String {
    format!("{place}/{}", reason::quotable(name).unwrap_or("?"))
}

/// Fields that a schema does not know, as JSON pointers.
#[derive(Debug, Default)]
pub struct Unknown {
    /// Of the payload itself.
    pub own: Vec<String>,
    /// Of the participants in it.
    pub nested: Vec<String>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder that has compiled nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let types = CommandType::ALL.iter();
        Self {
            payloads: types.map(|&command| (command, OnceLock::new())).collect(),
        }
    }

    fn schema(&self, command: CommandType) -> Option<&PayloadSchema> {
        let (_, compiled) = self.payloads.iter().find(|(known, _)| *known == command)?;
        compiled
            .get_or_init(|| PayloadSchema::compile(command))
            .as_ref()
    }

    /// Decodes one message.
    ///
    /// Time and memory are bounded by a multiple of the body's length; no body causes a panic.
    ///
    /// # Errors
    /// All problems of the message, for the reply.
    pub fn decode(&self, incoming: &RawCommand<'_>) -> Result<Accepted, Box<Rejected>> {
        self.read(incoming, None)
    }

    /// Decodes one message without the payload fields that the schema does not know, and returns these as
    /// JSON pointers into the payload. None if there is another problem too.
    #[must_use]
    pub fn decode_known(&self, incoming: &RawCommand<'_>) -> Option<(Accepted, Unknown)> {
        let mut unknown = Unknown::default();
        let accepted = self.read(incoming, Some(&mut unknown)).ok()?;
        Some((accepted, unknown))
    }

    fn read(
        &self,
        incoming: &RawCommand<'_>,
        unknown: Option<&mut Unknown>,
    ) -> Result<Accepted, Box<Rejected>> {
        let (mut body, fault) = body::read(incoming.body);
        let mut problems = Problems::default();
        if let Some(fault) = fault {
            let encoded = reason::encoded(incoming.content_encoding);
            problems.add(ErrorCode::InvalidJson, fault.path, fault.reason + &encoded);
            return Err(Box::new(
                problems.reject(envelope::salvage(incoming, &body)),
            ));
        }
        let envelope = envelope::judge(incoming, &body, &mut problems);
        let command = envelope.command_type.and_then(|command| {
            let payload = body.payload.take();
            self.payload(command, payload, unknown, &mut problems)
        });
        match (envelope.id, envelope.session, command) {
            (Some(id), Some(session), Some(command)) if problems.details.is_empty() => {
                Ok(Accepted {
                    id,
                    session,
                    fingerprint: fingerprint(&command),
                    command,
                    expires_at: envelope.expires_at,
                })
            }
            _ => Err(Box::new(
                problems.reject(envelope::salvage(incoming, &body)),
            )),
        }
    }

    /// Reads the payload of a command of a known type; adds its problems. With `unknown`, unknown fields
    /// are removed and recorded instead.
    fn payload(
        &self,
        command: CommandType,
        payload: Option<Value>,
        unknown: Option<&mut Unknown>,
        problems: &mut Problems,
    ) -> Option<Command> {
        let Some(known) = self.schema(command) else {
            let reason = "has a payload schema that cannot be compiled; report this";
            problems.add(ErrorCode::Internal, "/type", reason);
            return None;
        };
        let mut payload = payload.unwrap_or_else(|| Value::Object(Map::new()));
        if let Some(unknown) = unknown {
            *unknown = known.strip(&mut payload);
        }
        let before = problems.count;
        let valid = known.validator.is_valid(&payload);
        if !valid {
            for error in known.validator.iter_errors(&payload) {
                reason::explain(&error, &known.schema, command, problems);
                if problems.full() {
                    break;
                }
            }
        }
        beyond::find(command, &payload, problems);
        if !valid && problems.count == before {
            // Only `uniqueItems` failed: two equal entries that name no participant.
            problems.add(
                ErrorCode::InvalidPayload,
                "/payload",
                "names something twice",
            );
        }
        if problems.count != before {
            return None;
        }
        let read = command.read(payload).ok();
        if read.is_none() {
            // Schema and type agree, which a property test asserts; never guess if they do not.
            problems.add(ErrorCode::InvalidPayload, "/payload", "cannot be read");
        }
        read
    }
}

/// SHA-256 over the type and the canonical payload.
pub(super) fn fingerprint(command: &Command) -> [u8; 32] {
    struct Hashing(Sha256);

    impl io::Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut hashing = Hashing(Sha256::new());
    hashing.0.update(command.command_type().as_str());
    hashing.0.update(b"\n");
    // Neither the types of the contract nor this writer can fail; if one did, the fingerprint would still
    // differ by type.
    let written = serde_json::to_writer(&mut hashing, command);
    debug_assert!(written.is_ok(), "a command is always JSON");
    hashing.0.finalize().into()
}

/// The problems that have been found so far.
#[derive(Debug, Default)]
struct Problems {
    details: Vec<ErrorDetail>,
    /// The most important code so far, and the detail that it comes from.
    worst: Option<(ErrorCode, usize)>,
    /// The number of problems, listed or not.
    count: usize,
}

impl Problems {
    /// Adds a problem; of several at one path the first is kept.
    fn add(&mut self, code: ErrorCode, path: impl Into<String>, reason: impl Into<String>) {
        let (path, reason) = (path.into(), reason.into());
        if self.details.iter().any(|detail| detail.path == path) {
            return;
        }
        self.count += 1;
        if self.worst.is_none_or(|(worst, _)| rank(code) < rank(worst)) {
            self.worst = Some((code, self.details.len()));
        }
        if self.details.len() < MAX_DETAILS {
            self.details.push(ErrorDetail { path, reason });
        }
    }

    /// Whether further problems would not be listed.
    const fn full(&self) -> bool {
        self.count > MAX_DETAILS
    }

    fn reject(self, found: envelope::Salvaged) -> Rejected {
        let (code, first) = self.worst.unwrap_or((ErrorCode::Internal, 0));
        let message = match self.details.get(first) {
            Some(detail) if detail.path.is_empty() => format!("The body {}.", detail.reason),
            Some(detail) => format!("{} {}.", detail.path, detail.reason),
            None => code.cause().to_owned(),
        };
        let more = match self.count {
            0 | 1 => String::new(),
            count if count > MAX_DETAILS => format!(" More than {MAX_DETAILS} fields are wrong."),
            count => format!(" {count} fields are wrong in all."),
        };
        Rejected {
            error: ErrorBody {
                code,
                message: message + &more,
                retryable: code.retryable(),
                details: self.details,
            },
            command_id: found.id,
            command_type: found.command_type,
            session: found.session,
        }
    }
}

/// The priority of a code among several problems: the smallest becomes the code of the refusal.
const fn rank(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::InvalidJson => 0,
        ErrorCode::EnvelopeMismatch => 1,
        ErrorCode::SessionMismatch => 2,
        ErrorCode::UnknownCommand => 3,
        ErrorCode::MissingId => 4,
        _ => 5,
    }
}
