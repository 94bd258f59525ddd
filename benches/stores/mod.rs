//! The stores that are measured: SQLite and PostgreSQL, each with a small and with a large ledger.

use std::path::Path;

use groupmq_test_support::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

/// What a worker remembers of some seconds.
const SMALL: i64 = 1_000;

/// A store of its own.
pub(crate) struct Store {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    /// Rows in its ledger when a run begins.
    pub(crate) rows: i64,
    /// Whether the ledger is that of a day, which a run does not change much.
    pub(crate) is_large: bool,
}

/// Empty stores. The server is one that forgets nothing when the power fails, as SQLite is set too.
pub(crate) fn empty(folder: &Path, server: &Postgres, large: i64) -> Vec<Store> {
    server.set("fsync", "on").unwrap();
    let mut stores = Vec::new();
    for (rows, is_large) in [(SMALL, false), (large, true)] {
        let sqlite = format!("sqlite:{}", folder.join(format!("{rows}.db")).display());
        let postgres = server.database().unwrap().url.clone();
        for (name, url) in [("SQLite", sqlite), ("PostgreSQL", postgres)] {
            stores.push(Store {
                name,
                url,
                rows,
                is_large,
            });
        }
    }
    stores
}

/// The columns of the ledger that a row needs; the others have defaults.
const COLUMNS: &str =
    "session, command_id, fingerprint, state, owner, started_at, finished_at, record";

/// Replaces what the ledger holds by rows like its last one, of the past hours. What the sandbox remembers is
/// the engine's, and begins empty.
pub(crate) async fn fill(store: &Store) {
    // Version 7 ids, as `groupmq send` makes them: the newest comes last.
    let row = "SELECT 'default', {id}, fingerprint, state, owner, {ms}, {ms}, record \
               FROM numbers, (SELECT * FROM template) AS template";
    let of_number = |id: &str, now: &str| {
        let ms = format!("({now} - 36000000 + 36000000 * n / {})", store.rows);
        row.replace("{id}", &id.replace("{ms}", &ms))
            .replace("{ms}", &ms)
    };
    let (numbers, rows, settle) = if store.name == "SQLite" {
        let id = "printf('%08x-%04x-7%03x-8000-%012x', {ms} >> 16, {ms} & 65535, n & 4095, n)";
        let now = "CAST(strftime('%s') AS INTEGER) * 1000";
        let numbers = format!(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers \
             WHERE n < {})",
            store.rows
        );
        (
            numbers,
            of_number(id, now),
            "PRAGMA wal_checkpoint(TRUNCATE)",
        )
    } else {
        let hex = |number: &str, digits| format!("lpad(to_hex({number}), {digits}, '0')");
        let id = format!(
            "concat_ws('-', {}, {}, '7' || {}, '8000', {})",
            hex("({ms}) >> 16", 8),
            hex("({ms}) & 65535", 4),
            hex("n & 4095", 3),
            hex("n", 12)
        );
        let now = "(extract(epoch FROM now())::bigint * 1000)";
        let numbers = format!(
            "WITH numbers(n) AS (SELECT generate_series(1, {}::bigint))",
            store.rows
        );
        (numbers, of_number(&id, now), "VACUUM ANALYZE ledger")
    };
    let statements = [
        "CREATE TEMPORARY TABLE template AS SELECT * FROM ledger ORDER BY finished_at DESC LIMIT 1",
        "DELETE FROM ledger",
        "DELETE FROM sandbox_outcomes",
        &format!("INSERT INTO ledger ({COLUMNS}) {numbers} {rows}"),
        settle,
    ];
    if store.name == "SQLite" {
        let mut link = SqliteConnection::connect(&store.url).await.unwrap();
        for statement in statements.map(str::to_owned).map(AssertSqlSafe) {
            sqlx::raw_sql(statement).execute(&mut link).await.unwrap();
        }
    } else {
        let mut link = PgConnection::connect(&store.url).await.unwrap();
        for statement in statements.map(str::to_owned).map(AssertSqlSafe) {
            sqlx::raw_sql(statement).execute(&mut link).await.unwrap();
        }
    }
}
