//! Answers that are read row by row, so that a long one need not fit into memory.

use std::ops::ControlFlow;

use futures_util::{Stream, TryStreamExt as _};
use sqlx::AssertSqlSafe;

use super::{Links, Pool, Row, Value, is_worthless};
use crate::store::Error;
use crate::store::outage::Access;

impl Pool {
    /// Runs a query on any connection, and passes its rows on as they come, until `each` breaks.
    ///
    /// The connection is in use meanwhile. The time limit is that of all rows together.
    pub(in crate::store) async fn fetch_each(
        &self,
        doing: &'static str,
        sql: String,
        values: Vec<Value>,
        mut each: impl FnMut(Row) -> ControlFlow<()> + Send,
    ) -> Result<(), Error> {
        let done = async {
            match &self.links {
                Links::Sqlite(readers) => in_time!(self, readers, link => async {
                    let rows = bound!(sql, values).fetch(&mut *link);
                    pass_on(rows, |row| each(Row::Sqlite(row))).await.map(drop)
                }),
                Links::Postgres(pool, server) => in_time!(self, server, pool, link => async {
                    let query = bound!(sql, values);
                    let each = |row| each(Row::Postgres(row));
                    let flow = server.fetch_each(&mut link, query, each).await?;
                    if flow.is_break() {
                        // Before its next use, it would read the rest of the answer.
                        link.close_on_drop();
                    }
                    Ok(())
                }),
            }
        };
        let done = done.await.map_err(|source| Error::of(doing, source));
        self.outages.note(Access::Read, &done);
        done
    }
}

/// Passes rows on until there are no more, or `each` breaks.
pub(super) async fn pass_on<R>(
    mut rows: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    mut each: impl FnMut(R) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, sqlx::Error> {
    while let Some(row) = rows.try_next().await? {
        if each(row).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
