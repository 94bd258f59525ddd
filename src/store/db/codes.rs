//! The error codes of both databases: how groupmq reacts to each, and what to do about it.
//!
//! The runbook has the same table; a test compares them.

use sqlx::error::DatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// How groupmq reacts to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Class {
    /// All statements fail, or this one succeeds once an operator has fixed the cause: callers wait and retry.
    Outage,
    /// Two transactions conflicted; one of them is run again.
    Conflict,
    /// This statement always fails.
    Refusal,
}

use Class::{Conflict, Outage, Refusal};

/// The beginning of a code, what follows, and what to do.
type Row = (&'static str, Class, &'static str);

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. The longest beginning
/// that fits counts.
pub(in crate::store) const POSTGRES: &[Row] = &[
    (
        "08",
        Outage,
        "the connection was refused or broke; see that the database can be reached, and what a pooler \
         before it, such as pgbouncer, has to say",
    ),
    (
        "0A",
        Outage,
        "the server does not support what was asked, or a table was changed meanwhile; see that it is \
         PostgreSQL, and what was done to its tables",
    ),
    (
        "22",
        Refusal,
        "the database cannot hold a value; see that it was created with ENCODING 'UTF8', and that no \
         column was changed",
    ),
    (
        "23",
        Refusal,
        "a constraint of a table does not hold; was a row or a constraint changed by hand?",
    ),
    (
        "23505",
        Conflict,
        "another transaction wrote the same row at the same moment",
    ),
    (
        "25",
        Outage,
        "the server ended the transaction; it is begun anew on another connection",
    ),
    (
        "25006",
        Outage,
        "the server takes no changes; let store.url lead to the primary, or switch \
         default_transaction_read_only off",
    ),
    (
        "25P03",
        Outage,
        "the server ended a transaction in which nothing came for too long, since this process was \
         paused; it is begun anew on another connection",
    ),
    (
        "25P04",
        Outage,
        "the server ended a transaction that took longer than its transaction_timeout; make that longer \
         than store.timeout",
    ),
    (
        "26",
        Outage,
        "a prepared statement has gone; a pooler that hands sessions around goes unnoticed: connect to \
         PostgreSQL itself, or use the pooler's session mode",
    ),
    (
        "28",
        Outage,
        "the database refuses the login; put user and password of store.url right (store.url_file is read \
         again at each connection), and pg_hba.conf",
    ),
    (
        "3D",
        Outage,
        "there is no such database; put its name in store.url right, or create it",
    ),
    (
        "3F",
        Outage,
        "there is no such schema; put the role's search_path right, and grant it USAGE on the schema",
    ),
    (
        "40",
        Conflict,
        "two transactions met, and the database ended one of them",
    ),
    (
        "42",
        Refusal,
        "a fault in groupmq; report it with these words",
    ),
    (
        "42501",
        Outage,
        "the role lacks a right; grant it as deploy/postgres/roles.sql does, or log in as the role that \
         has it",
    ),
    (
        "42703",
        Outage,
        "a column is missing; bring back the tables as `groupmq store migrate` makes them",
    ),
    (
        "42804",
        Outage,
        "a column is of another type; bring back the tables as `groupmq store migrate` makes them",
    ),
    (
        "42883",
        Outage,
        "a column is of another type; bring back the tables as `groupmq store migrate` makes them",
    ),
    (
        "42P01",
        Outage,
        "a table is missing; bring it back, or put the role's search_path right",
    ),
    (
        "42P05",
        Outage,
        "a prepared statement is there already; a pooler that hands sessions around goes unnoticed: \
         connect to PostgreSQL itself, or use the pooler's session mode",
    ),
    (
        "42P07",
        Refusal,
        "a table is there that a migration is to make; use a database of groupmq's own, or bring back its \
         table _sqlx_migrations",
    ),
    (
        "42P10",
        Outage,
        "a key of a table is missing; bring back the tables as `groupmq store migrate` makes them",
    ),
    (
        "53",
        Outage,
        "the server is short of something; its log says of what",
    ),
    ("53100", Outage, "the server's disk is full; give it room"),
    (
        "53200",
        Outage,
        "the server is out of memory; give it some, or let it have fewer connections",
    ),
    (
        "53300",
        Outage,
        "the server has no connection left; raise its max_connections or the role's CONNECTION LIMIT, or \
         lower store.connections (each process takes these and one)",
    ),
    (
        "54",
        Refusal,
        "a statement is too large for the server; report it with these words",
    ),
    (
        "54000",
        Outage,
        "a limit of the server is reached; its log says which (where transaction ids run out: VACUUM)",
    ),
    (
        "55",
        Outage,
        "the database is not in a state for this; does it accept connections, is it being restored?",
    ),
    (
        "55P03",
        Conflict,
        "another transaction held a row for longer than store.timeout",
    ),
    (
        "57",
        Outage,
        "the server stops, starts, or ended the connection; its log says why",
    ),
    (
        "57014",
        Outage,
        "a statement took longer than store.timeout, or somebody cancelled it; see what the server is \
         busy with",
    ),
    (
        "58",
        Outage,
        "the server's files or its system fail; see its log and its disk",
    ),
    (
        "F0",
        Outage,
        "the server's configuration does not read; see its log",
    ),
    (
        "P0",
        Refusal,
        "a function or trigger that is not groupmq's refused it; take it off the table",
    ),
    (
        "XX",
        Outage,
        "the server reports a fault of its own; see its log, and whether its files are damaged",
    ),
    (
        "",
        Refusal,
        "the database gives a reason that is not known here; look the code up in its manual",
    ),
];

