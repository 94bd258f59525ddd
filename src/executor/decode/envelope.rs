//! The envelope: the sources of id, type and session, and the error when they disagree.

use std::str::FromStr;

use serde_json::Value;

use super::body::Body;
use super::{Problems, RawCommand, reason};
use crate::contract::{CommandId, CommandType, ErrorCode, SessionName, Timestamp};

/// The valid part of the envelope; each missing field has been added to the problems.
pub(super) struct Sound {
    pub(super) id: Option<CommandId>,
    pub(super) command_type: Option<CommandType>,
    pub(super) session: Option<SessionName>,
    pub(super) expires_at: Option<Timestamp>,
}

/// The fields that a reply needs, from an envelope that may be invalid.
pub(super) struct Salvaged {
    pub(super) id: Option<CommandId>,
    pub(super) command_type: Option<String>,
    pub(super) session: Option<SessionName>,
}

/// Checks every field of the envelope.
pub(super) fn judge(incoming: &RawCommand<'_>, body: &Body, problems: &mut Problems) -> Sound {
    Sound {
        id: id(incoming, body, problems),
        command_type: command_type(incoming, body, problems),
        session: session(incoming, body, problems),
        expires_at: expires_at(body, problems),
    }
}

/// Takes the fields that a reply needs, the properties before the body.
pub(super) fn salvage(incoming: &RawCommand<'_>, body: &Body) -> Salvaged {
    fn first<T>(
        property: Option<&str>,
        field: Option<&Value>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let field = field.and_then(Value::as_str);
        property.and_then(&read).or_else(|| field.and_then(&read))
    }
    let printable = |text: &str| {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| text.to_owned())
    };
    Salvaged {
        id: first(incoming.message_id, body.id.as_ref(), |text| {
            text.parse().ok()
        }),
        command_type: first(incoming.message_type, body.command_type.as_ref(), printable),
        session: first(incoming.session, body.session.as_ref(), |text| {
            text.parse().ok()
        }),
    }
}

/// A field of the envelope that may come from a property instead.
struct Field<'a> {
    path: &'static str,
    in_body: Option<&'a Value>,
    property: Option<&'a str>,
    /// The property's name in a sentence.
    property_name: &'static str,
    /// The error when it is in neither place.
    missing: ErrorCode,
    /// The error when the two places disagree.
    mismatch: ErrorCode,
    /// The error when it is malformed.
    wrong: ErrorCode,
}

impl<'a> Field<'a> {
    /// The text, and the prefix for a problem with it; problems are added.
    fn settle(&self, problems: &mut Problems) -> Option<(&'a str, String)> {
        let property = self.property.filter(|text| !text.is_empty());
        let name = self.property_name;
        match (property, self.in_body) {
            (None, None) => {
                let reason = format!("is required, in the body or as {name}");
                problems.add(self.missing, self.path, reason);
                None
            }
            (Some(property), None) => Some((property, format!("(from {name}) "))),
            (property, Some(Value::String(field))) => {
                if property.is_none_or(|property| property == field) {
                    return Some((field, String::new()));
                }
                problems.add(self.mismatch, self.path, format!("differs from {name}"));
                None
            }
            (_, Some(_)) => {
                problems.add(self.wrong, self.path, "must be a string");
                None
            }
        }
    }

    /// The text as an identifier.
    fn read<T>(&self, problems: &mut Problems) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let (text, whence) = self.settle(problems)?;
        match text.parse() {
            Ok(read) => Some(read),
            Err(error) => {
                problems.add(self.wrong, self.path, format!("{whence}{error}"));
                None
            }
        }
    }
}

fn id(incoming: &RawCommand<'_>, body: &Body, problems: &mut Problems) -> Option<CommandId> {
    Field {
        path: "/id",
        in_body: body.id.as_ref(),
        property: incoming.message_id,
        property_name: "the AMQP property message_id",
        missing: ErrorCode::MissingId,
        mismatch: ErrorCode::EnvelopeMismatch,
        wrong: ErrorCode::InvalidPayload,
    }
    .read(problems)
}

fn session(incoming: &RawCommand<'_>, body: &Body, problems: &mut Problems) -> Option<SessionName> {
    Field {
        path: "/session",
        in_body: body.session.as_ref(),
        property: incoming.session,
        property_name: "the routing key",
        missing: ErrorCode::InvalidPayload,
        mismatch: ErrorCode::SessionMismatch,
        wrong: ErrorCode::InvalidPayload,
    }
    .read(problems)
}

fn command_type(
    incoming: &RawCommand<'_>,
    body: &Body,
    problems: &mut Problems,
) -> Option<CommandType> {
    let field = Field {
        path: "/type",
        in_body: body.command_type.as_ref(),
        property: incoming.message_type,
        property_name: "the AMQP property type",
        missing: ErrorCode::UnknownCommand,
        mismatch: ErrorCode::EnvelopeMismatch,
        wrong: ErrorCode::UnknownCommand,
    };
    let (text, whence) = field.settle(problems)?;
    let read = text.parse().ok();
    if read.is_none() {
        let reason = format!("{whence}{}", reason::no_such_command(text));
        problems.add(field.wrong, field.path, reason);
    }
    read
}

fn expires_at(body: &Body, problems: &mut Problems) -> Option<Timestamp> {
    let reason = match body.expires_at.as_ref()? {
        Value::String(text) => match text.parse() {
            Ok(read) => return Some(read),
            Err(error) => error.to_string(),
        },
        _ => "must be a string".to_owned(),
    };
    problems.add(ErrorCode::InvalidPayload, "/expiresAt", reason);
    None
}
