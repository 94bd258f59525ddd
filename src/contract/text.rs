//! What a group is called and described as. The limits are WhatsApp's own.
//!
//! They bind what a command sets (`FromStr`, the schemas of payloads). What WhatsApp tells of a group
//! is passed on whole (`told`, `Deserialize`): older groups, and those of business platforms, have
//! texts that it would refuse today.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A text that WhatsApp would refuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct InvalidText(&'static str);

/// A group's subject (its name). One that a command sets has 1 to 100 characters, is not blank, and
/// holds no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Subject(Arc<str>);

/// A group's description; empty where there is none. One that a command sets has up to 2048
/// characters, line breaks allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Description(Arc<str>);

/// No control characters, and one character at least that is neither space nor line separator.
///
/// The spaces are listed, since `\s` means other characters in ECMA-262 than in Rust.
const SUBJECT_PATTERN: &str = concat!(
    "^[^\\u0000-\\u001f\\u007f-\\u009f]*",
    "[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000\\ufeff]",
    "[^\\u0000-\\u001f\\u007f-\\u009f]*$",
);
const DESCRIPTION_PATTERN: &str =
    "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$";
const SUBJECT_FORM: &str = "1 to 100 characters, not only spaces, without control characters";
const DESCRIPTION_FORM: &str =
    "at most 2048 characters, without control characters other than tab and line breaks";

impl Subject {
    /// The longest that can be set, in characters (WhatsApp's `group_max_subject`).
    pub const MAX_CHARS: usize = 100;

    /// A text from WhatsApp, without the checks for a command.
    #[must_use]
    pub fn from_engine(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The subject as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same text.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Description {
    /// The longest that can be set, in characters (WhatsApp's property 14778).
    pub const MAX_CHARS: usize = 2048;

    /// A text from WhatsApp, without the checks for a command.
    #[must_use]
    pub fn from_engine(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The description as text; empty where there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Subject {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let fits = text.chars().count() <= Self::MAX_CHARS
            && text.chars().any(|c| !c.is_whitespace() && c != '\u{feff}')
            && !text.contains(char::is_control);
        fits.then(|| Self(text.into()))
            .ok_or(InvalidText(SUBJECT_FORM))
    }
}

impl FromStr for Description {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
        let fits = text.chars().count() <= Self::MAX_CHARS && !text.contains(control);
        fits.then(|| Self(text.into()))
            .ok_or(InvalidText(DESCRIPTION_FORM))
    }
}

/// Reads a text that a command sets.
pub(in crate::contract) fn to_set<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = InvalidText>,
    D: Deserializer<'de>,
{
    Cow::<'de, str>::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

/// Reads a text that a command sets, or `null` for none.
pub(in crate::contract) fn optional_to_set<'de, T, D>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err = InvalidText>,
    D: Deserializer<'de>,
{
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(de::Error::custom))
        .transpose()
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Subject {
    fn schema_name() -> Cow<'static, str> {
        "Subject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": format!("Must be {SUBJECT_FORM}."),
            "maxLength": Self::MAX_CHARS,
            "pattern": SUBJECT_PATTERN,
            "examples": ["Group name"],
        })
    }
}

impl JsonSchema for Description {
    fn schema_name() -> Cow<'static, str> {
        "Description".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": format!("Must be {DESCRIPTION_FORM}."),
            "maxLength": Self::MAX_CHARS,
            "pattern": DESCRIPTION_PATTERN,
            "examples": ["Group description"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!("é".repeat(100).parse::<Subject>().is_ok());
        assert!("é".repeat(101).parse::<Subject>().is_err());
        assert!("é".repeat(2048).parse::<Description>().is_ok());
        assert!("é".repeat(2049).parse::<Description>().is_err());
    }

    #[test]
    fn what_whatsapp_tells_is_read_whole() {
        let long = "x".repeat(3_000);
        for text in [long.as_str(), "", "two\nlines"] {
            let json = serde_json::to_string(text).unwrap();
            let subject: Subject = serde_json::from_str(&json).unwrap();
            let description: Description = serde_json::from_str(&json).unwrap();
            assert_eq!((subject.as_str(), description.as_str()), (text, text));
            assert_eq!(subject, Subject::from_engine(text));
            assert_eq!(description, Description::from_engine(text));
        }
    }

    #[test]
    fn blank_subjects_and_control_characters_are_refused() {
        for bad in [
            "",
            "  ",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}",
            "\u{feff}\u{3000}",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad:?}");
        }
        assert!("two\nlines\tand a tab".parse::<Description>().is_ok());
        assert!("".parse::<Description>().is_ok());
        assert!("a\0b".parse::<Description>().is_err());
    }
}
