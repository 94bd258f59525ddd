//! The two databases behind one small interface: statements with `$1` placeholders, values in, rows out. It knows no
//! table.
//!
//! A small enum rather than `sqlx::Any`, since both databases need options of their own (journal
//! mode, permissions, lock timeouts) that `Any` cannot set, and three column types are all we use.

pub(super) mod codes;
pub(super) mod files;
mod postgres;
mod readers;
pub(super) mod rows;
pub(super) mod sql;
mod value;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use super::Error;
use super::outage::{Access, Outages};
use crate::config;

pub(super) use codes::is_locked;
use codes::{Class, Meaning};
use files::Files;
use postgres::Server;
use readers::Readers;
use sql::PREPARED;

pub(super) use value::{Value, millis};

/// How many times a statement's time limit the caller waits for the answer. The database cancels a statement
/// before that, so this detects a database that is gone without closing its connections.
pub(super) const TIMEOUT_FACTOR: u32 = 4;

/// Where the database is and how to connect to it.
#[derive(Debug, Clone)]
pub(super) enum Target {
    Sqlite {
        options: Box<SqliteConnectOptions>,
        /// Set once the database is open: a new connection must lead to the same files.
        files: Option<Arc<Files>>,
    },
    Postgres(Server),
}

/// Connections for reads and small writes.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    links: Links,
    /// How long one statement may take before its connection is given up.
    limit: Duration,
    outages: Arc<Outages>,
}

#[derive(Debug, Clone)]
enum Links {
    Sqlite(Readers),
    Postgres(PgPool, Server),
}

/// One connection; the writer's own.
#[derive(Debug)]
pub(super) enum Link {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>, Server),
}

/// How the rows of a `SELECT` are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    None,
    /// Against writers.
    Share,
    /// Against all that lock them.
    Update,
}

/// A row of an answer; columns are asked for by position.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The first column, where it is text; with the database's own error.
    pub(super) fn text(&self) -> Result<String, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(0),
            Self::Postgres(row) => row.try_get(0),
        }
    }

    /// Reads a column.
    pub(super) fn get<T>(&self, column: usize) -> Result<T, Error>
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|source| Error::of("reading a row", source))
    }

    /// Reads a column whose text is parsed.
    pub(super) fn parse<T>(&self, column: usize, table: &'static str) -> Result<T, Error>
    where
        T: FromStr<Err: std::fmt::Display>,
    {
        let text: String = self.get(column)?;
        text.parse()
            .map_err(|error| Error::corrupt(table, serde::de::Error::custom(error)))
    }
}

impl Target {
    /// Reads `[store]`.
    pub(super) fn of(config: &config::Store) -> Result<Self, Error> {
        let url = config.url.expose_secret();
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        match scheme {
            "sqlite" => Self::sqlite(rest, config.timeout),
            "postgres" | "postgresql" => Server::of(config).map(Self::Postgres),
            _ => Err(Error::Url("must begin with sqlite: or postgres://")),
        }
    }

