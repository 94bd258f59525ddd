//! The migrations, which run when the store is opened.
//!
//! A released migration is never edited: the database stores its checksum.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::SqlSafeStr as _;
use sqlx::error::DatabaseError;
use sqlx::migrate::{Migration, MigrationType};

use super::Error;
use super::db::{Link, Value};

/// Version, description, SQL.
type Step = (i64, &'static str, &'static str);

const SQLITE: &[Step] = &[
    (
        1,
        "ledger",
        include_str!("../../migrations/sqlite/0001_ledger.sql"),
    ),
    (
        2,
        "sandbox",
        include_str!("../../migrations/sqlite/0002_sandbox.sql"),
    ),
    (
        3,
        "workers_and_lanes",
        include_str!("../../migrations/sqlite/0003_workers_and_lanes.sql"),
    ),
    (
        4,
        "webhooks",
        include_str!("../../migrations/sqlite/0004_webhooks.sql"),
    ),
    (
        5,
        "pending_events",
        include_str!("../../migrations/sqlite/0005_pending_events.sql"),
    ),
    (
        6,
        "shards",
        include_str!("../../migrations/sqlite/0006_shards.sql"),
    ),
    (
        7,
        "ledger_starts",
        include_str!("../../migrations/sqlite/0007_ledger_starts.sql"),
    ),
    (
        8,
        "installation",
        include_str!("../../migrations/sqlite/0008_installation.sql"),
    ),
    (
        9,
        "deferred",
        include_str!("../../migrations/sqlite/0009_deferred.sql"),
    ),
    (
        10,
        "sandbox_outcomes",
        include_str!("../../migrations/sqlite/0010_sandbox_outcomes.sql"),
    ),
    (
        11,
        "sandbox_invite_codes",
        include_str!("../../migrations/sqlite/0011_sandbox_invite_codes.sql"),
    ),
    (
        12,
        "sandbox_subjects",
        include_str!("../../migrations/sqlite/0012_sandbox_subjects.sql"),
    ),
];

const POSTGRES: &[Step] = &[
    (
        1,
        "ledger",
        include_str!("../../migrations/postgres/0001_ledger.sql"),
    ),
    (
        2,
        "sandbox",
        include_str!("../../migrations/postgres/0002_sandbox.sql"),
    ),
    (
        3,
        "workers_and_lanes",
        include_str!("../../migrations/postgres/0003_workers_and_lanes.sql"),
    ),
    (
        4,
        "webhooks",
        include_str!("../../migrations/postgres/0004_webhooks.sql"),
    ),
    (
        5,
        "pending_events",
        include_str!("../../migrations/postgres/0005_pending_events.sql"),
    ),
    (
        6,
        "shards",
        include_str!("../../migrations/postgres/0006_shards.sql"),
    ),
    (
        7,
        "ledger_starts",
        include_str!("../../migrations/postgres/0007_ledger_starts.sql"),
    ),
    (
        8,
        "installation",
        include_str!("../../migrations/postgres/0008_installation.sql"),
    ),
    (
        9,
        "deferred",
        include_str!("../../migrations/postgres/0009_deferred.sql"),
    ),
    (
        10,
        "sandbox_outcomes",
        include_str!("../../migrations/postgres/0010_sandbox_outcomes.sql"),
    ),
    (
        11,
        "sandbox_invite_codes",
        include_str!("../../migrations/postgres/0011_sandbox_invite_codes.sql"),
    ),
    (
        12,
        "sandbox_subjects",
        include_str!("../../migrations/postgres/0012_sandbox_subjects.sql"),
    ),
];

/// The table of applied migrations; its name and columns are sqlx's.
const TABLE_IN_SQLITE: &str = "
CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
)";

const TABLE_IN_POSTGRES: &str = "
CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
)";

/// The lock that a migrating process holds on PostgreSQL until its transaction ends.
const LOCK: i64 = 0x6772_6f75_706d_7101;

/// The missing migrations, by number and name.
pub(super) async fn missing(link: &mut Link) -> Result<Vec<String>, Error> {
    begin(link, false).await?;
    let missing = look(link).await?;
    // Nothing was changed.
    link.rollback().await.map_err(failed)?;
    Ok(missing.into_iter().map(name).collect())
}

/// Runs the missing migrations, and returns them; if there are none, no right to create tables is needed.
///
/// All run in one transaction; a second process waits for it, and finds none missing.
pub(super) async fn run(link: &mut Link) -> Result<Vec<String>, Error> {
    let missing = missing(link).await?;
    if missing.is_empty() {
        return Ok(missing);
    }
    begin(link, true).await?;
    match apply(link).await {
        Ok(made) => Ok(made),
        Err(error) => {
            link.rollback().await.ok();
            Err(may_not(error, &missing))
        }
    }
}

