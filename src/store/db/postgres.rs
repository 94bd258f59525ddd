//! PostgreSQL, reached directly or through a pooler such as pgbouncer.
//!
//! A pooler may give each transaction another session of the server. Behind one, nothing may rest with the
//! session: each statement runs in a transaction, limits of time are set in it (`SET LOCAL`), and
//! statements are not kept prepared, since their names would meet those of others. Directly, limits are
//! options of the session and statements stay prepared, which saves round trips and planning.
//!
//! A connection finds out by itself which it is: poolers refuse options of the session, or ignore them.

use std::ops::ControlFlow;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgQueryResult, PgRow,
};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Postgres, Row as _};

use super::sql::PREPARED;
use super::streaming::pass_on;
use crate::config;
use crate::store::Error;

/// An option of the session that only groupmq sets.
const MARK: &str = "groupmq.direct";

const NO_URL: &str = "is no PostgreSQL URL: postgres://user:password@host/database";

/// Where the server is, and how it is reached.
#[derive(Debug, Clone)]
pub(in crate::store) struct Server {
    config: config::Store,
    /// How long a statement may take or wait.
    limit: String,
    is_pooled: Arc<AtomicBool>,
    /// The last attempt to connect failed.
    is_refused: Arc<AtomicBool>,
}

impl Server {
    pub(in crate::store) fn of(config: &config::Store) -> Result<Self, Error> {
        let server = Self {
            config: config.clone(),
            limit: format!("{}ms", config.timeout.as_millis().max(1)),
            is_pooled: Arc::default(),
            is_refused: Arc::default(),
        };
        match options(server.config.url.expose_secret()) {
            Some(_) => Ok(server),
            None => Err(Error::Url(NO_URL)),
        }
    }

    /// Whether a pooler stands before it, as far as is known.
    pub(in crate::store) fn is_pooled(&self) -> bool {
        self.is_pooled.load(Ordering::Relaxed)
    }

