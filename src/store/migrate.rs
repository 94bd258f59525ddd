//! The tables, brought up to date when the store is opened.
//!
//! A migration that was released is never edited: its checksum is kept in the database.

use std::sync::Arc;
use std::time::Duration;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::Error;
use super::db::Link;

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
];

/// How often SQLite is asked again when another process migrates the same file.
const ATTEMPTS: u32 = 5;

/// Runs what has not run yet.
///
/// On PostgreSQL an advisory lock makes workers that start together take turns. SQLite has none;
/// there the loser's transaction fails, and the next attempt finds the work done.
pub(super) async fn run(link: &mut Link) -> Result<(), Error> {
    match link {
        Link::Postgres(link) => {
            // A migration of a large table, or of another worker, may take long.
            sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")
                .execute(&mut **link)
                .await
                .map_err(|source| Error::of("migrating", source))?;
            migrator(POSTGRES).run(&mut **link).await
        }
        Link::Sqlite(link) => {
            let mut attempt = 1;
            loop {
                match migrator(SQLITE).run(&mut **link).await {
                    Err(MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
                        if attempt < ATTEMPTS =>
                    {
                        tokio::time::sleep(Duration::from_millis(50) * attempt).await;
                        attempt += 1;
                    }
                    done => break done,
                }
            }
        }
    }
    .map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
            Error::of("migrating", source)
        }
        other => Error::Migration(Arc::new(other)),
    })
}

fn migrator(steps: &[Step]) -> Migrator {
    let migration = |&(version, description, sql): &Step| {
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations(steps.iter().map(migration).collect())
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