/// SQLite's primary result code for a file that another connection has locked.
const LOCKED: i32 = 5;

/// By primary result code: <https://sqlite.org/rescode.html>.
pub(in crate::store) const SQLITE: &[(i32, Class, &str)] = &[
    (1, Refusal, "a fault in groupmq; report it with these words"),
    (
        2,
        Outage,
        "SQLite reports a fault of its own; report it with these words",
    ),
    (
        3,
        Outage,
        "the file may not be used like this; see its owner and its mode",
    ),
    (4, Outage, "the transaction was ended; it is begun anew"),
    (
        LOCKED,
        Outage,
        "another process keeps the file locked; only one worker may use it, and a backup not for long",
    ),
    (
        6,
        Outage,
        "a table is locked for longer than store.timeout; see what else uses the file",
    ),
    (7, Outage, "the process is out of memory; give it more"),
    (
        8,
        Outage,
        "the file takes no changes; see its owner and its mode, and whether its disk is mounted read-only",
    ),
    (
        9,
        Outage,
        "the statement was interrupted; it is asked again",
    ),
    (10, Outage, "the disk fails; see the system's log"),
    (
        11,
        Outage,
        "the file is damaged; stop the worker and bring back a backup",
    ),
    (
        12,
        Refusal,
        "a fault in groupmq; report it with these words",
    ),
    (13, Outage, "the disk is full; give it room"),
    (
        14,
        Outage,
        "the file cannot be opened; see that its folder is there and may be written to, and the limit of \
         open files",
    ),
    (
        15,
        Outage,
        "the file's locks do not work; keep it on a local disk",
    ),
    (
        17,
        Outage,
        "a table was changed meanwhile; it is asked again",
    ),
    (
        18,
        Refusal,
        "a value is too large for SQLite; report it with these words",
    ),
    (
        19,
        Refusal,
        "a constraint of a table does not hold; was a row changed by hand?",
    ),
    (
        20,
        Refusal,
        "a value is of another type than its column; was the table changed by hand?",
    ),
    (
        21,
        Refusal,
        "a fault in groupmq; report it with these words",
    ),
    (
        22,
        Outage,
        "the disk cannot hold a file of this size; use another",
    ),
    (
        23,
        Outage,
        "the file may not be used like this; see its owner and its mode",
    ),
    (
        25,
        Refusal,
        "a fault in groupmq; report it with these words",
    ),
    (
        26,
        Outage,
        "the file is no SQLite database; put store.url right, or bring back a backup",
    ),
];

/// SQLite has one code for all statements that do not fit the tables.
const MISSING_IN_SQLITE: &str =
    "a table or column is missing; bring back the tables as `groupmq store migrate` makes them";

/// What an error means.
#[derive(Debug)]
pub(in crate::store) struct Meaning {
    pub(in crate::store) class: Class,
    /// A clause of a sentence, with the code.
    pub(in crate::store) words: String,
}

