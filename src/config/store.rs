//! `[store]` and `[ledger]`: the database.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::read::{Section, UNESCAPED, duration, has_unescaped_credentials, number, trimmed};

/// `[store]`: the database.
#[derive(Debug, Clone)]
pub struct Store {
    /// `sqlite:<path>` or `postgres://…`; may contain a password.
    pub url: SecretString,
    /// The file from which the URL is read again before each connection to PostgreSQL, so that a rotated password
    /// is used.
    pub url_file: Option<PathBuf>,
    /// Number of connections for reading, in addition to the one for writing.
    pub connections: u32,
    /// Timeout of a statement, including the wait for a lock or a connection.
    pub timeout: Duration,
}

/// `[ledger]`: how long a command id is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    /// How long a finished command is remembered.
    pub retention: Duration,
}

impl Store {
    /// Whether it is a SQLite file that does not exist yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        let path = self.url.expose_secret().strip_prefix("sqlite:");
        path.is_some_and(|path| !Path::new(path.strip_prefix("//").unwrap_or(path)).exists())
    }

    /// The current URL, read from its file if it has one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn url_now(&self) -> io::Result<SecretString> {
        match &self.url_file {
            None => Ok(self.url.clone()),
            Some(file) => Ok(trimmed(&std::fs::read_to_string(file)?).into()),
        }
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let url_file = section.peek_path("url_file");
        let url = section.secret("url", "url_file").unwrap_or_default();
        let known = ["sqlite:", "postgres://", "postgresql://"];
        if !known
            .iter()
            .any(|scheme| url.expose_secret().starts_with(scheme))
        {
            section.problem(
                "url",
                "must be sqlite:<path> or postgres://user:password@host/database",
            );
        }
        // The path of a file may contain any character.
        let is_file = url.expose_secret().starts_with("sqlite:");
        if !is_file && has_unescaped_credentials(url.expose_secret()) {
            section.problem("url", UNESCAPED);
        }
        let timeouts = Duration::from_millis(100)..=Duration::from_mins(10);
        let store = Self {
            url,
            url_file,
            connections: section.required("connections", number(1..=256)),
            timeout: section.required("timeout", duration(timeouts)),
        };
        section.finish();
        store
    }
}

impl Ledger {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let retentions = Duration::from_secs(1)..=Duration::from_hours(366 * 24);
        let ledger = Self {
            retention: section.required("retention", duration(retentions)),
        };
        section.finish();
        ledger
    }
}