async fn apply(link: &mut Link) -> Result<Vec<String>, Error> {
    let steps = look(link).await?;
    if !steps.is_empty() {
        let table = match link {
            Link::Sqlite(_) => TABLE_IN_SQLITE,
            Link::Postgres(..) => TABLE_IN_POSTGRES,
        };
        link.batch(table).await.map_err(failed)?;
    }
    for &(version, description, sql) in &steps {
        link.batch(sql).await.map_err(failed)?;
        let values = vec![
            Value::Int(version),
            description.into(),
            Value::Bytes(checksum(sql)),
        ];
        let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                   VALUES ($1, $2, TRUE, $3, -1)";
        link.execute(sql.to_owned(), values).await.map_err(failed)?;
    }
    link.commit().await.map_err(failed)?;
    Ok(steps.into_iter().map(name).collect())
}

/// Begins a transaction; for changes, once no other process migrates.
async fn begin(link: &mut Link, to_change: bool) -> Result<(), Error> {
    link.begin().await.map_err(failed)?;
    if to_change && matches!(link, Link::Postgres(..)) {
        // A migration of a large table, or of another worker, may take long.
        let alone = format!(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
             SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})"
        );
        link.batch(alone).await.map_err(failed)?;
    }
    Ok(())
}

/// The migrations that were not applied.
async fn look(link: &mut Link) -> Result<Vec<Step>, Error> {
    let (steps, is_there) = match link {
        Link::Sqlite(_) => (
            SQLITE,
            "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'",
        ),
        Link::Postgres(..) => (
            POSTGRES,
            // Not `to_regclass`: within a transaction it may remember that there was none.
            "SELECT COUNT(*) FROM pg_catalog.pg_class \
             WHERE relname = '_sqlx_migrations' AND pg_table_is_visible(oid)",
        ),
    };
    let mut made = BTreeMap::new();
    let rows = link.fetch(is_there.to_owned(), Vec::new()).await;
    let is_there = rows.map_err(failed)?.first().map(|row| row.get::<i64>(0));
    if is_there.transpose()? == Some(1) {
        let sql = "SELECT version, checksum FROM _sqlx_migrations".to_owned();
        for row in link.fetch(sql, Vec::new()).await.map_err(failed)? {
            made.insert(row.get::<i64>(0)?, row.get::<Vec<u8>>(1)?);
        }
    }
    let mut missing = Vec::new();
    for &step in steps {
        match made.remove(&step.0) {
            None => missing.push(step),
            Some(sum) if sum == checksum(step.2) => {}
            Some(_) => return Err(Error::Migration(format!("{} is another", name(step)))),
        }
    }
    match made.pop_first() {
        Some((version, _)) => Err(Error::Migration(format!(
            "{version:04} is not known to this one"
        ))),
        None => Ok(missing),
    }
}

/// Every table of PostgreSQL's that a worker reads and writes.
pub(super) fn tables() -> impl Iterator<Item = &'static str> {
    let lines = POSTGRES.iter().flat_map(|(_, _, sql)| sql.lines());
    lines.filter_map(|line| {
        let table = line.strip_prefix("CREATE TABLE ")?;
        let table = table.trim_start_matches("IF NOT EXISTS ");
        table.split([' ', '(']).next()
    })
}

fn name((version, description, _): Step) -> String {
    format!("{version:04}_{description}")
}

fn failed(source: sqlx::Error) -> Error {
    Error::of("migrating", source)
}

/// Adds what is missing to the error, if the role lacks the right to migrate.
fn may_not(error: Error, missing: &[String]) -> Error {
    let Error::Unavailable { source, .. } = &error else {
        return error;
    };
    let code = source.as_database_error().and_then(DatabaseError::code);
    // insufficient_privilege; read_only_sql_transaction
    match code.as_deref() {
        Some("42501" | "25006") => Error::Unmigrated {
            missing: missing.join(", "),
            source: Arc::clone(source),
        },
        _ => error,
    }
}

/// As it has been kept from the start.
fn checksum(sql: &'static str) -> Vec<u8> {
    let kind = MigrationType::Simple;
    let migration = Migration::new(0, "".into(), kind, sql.into_sql_str(), false);
    migration.checksum.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_have_the_same_migrations() {
        let names = |steps: &[Step]| -> Vec<_> { steps.iter().map(|s| (s.0, s.1)).collect() };
        assert_eq!(names(SQLITE), names(POSTGRES));
    }

    #[test]
    fn every_file_is_a_migration() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for (folder, steps) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
            let files = std::fs::read_dir(root.join(folder)).unwrap();
            let mut files: Vec<_> = files
                .map(|file| file.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            let known = steps
                .iter()
                .map(|(number, name, _)| format!("{number:04}_{name}.sql"));
            assert_eq!(files, known.collect::<Vec<_>>());
        }
    }
}
