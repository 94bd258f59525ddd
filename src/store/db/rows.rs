//! Statements over many rows at once, each database in its own way: SQLite gets a list of `VALUES`, of few different
//! lengths so that all texts stay prepared; PostgreSQL gets an array for each column, so that there is one text, one
//! plan and one round trip for any number of rows.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;

use super::postgres::Server;
use super::sql::{self, Mark};
use super::{Link, Row, Value};

/// A statement around rows, such as `INSERT INTO table (a, b) ` … ` ON CONFLICT …`.
#[derive(Debug)]
pub(in crate::store) struct RowStatement {
    /// What an error says was being done.
    pub(in crate::store) doing: &'static str,
    pub(in crate::store) before: String,
    /// Of the same length each, with the same kind of value in each column.
    pub(in crate::store) rows: Vec<Vec<Value>>,
    pub(in crate::store) after: String,
    /// A row may be there twice: they are keys to look for.
    pub(in crate::store) repeatable: bool,
}

/// One column of all rows, as an array.
enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Bytes(Vec<Vec<u8>>),
}

impl RowStatement {
    /// The statements for SQLite.
    fn lists(self) -> impl Iterator<Item = (String, Vec<Value>)> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let lists = if self.repeatable {
            sql::key_lists(self.rows)
        } else {
            sql::row_lists(self.rows)
        };
        let (before, after) = (self.before, self.after);
        lists.into_iter().map(move |(count, values)| {
            let rows = sql::placeholders(Mark::Question, count, columns);
            (format!("{before}VALUES {rows}{after}"), values)
        })
    }

    /// The statement for PostgreSQL.
    fn arrays(self, server: &Server) -> Query<'static, Postgres, PgArguments> {
        let columns = columns(self.rows);
        let types: Vec<_> = columns.iter().zip(1..).map(Column::placeholder).collect();
        let (before, after, types) = (self.before, self.after, types.join(", "));
        let sql = format!("{before}SELECT * FROM UNNEST({types}){after}");
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(!server.is_pooled());
        columns.into_iter().fold(query, |query, it| it.bind(query))
    }
}

impl Column {
    /// An empty column for values of this kind.
    const fn of(value: &Value) -> Self {
        match value {
            Value::Text(_) | Value::Shared(_) | Value::MaybeText(_) => Self::Text(Vec::new()),
            Value::Int(_) | Value::MaybeInt(_) => Self::Int(Vec::new()),
            Value::Bytes(_) => Self::Bytes(Vec::new()),
        }
    }

    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Text(all), Value::Text(text)) => all.push(Some(text)),
            (Self::Text(all), Value::Shared(text)) => all.push(Some(text.as_ref().to_owned())),
            (Self::Text(all), Value::MaybeText(text)) => all.push(text),
            (Self::Int(all), Value::Int(number)) => all.push(Some(number)),
            (Self::Int(all), Value::MaybeInt(number)) => all.push(number),
            (Self::Bytes(all), Value::Bytes(bytes)) => all.push(bytes),
            // The columns of a table have one kind of value each.
            (_, value) => debug_assert!(false, "another kind of value: {value:?}"),
        }
    }

    fn placeholder((column, number): (&Self, usize)) -> String {
        let name = match column {
            Self::Text(_) => "text",
            Self::Int(_) => "bigint",
            Self::Bytes(_) => "bytea",
        };
        format!("${number}::{name}[]")
    }

    fn bind(self, query: Query<'_, Postgres, PgArguments>) -> Query<'_, Postgres, PgArguments> {
        match self {
            Self::Text(values) => query.bind(values),
            Self::Int(values) => query.bind(values),
            Self::Bytes(values) => query.bind(values),
        }
    }
}

fn columns(rows: Vec<Vec<Value>>) -> Vec<Column> {
    let first = rows.first().into_iter().flatten();
    let mut columns: Vec<_> = first.map(Column::of).collect();
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    columns
}

impl Link {
    /// Runs a statement over rows.
    pub(in crate::store) async fn execute_rows(
        &mut self,
        statement: RowStatement,
    ) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(_) => {
                for (sql, values) in statement.lists() {
                    self.execute(sql, values).await?;
                }
            }
            Self::Postgres(link, server) => {
                statement.arrays(server).execute(&mut **link).await?;
            }
        }
        Ok(())
    }

    /// Runs a query over rows.
    pub(in crate::store) async fn fetch_rows(
        &mut self,
        statement: RowStatement,
    ) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(_) => {
                let mut rows = Vec::new();
                for (sql, values) in statement.lists() {
                    rows.extend(self.fetch(sql, values).await?);
                }
                Ok(rows)
            }
            Self::Postgres(link, server) => {
                let rows = statement.arrays(server).fetch_all(&mut **link).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}
