//! The errors of the store, and whether a retry may help.

use std::sync::Arc;

use sqlx::error::DatabaseError;

use super::db::codes::{Class, Meaning};
use crate::observability::describe::with_causes;

/// An error of the store.
///
/// Cheap to clone: one failed transaction fails every command in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The configuration names no store that can be opened.
    #[error("[store.url] {0}")]
    Url(&'static str),
    /// The database cannot be used now: no connection, disk full, read-only, too slow, a right or a table
    /// that is missing.
    ///
    /// Whether a change was made is unknown only where its commit was under way; asking again
    /// under the same key is always safe.
    #[error("the store cannot be used now ({doing}): {words}")]
    Unavailable {
        /// What the store was doing.
        doing: &'static str,
        /// What it means, and what to do.
        words: Arc<str>,
        /// What the database said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// Another worker kept changing the same rows.
    #[error("another worker changed the same rows during each attempt; try again")]
    Contended {
        /// What the database said last.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database refused a statement for a reason of its own.
    #[error("the database refused a statement ({doing}): {words}")]
    Refused {
        /// What the store was doing.
        doing: &'static str,
        /// What it means, and what to do.
        words: Arc<str>,
        /// What the database said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database has tables that this version does not know.
    #[error(
        "the store's tables are of another version of groupmq: {0}. Run the newest that has used this \
         database"
    )]
    Migration(String),
    /// Tables are missing, and may not be made.
    #[error(
        "the store lacks migrations ({missing}), and this role may not make them: run `groupmq store \
         migrate` with the login of the tables' owner in store.url"
    )]
    Unmigrated {
        /// Their numbers and names.
        missing: String,
        /// What the database said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The role may not do all that a worker does.
    #[error(
        "the store cannot be used now: the role of store.url lacks rights ({0}); grant them as \
         deploy/postgres/roles.sql does"
    )]
    Rights(String),
    /// A stored text cannot be parsed.
    #[error("a row of {table} cannot be parsed; was the database edited by hand?")]
    Corrupt {
        /// Where it stands.
        table: &'static str,
        /// What is wrong with it.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// It is not the store that was opened any more.
    #[error(
        "{0} while it was in use: this process cannot go on, since what it records now is lost. Put the right \
         store back (store.url), a SQLite file without the -wal and -shm of another one, and start it again; a \
         store without the record of the broker's commands is refused until `groupmq store adopt`"
    )]
    Replaced(String),
    /// Nothing is known of a command that was to be completed.
    #[error(
        "the ledger has no claim for this command; is [ledger.retention] shorter than a command takes?"
    )]
    NotClaimed,
    /// Another worker has taken the command queue over; nothing was changed.
    #[error("another worker has taken over the command queue")]
    Fenced,
    /// A step of a transaction panicked; nothing of it was kept.
    #[error("a step of the store panicked: {0}")]
    Panicked(String),
    /// A step uses a table in a way that was not provided for.
    #[error(
        "a batch cannot use the table {0} like this: a fault in groupmq; report it with these words"
    )]
    Batch(&'static str),
    /// The writer has ended, because the worker is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether a retry may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Rights(_) | Self::Contended { .. } | Self::Closed
        )
    }

    /// Whether the store cannot be used at all, so that every caller fails.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Rights(_))
    }

    /// Whether the database answers, but refuses our role something (`insufficient_privilege`).
    pub(super) fn is_of_rights(&self) -> bool {
        let Self::Unavailable { source, .. } = self else {
            return false;
        };
        let code = source.as_database_error().and_then(DatabaseError::code);
        code.as_deref() == Some("42501")
    }

    /// Whether another worker has taken over, which then handles the command.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced)
    }

    /// The error with its causes.
    #[must_use]
    pub fn in_full(&self) -> String {
        with_causes(self)
    }

    /// Classifies a database error.
    pub(super) fn of(doing: &'static str, source: sqlx::Error) -> Self {
        let Meaning { class, words } = Meaning::of(&source);
        let (words, source) = (words.into(), Arc::new(source));
        match class {
            Class::Outage => Self::Unavailable {
                doing,
                words,
                source,
            },
            Class::Conflict => Self::Contended { source },
            Class::Refusal => Self::Refused {
                doing,
                words,
                source,
            },
        }
    }

    /// A time limit that ran out.
    pub(super) fn timed_out(doing: &'static str) -> Self {
        Self::of(doing, sqlx::Error::PoolTimedOut)
    }

    pub(super) fn corrupt(table: &'static str, source: serde_json::Error) -> Self {
        Self::Corrupt {
            table,
            source: Arc::new(source),
        }
    }
}
