//! What can go wrong with the store, and whether trying again helps.

use std::sync::Arc;

/// Why the store did not do something.
///
/// Cheap to clone: one failed transaction fails every command in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The configuration names no store that can be opened.
    #[error("[store.url] {0}")]
    Url(&'static str),
    /// The database cannot be used now: no connection, disk full, read-only, too slow.
    ///
    /// Whether a change was made is unknown only where its commit was under way; asking again
    /// under the same key is always safe.
    #[error(
        "the store cannot be used now ({doing}); see that the database is up, its disk is not full \
         and it may be written to"
    )]
    Unavailable {
        /// What the store was doing.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// Another worker kept changing the same rows.
    #[error("the store was changed by another worker each time this was tried; try again")]
    Contended {
        /// What the database said last.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database refused a statement for a reason of its own.
    #[error(
        "the database refused a statement ({doing}); the cause is a fault in groupmq or a changed schema"
    )]
    Refused {
        /// What the store was doing.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The tables could not be brought up to date.
    #[error(
        "the store's tables could not be migrated; a newer groupmq may have used this database"
    )]
    Migration(#[source] Arc<sqlx::migrate::MigrateError>),
    /// A stored text does not read.
    #[error("a row of {table} does not read; was the database edited by hand?")]
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
    #[error("another worker has taken the command queue over")]
    Fenced,
    /// A step of a transaction panicked; nothing of it was kept.
    #[error("a step of the store panicked: {0}")]
    Panicked(String),
    /// The writer has ended, because the worker is stopping.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// Whether asking again later may succeed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Contended { .. } | Self::Closed
        )
    }

    /// Whether the store cannot be used at all, so that the same fails for everybody.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether another worker has taken over, so that what was asked is its business now.
    #[must_use]
    pub const fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced)
    }

    /// The error with its causes.
    #[must_use]
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// Puts a database error into its class.
    pub(super) fn of(doing: &'static str, source: sqlx::Error) -> Self {
        let class = classify(&source);
        let source = Arc::new(source);
        match class {
            Class::Outage => Self::Unavailable { doing, source },
            Class::Conflict => Self::Contended { source },
            Class::Refusal => Self::Refused { doing, source },
        }
    }

    /// A time limit that ran out.
    pub(super) fn timed_out(doing: &'static str) -> Self {
        Self::Unavailable {
            doing,
            source: Arc::new(sqlx::Error::PoolTimedOut),
        }
    }

    pub(super) fn corrupt(table: &'static str, source: serde_json::Error) -> Self {
        Self::Corrupt {
            table,
            source: Arc::new(source),
        }
    }
}

enum Class {
    /// The database cannot be used.
    Outage,
    /// Two transactions met; running one of them again settles it.
    Conflict,
    /// The statement itself is at fault.
    Refusal,
}

fn classify(error: &sqlx::Error) -> Class {
    let sqlx::Error::Database(database) = error else {
        return match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::Encode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. } => Class::Refusal,
            _ => Class::Outage,
        };
    };
    if database.is_unique_violation() {
        return Class::Conflict;
    }
    let code = database.code().unwrap_or_default();
    if database
        .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
        .is_some()
    {
        postgres_class(&code)
    } else {
        code.parse().map_or(Class::Refusal, sqlite_class)
    }
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_class(code: &str) -> Class {
    match code {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Class::Conflict,
        // read_only_sql_transaction; no such database, user or password (while it is being set up)
        "25006" | "3D000" | "28000" | "28P01" => Class::Outage,
        // connection, resources (disk full), operator intervention and timeouts, system, limits
        _ if ["08", "53", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Class::Outage
        }
        _ => Class::Refusal,
    }
}

/// By primary result code: <https://sqlite.org/rescode.html>.
const fn sqlite_class(extended: i32) -> Class {
    match extended & 0xff {
        // PERM BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT FULL CANTOPEN PROTOCOL AUTH NOTADB
        3 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 13 | 14 | 15 | 23 | 26 => Class::Outage,
        _ => Class::Refusal,
    }
}