impl Meaning {
    pub(in crate::store) fn of(error: &sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = error else {
            let (class, words) = without_code(error);
            let words = words.to_owned();
            return Self { class, words };
        };
        let code = database.code().unwrap_or_default();
        if database.try_downcast_ref::<PgDatabaseError>().is_some() {
            let (class, words) = postgres(&code);
            let words = format!("{words} (SQLSTATE {code})");
            return Self { class, words };
        }
        let (class, words) = if database.is_unique_violation() {
            (Conflict, "another transaction wrote the same row")
        } else {
            sqlite(code.parse().unwrap_or_default(), database.message())
        };
        let words = format!("{words} (SQLite {code})");
        Self { class, words }
    }
}

/// Whether another connection has the SQLite file locked.
pub(in crate::store) fn is_locked(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    let sqlite = database.and_then(|it| it.try_downcast_ref::<SqliteError>());
    let code = sqlite.and_then(DatabaseError::code);
    code.and_then(|it| it.parse::<i32>().ok())
        .is_some_and(|extended| extended & 0xff == LOCKED)
}

fn postgres(code: &str) -> (Class, &'static str) {
    let fitting = POSTGRES
        .iter()
        .filter(|(start, ..)| code.starts_with(start));
    let closest = fitting.max_by_key(|(start, ..)| start.len());
    closest.map_or((Refusal, ""), |&(_, class, words)| (class, words))
}

fn sqlite(extended: i32, message: &str) -> (Class, &'static str) {
    let primary = extended & 0xff;
    if primary == 1 && message.contains("no such ") {
        return (Outage, MISSING_IN_SQLITE);
    }
    let row = SQLITE.iter().find(|(code, ..)| *code == primary);
    let unknown = "SQLite gives a reason that is not known here; look the code up in its manual";
    row.map_or((Refusal, unknown), |&(_, class, words)| (class, words))
}

/// What does not come from the database itself.
const fn without_code(error: &sqlx::Error) -> (Class, &'static str) {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Encode(_)
        | sqlx::Error::RowNotFound
        | sqlx::Error::TypeNotFound { .. } => (
            Refusal,
            "a column is not as `groupmq store migrate` makes it; was the table changed by hand?",
        ),
        sqlx::Error::Tls(_) => (
            Outage,
            "TLS fails; see the server's certificate, and sslmode and sslrootcert in store.url",
        ),
        sqlx::Error::Protocol(_) => (
            Outage,
            "the connection broke within an answer, or what answers is not PostgreSQL; see what stands at \
             the address of store.url",
        ),
        sqlx::Error::PoolTimedOut => (
            Outage,
            "no answer came, or no connection became free, within store.timeout; see what the database is \
             busy with, and the network before it",
        ),
        sqlx::Error::Configuration(_) => (Outage, "store.url cannot be used as it stands now"),
        _ => (
            Outage,
            "see that the database is up and can be reached, or that its file's disk works",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_row_counts() {
        for (code, class, word) in [
            ("08006", Outage, "broke"),
            ("42501", Outage, "right"),
            ("42601", Refusal, "fault in groupmq"),
            ("53300", Outage, "connection left"),
            ("53400", Outage, "short of something"),
            ("25P03", Outage, "paused"),
            ("55P03", Conflict, "held a row"),
            ("23505", Conflict, "same row"),
            ("23514", Refusal, "constraint"),
            ("99999", Refusal, "not known here"),
        ] {
            let (found, words) = postgres(code);
            assert_eq!(found, class, "{code}");
            assert!(words.contains(word), "{code}: {words}");
        }
    }

    #[test]
    fn the_runbook_has_every_code_with_its_words() {
        let runbook = include_str!("../../../deploy/RUNBOOK.md");
        let follows = |class| match class {
            Outage => "waits",
            Conflict => "runs it again",
            Refusal => "refuses it",
        };
        for &(code, class, words) in POSTGRES {
            let code = if code.is_empty() { "others" } else { code };
            let row = format!("| {code} | {} | {words} |", follows(class));
            assert!(runbook.contains(&row), "the runbook lacks:\n{row}");
        }
        for &(code, class, words) in SQLITE {
            let row = format!("| SQLite {code} | {} | {words} |", follows(class));
            assert!(runbook.contains(&row), "the runbook lacks:\n{row}");
        }
    }
}