    fn sqlite(path: &str, timeout: Duration) -> Result<Self, Error> {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.starts_with(":memory:") || path.contains('?') {
            return Err(Error::Url(
                "must name a file, as in sqlite:groupmq.db: the connections share it, and it has \
                 to outlive the worker",
            ));
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            // With WAL, NORMAL would lose the last commits at a power cut: commands whose reply
            // is out already.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(timeout)
            // 4 MB of pages, and a checkpoint every 16 MB of log instead of every 4: under load the
            // same pages are written over and over, and each checkpoint costs two fsyncs.
            .pragma("cache_size", "-4096")
            .pragma("wal_autocheckpoint", "4096")
            // Where a statement over many rows notes how to undo itself: not in a file, one for each
            // transaction.
            .pragma("temp_store", "MEMORY")
            .statement_cache_capacity(PREPARED)
            // Its thread hands over a batch's rows in one go.
            .row_buffer_size(256)
            .disable_statement_logging();
        Ok(Self::Sqlite {
            options: Box::new(options),
            files: None,
        })
    }

    /// Creates a missing SQLite file, readable by its owner alone: it holds phone numbers.
    ///
    /// SQLite gives its `-wal` and `-shm` files the same permissions. A file that exists keeps its.
    pub(super) fn create_file(&self) -> Result<(), Error> {
        let Self::Sqlite { options, .. } = self else {
            return Ok(());
        };
        let mut open = std::fs::OpenOptions::new();
        open.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
        match open.open(options.get_filename()) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::of(
                "creating the database file",
                sqlx::Error::Io(error),
            )),
        }
    }

    /// Opens a connection of one's own.
    pub(super) async fn link(&self) -> Result<Link, sqlx::Error> {
        match self {
            Self::Sqlite { options, files } => {
                let link = readers::connect(options, files.as_deref()).await?;
                Ok(Link::Sqlite(Box::new(link)))
            }
            Self::Postgres(server) => {
                let (link, _) = server.connect().await?;
                Ok(Link::Postgres(Box::new(link), server.clone()))
            }
        }
    }

    /// Opens the pool; connections are made when they are needed.
    pub(super) fn pool(
        &self,
        size: u32,
        timeout: Duration,
        outages: Arc<Outages>,
    ) -> Result<Pool, sqlx::Error> {
        let size = size.max(1);
        let links = match self {
            Self::Sqlite { options, files } => {
                // Half of the writer's cache: the system has the file's pages in memory too.
                let options = options.as_ref().clone().pragma("cache_size", "-2048");
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                Links::Sqlite(Readers::new(options, files.clone(), size, timeout))
            }
            Self::Postgres(server) => Links::Postgres(server.pool(size, timeout)?, server.clone()),
        };
        Ok(Pool {
            links,
            limit: timeout.saturating_mul(TIMEOUT_FACTOR),
            outages,
        })
    }
}

/// Binds values to a statement of either database.
macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql));
        for value in $values {
            query = match value {
                Value::Text(text) => query.bind(text),
                Value::Shared(text) => query.bind(text),
                Value::Int(number) => query.bind(number),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::MaybeText(text) => query.bind(text),
                Value::MaybeInt(number) => query.bind(number),
            };
        }
        query
    }};
}

/// Runs a statement on one of the connections, with a time limit.
///
/// A connection to PostgreSQL that does not answer is removed from the pool: if returned, it would be pinged first, and
/// would keep its place until that times out. One that cannot be used is removed too: a new one may reach a healthy
/// server.
macro_rules! in_time {
    ($pool:expr, $readers:ident, $link:ident => $run:expr) => {{
        let mut $link = $readers.acquire().await?;
        let answer = tokio::time::timeout($pool.limit, $run).await;
        let answer = answer.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if !answer.as_ref().is_err_and(is_worthless) {
            $link.release();
        }
        answer
    }};
    ($pool:expr, $server:ident, $links:ident, $link:ident => $run:expr) => {{
        // In a box, as it has room for all that a new connection needs.
        let mut $link = Box::pin($server.acquire($links)).await?;
        let answer = tokio::time::timeout($pool.limit, $run).await;
        let answer = answer.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if answer.as_ref().is_err_and(is_worthless) {
            drop($link.detach());
        }
        answer
    }};
}

// Behind the macros, which it uses.
mod streaming;

/// Whether a connection with this error is not to be used any more.
fn is_worthless(error: &sqlx::Error) -> bool {
    Meaning::of(error).class == Class::Outage
}

