//! Mistakes in the files of `groupmq apply`, each with its place. None quotes a phone number, since errors end in logs.

use std::fmt;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) line: u64,
}

/// What is wrong somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    /// The field, such as `settings.infoAdminOnly`; empty if it is not about one.
    pub(super) field: String,
    pub(super) reason: String,
}

impl Place {
    pub(super) fn new(file: &str, line: u64) -> Self {
        let file = file.to_owned();
        Self { file, line }
    }
}

impl Problem {
    pub(super) fn new(place: Place, field: &str, reason: impl Into<String>) -> Self {
        Self {
            place,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.field.is_empty() {
            write!(f, "{} ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}
