//! Statements over many rows at once, each database in its own way: SQLite gets a list of `VALUES`, of few different
//! lengths so that all texts stay prepared; PostgreSQL gets an array for each column, so that there is one text, one
//! plan and one round trip for any number of rows.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, Postgres};
use sqlx::query::Query;

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
    fn arrays(self) -> (String, Vec<Column>) {
        let columns = columns(self.rows);
        let types: Vec<_> = columns.iter().zip(1..).map(Column::placeholder).collect();
        let (before, after, types) = (self.before, self.after, types.join(", "));
        (
            format!("{before}SELECT * FROM UNNEST({types}){after}"),
            columns,
        )
    }
}

impl Column {
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

    /// Adds a value; the first one decides about the kind.
    fn add(column: Option<Self>, value: Value) -> Self {
        let text = |column, value| match column {
            Some(Self::Text(mut all)) => {
                all.push(value);
                Self::Text(all)
            }
            _ => Self::Text(vec![value]),
        };
        let int = |column, value| match column {
            Some(Self::Int(mut all)) => {
                all.push(value);
                Self::Int(all)
            }
            _ => Self::Int(vec![value]),
        };
        match value {
            Value::Text(value) => text(column, Some(value)),
            Value::Shared(value) => text(column, Some(value.as_ref().to_owned())),
            Value::MaybeText(value) => text(column, value),
            Value::Int(value) => int(column, Some(value)),
            Value::MaybeInt(value) => int(column, value),
            Value::Bytes(value) => match column {
                Some(Self::Bytes(mut all)) => {
                    all.push(value);
                    Self::Bytes(all)
                }
                _ => Self::Bytes(vec![value]),
            },
        }
    }
}

fn columns(rows: Vec<Vec<Value>>) -> Vec<Column> {
    let mut columns: Vec<Option<Column>> = Vec::new();
    for row in rows {
        columns.resize_with(row.len(), || None);
        for (column, value) in columns.iter_mut().zip(row) {
            *column = Some(Column::add(column.take(), value));
        }
    }
    columns.into_iter().flatten().collect()
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
                let (sql, columns) = statement.arrays();
                let query = sqlx::query(AssertSqlSafe(sql)).persistent(!server.is_pooled());
                let query = columns.into_iter().fold(query, |query, it| it.bind(query));
                query.execute(&mut **link).await?;
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
                let (sql, columns) = statement.arrays();
                let query = sqlx::query(AssertSqlSafe(sql)).persistent(!server.is_pooled());
                let query = columns.into_iter().fold(query, |query, it| it.bind(query));
                let rows = query.fetch_all(&mut **link).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }
}