impl Link {
    /// What a `SELECT` adds to lock its rows; SQLite locks the database as a whole.
    pub(super) const fn lock(&self, lock: Lock) -> &'static str {
        match (self, lock) {
            (Self::Sqlite(_), _) | (_, Lock::None) => "",
            (Self::Postgres(..), Lock::Update) => " FOR UPDATE",
            (Self::Postgres(..), Lock::Share) => " FOR SHARE",
        }
    }

    /// Begins a transaction, with the right to write from the start.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => self.batch("BEGIN IMMEDIATE").await,
            Self::Postgres(_, server) => {
                let begin = server.begin();
                self.batch(begin).await
            }
        }
    }

    /// Commits the transaction.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.batch("COMMIT").await
    }

    /// Rolls the transaction back.
    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.batch("ROLLBACK").await
    }

    /// Runs statements without values.
    pub(super) async fn batch(&mut self, sql: impl Into<String>) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql.into()));
        match self {
            Self::Sqlite(link) => sql.execute(&mut **link).await.map(drop),
            Self::Postgres(link, _) => sql.execute(&mut **link).await.map(drop),
        }
    }

    /// Runs a statement; returns how many rows it changed.
    pub(super) async fn execute(
        &mut self,
        sql: String,
        values: Vec<Value>,
    ) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(link) => {
                let done = bound!(sql, values).execute(&mut **link).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(link, server) => {
                let statement = bound!(sql, values).persistent(!server.is_pooled());
                Ok(statement.execute(&mut **link).await?.rows_affected())
            }
        }
    }

    /// Runs a query.
    pub(super) async fn fetch(
        &mut self,
        sql: String,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(link) => {
                let rows = bound!(sql, values).fetch_all(&mut **link).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(link, server) => {
                let query = bound!(sql, values).persistent(!server.is_pooled());
                let rows = query.fetch_all(&mut **link).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}

impl Pool {
    /// Runs a query on any connection.
    pub(super) async fn fetch(
        &self,
        doing: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let rows = self.fetch_unrecorded(doing, sql, values).await;
        self.outages.note(Access::Read, &rows);
        rows
    }

    /// The same, without recording the outcome as an outage or a recovery.
    pub(super) async fn fetch_unrecorded(
        &self,
        doing: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql = sql.into();
        let rows = async {
            match &self.links {
                Links::Sqlite(readers) => {
                    let rows = in_time!(self, readers, link => {
                        bound!(sql, values).fetch_all(&mut *link)
                    })?;
                    Ok(rows.into_iter().map(Row::Sqlite).collect())
                }
                Links::Postgres(pool, server) => {
                    let rows = in_time!(self, server, pool, link => {
                        server.fetch(&mut link, bound!(sql, values))
                    })?;
                    Ok(rows.into_iter().map(Row::Postgres).collect())
                }
            }
        };
        rows.await.map_err(|source| Error::of(doing, source))
    }

    /// Runs a statement on any connection; returns how many rows it changed.
    pub(super) async fn execute(
        &self,
        doing: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        let sql = sql.into();
        let done = async {
            match &self.links {
                Links::Sqlite(readers) => {
                    let done = in_time!(self, readers, link => {
                        bound!(sql, values).execute(&mut *link)
                    })?;
                    Ok(done.rows_affected())
                }
                Links::Postgres(pool, server) => {
                    let done = in_time!(self, server, pool, link => {
                        server.execute(&mut link, bound!(sql, values))
                    })?;
                    Ok(done.rows_affected())
                }
            }
        };
        let done = done.await.map_err(|source| Error::of(doing, source));
        self.outages.note(Access::Write, &done);
        done
    }

    /// Runs a conditional statement; false if it changed nothing.
    pub(super) async fn change(
        &self,
        doing: &'static str,
        sql: impl Into<String>,
        values: Vec<Value>,
    ) -> Result<bool, Error> {
        Ok(self.execute(doing, sql, values).await? > 0)
    }

    /// Rows of placeholders, as [`Link::placeholders`].
    pub(super) fn placeholders(&self, rows: usize, columns: usize) -> String {
        sql::placeholders(self.mark(), rows, columns)
    }

    /// The time by the database's own clock, in milliseconds since 1970, as an expression. Leases are
    /// measured by it: the clocks of the processes' machines are never compared.
    pub(super) const fn now(&self) -> &'static str {
        match self.links {
            Links::Sqlite(_) => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Links::Postgres(..) => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    const fn mark(&self) -> sql::Mark {
        match &self.links {
            Links::Sqlite(_) => sql::Mark::Question,
            Links::Postgres(..) => sql::Mark::Number,
        }
    }

    /// Whether connections go through a pooler.
    pub(super) fn is_pooled(&self) -> bool {
        match &self.links {
            Links::Sqlite(_) => false,
            Links::Postgres(_, server) => server.is_pooled(),
        }
    }

    /// Whether this is PostgreSQL.
    pub(super) const fn is_postgres(&self) -> bool {
        matches!(self.links, Links::Postgres(..))
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        match &self.links {
            Links::Sqlite(readers) => readers.close().await,
            Links::Postgres(pool, _) => pool.close().await,
        }
    }
}
