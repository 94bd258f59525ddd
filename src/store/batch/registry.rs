//! The tables that take part in batches, in the order in which their rows are locked and written.

use std::any::Any;

use super::rows::{AnyTable, Table, TableRow};
use crate::store::Error;
use crate::store::db::Link;

/// The tables that take part.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Registry(Vec<fn() -> Box<dyn AnyTable>>);

impl Registry {
    /// Adds a table, which is locked and written after those that were added before.
    #[must_use]
    pub(in crate::store) fn with<R: TableRow>(mut self) -> Self {
        self.0.push(|| Box::new(Table::<R>::default()));
        self
    }

    /// Rows for a batch that begins.
    pub(super) fn rows(&self) -> Rows {
        Rows(self.0.iter().map(|table| table()).collect())
    }
}

/// The rows that a batch works on, in memory.
pub(in crate::store) struct Rows(Vec<Box<dyn AnyTable>>);

impl Rows {
    /// The rows of a table.
    ///
    /// # Errors
    /// When the table is not in the [`Registry`].
    pub(in crate::store) fn table<R: TableRow>(&mut self) -> Result<&mut Table<R>, Error> {
        let mut tables = self.0.iter_mut().map(|table| &mut **table as &mut dyn Any);
        tables
            .find_map(|table| table.downcast_mut())
            .ok_or(Error::Batch(R::TABLE))
    }

    /// Loads, and where possible locks, the rows that were requested.
    pub(super) async fn load(&mut self, link: &mut Link) -> Result<(), Error> {
        for table in &mut self.0 {
            let Some(statement) = table.loads(link) else {
                continue;
            };
            let doing = statement.doing;
            let found = link.fetch_rows(statement).await;
            for row in &found.map_err(|error| Error::of(doing, error))? {
                table.load(row)?;
            }
        }
        Ok(())
    }

    /// Writes the changes.
    pub(super) async fn write(self, link: &mut Link) -> Result<(), Error> {
        for table in self.0 {
            for statement in table.writes()? {
                let doing = statement.doing;
                let done = link.execute_rows(statement).await;
                done.map_err(|error| Error::of(doing, error))?;
            }
        }
        Ok(())
    }
}

/// The rows that a job reads.
#[derive(Default)]
pub(in crate::store) struct ReadSet(Vec<Request>);

type Request = Box<dyn Fn(&mut Rows) -> Result<(), Error> + Send>;

impl ReadSet {
    /// Adds rows of a table, by their keys.
    #[must_use]
    pub(in crate::store) fn with<R: TableRow>(
        mut self,
        keys: impl IntoIterator<Item = R::Key>,
    ) -> Self {
        let keys: Vec<_> = keys.into_iter().collect();
        self.0.push(Box::new(move |rows| {
            let table = rows.table::<R>()?;
            for key in &keys {
                table.request(key.clone());
            }
            Ok(())
        }));
        self
    }

    pub(super) fn request(&self, rows: &mut Rows) -> Result<(), Error> {
        self.0.iter().try_for_each(|request| request(rows))
    }
}