    /// What limits how long anything may take.
    fn limits(&self) -> [(&'static str, &str); 3] {
        [
            ("lock_timeout", &self.limit),
            ("statement_timeout", &self.limit),
            // A worker that is paused within a transaction must not keep its rows from the others.
            ("idle_in_transaction_session_timeout", &self.limit),
        ]
    }

    /// What begins a transaction.
    pub(in crate::store) fn begin(&self) -> String {
        let mut begin = "BEGIN".to_owned();
        if self.is_pooled() {
            for (name, limit) in self.limits() {
                begin = format!("{begin}; SET LOCAL {name} = '{limit}'");
            }
        }
        begin
    }

    /// Opens a connection, and returns the options with which that succeeded.
    pub(in crate::store) async fn connect(
        &self,
    ) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let plain = self.options()?;
        if !self.is_pooled() {
            let direct = self.direct(plain.clone());
            match direct.connect().await {
                Ok(mut link) => {
                    self.look(&mut link).await?;
                    return Ok((link, direct));
                }
                Err(error) if may_be_of_options(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let link = plain.connect().await?;
        self.is_pooled.store(true, Ordering::Relaxed);
        Ok((link, plain))
    }

    /// Finds out whether our options reached the session.
    async fn look(&self, link: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = format!("SELECT current_setting('{MARK}', true)");
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(link).await?;
        if row.try_get::<Option<&str>, _>(0)? != Some("on") {
            self.is_pooled.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn direct(&self, plain: PgConnectOptions) -> PgConnectOptions {
        plain.options(self.limits()).options([(MARK, "on")])
    }

    fn options(&self) -> Result<PgConnectOptions, sqlx::Error> {
        let url = self.config.url_now().map_err(|error| {
            sqlx::Error::Configuration(format!("store.url_file cannot be read: {error}").into())
        })?;
        // The parser's own error might repeat the url.
        options(url.expose_secret())
            .ok_or_else(|| sqlx::Error::Configuration(format!("store.url_file {NO_URL}").into()))
    }

    /// A pool of connections, made when they are needed.
    pub(in crate::store) fn pool(
        &self,
        size: u32,
        timeout: Duration,
    ) -> Result<PgPool, sqlx::Error> {
        let mut options = self.options()?;
        if !self.is_pooled() {
            options = self.direct(options);
        }
        let server = self.clone();
        Ok(PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(timeout)
            // Its warning; a wait that is too long is an error of ours.
            .acquire_slow_threshold(timeout)
            .after_connect(move |link, _| {
                let server = server.clone();
                Box::pin(async move {
                    if !server.is_pooled() {
                        // One that breaks here fails at its first statement, which says so.
                        server.look(link).await.ok();
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(options))
    }

    /// A connection of the pool.
    ///
    /// The pool cannot change its options, and does not report every reason of a failure; so if it has no
    /// connection, one outside the pool shows the reason, and the options that would work.
    pub(in crate::store) async fn acquire(
        &self,
        pool: &PgPool,
    ) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        let error = if self.is_refused.load(Ordering::Relaxed) {
            // The pool would only log in once more to find that out; a password is hashed each time.
            match pool.try_acquire() {
                Some(link) => return Ok(link),
                None => None,
            }
        } else {
            match pool.acquire().await {
                Ok(link) => return Ok(link),
                Err(error @ sqlx::Error::PoolClosed) => return Err(error),
                Err(error) => Some(error),
            }
        };
        let within = pool.options().get_acquire_timeout();
        let connected = tokio::time::timeout(within, self.connect()).await;
        let is_refused = !matches!(connected, Ok(Ok(_)));
        self.is_refused.store(is_refused, Ordering::Relaxed);
        let Ok(connected) = connected else {
            return Err(error.unwrap_or(sqlx::Error::PoolTimedOut));
        };
        let (link, options) = connected?;
        pool.set_connect_options(options);
        link.close().await.ok();
        match error {
            // All were in use.
            Some(error @ sqlx::Error::PoolTimedOut) => Err(error),
            _ => pool.acquire().await,
        }
    }

    /// Runs a query alone.
    pub(in crate::store) async fn fetch(
        &self,
        link: &mut PgConnection,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        if !self.is_pooled() {
            return query.fetch_all(link).await;
        }
        let mut transaction = link.begin_with(AssertSqlSafe(self.begin())).await?;
        let rows = query.persistent(false).fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Runs a query alone, and passes its rows on one by one, until `each` breaks.
    pub(in crate::store) async fn fetch_each(
        &self,
        link: &mut PgConnection,
        query: Query<'_, Postgres, PgArguments>,
        each: impl FnMut(PgRow) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, sqlx::Error> {
        if !self.is_pooled() {
            return pass_on(query.fetch(link), each).await;
        }
        let mut transaction = link.begin_with(AssertSqlSafe(self.begin())).await?;
        let rows = query.persistent(false).fetch(&mut *transaction);
        let flow = pass_on(rows, each).await?;
        if flow.is_continue() {
            transaction.commit().await?;
        }
        Ok(flow)
    }

    /// Runs a statement alone.
    pub(in crate::store) async fn execute(
        &self,
        link: &mut PgConnection,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgQueryResult, sqlx::Error> {
        if !self.is_pooled() {
            return query.execute(link).await;
        }
        let mut transaction = link.begin_with(AssertSqlSafe(self.begin())).await?;
        let done = query.persistent(false).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done)
    }
}

/// What a connection has in common, however the server is reached.
fn options(url: &str) -> Option<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).ok()?;
    Some(
        options
            .application_name("groupmq")
            // An option that poolers refuse; no table holds such numbers.
            .extra_float_digits(None)
            .statement_cache_capacity(PREPARED)
            .disable_statement_logging(),
    )
}

/// Whether a connection may have been refused for its options: no connection (08), or not supported (0A).
fn may_be_of_options(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code.starts_with("08") || code.starts_with("0A"))
}
