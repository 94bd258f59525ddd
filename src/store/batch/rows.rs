//! The rows of one table in a batch: loaded when it begins, changed in memory, written back when it ends.

use std::any::Any;
use std::collections::BTreeMap;

use crate::store::Error;
use crate::store::db::rows::RowStatement;
use crate::store::db::{self, Link, Lock, Value};

/// A row that the batcher can load and write.
pub(in crate::store) trait TableRow: Send + Sized + 'static {
    type Key: Ord + Clone + Send + 'static;

    const TABLE: &'static str;
    /// The columns of the key.
    const KEY: &'static [&'static str];
    /// The other columns.
    const COLUMNS: &'static [&'static str];
    /// How rows are locked when they are loaded.
    const LOCK: Lock = Lock::Update;
    /// What an error says was being done.
    const READING: &'static str = "reading rows";
    const WRITING: &'static str;

    /// The values of the key's columns.
    fn key_values(key: &Self::Key) -> Vec<Value>;

    /// The values of the other columns.
    fn values(self) -> Result<Vec<Value>, Error>;

    /// Reads a row of [`select`]; a table that is only written has no need to.
    fn read(_: &db::Row) -> Result<(Self::Key, Self), Error> {
        Err(Error::Batch(Self::TABLE))
    }
}

/// A query for rows that [`TableRow::read`] reads.
pub(in crate::store) fn select<R: TableRow>(rest: &str) -> String {
    format!("SELECT {} FROM {} {rest}", columns::<R>(), R::TABLE)
}

/// The rows of a table in a batch.
#[derive(Debug)]
pub(in crate::store) struct Table<R: TableRow>(BTreeMap<R::Key, Slot<R>>);

#[derive(Debug)]
struct Slot<R> {
    /// The table may have the row already.
    stored: bool,
    changed: bool,
    row: Option<R>,
}

impl<R> Slot<R> {
    const fn empty() -> Self {
        Self {
            stored: false,
            changed: false,
            row: None,
        }
    }
}

impl<R: TableRow> Default for Table<R> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<R: TableRow> Table<R> {
    /// Has the row of this key loaded.
    pub(super) fn request(&mut self, key: R::Key) {
        self.0.entry(key).or_insert_with(Slot::empty);
    }

    /// A row that was loaded, or put in this batch.
    pub(in crate::store) fn get(&self, key: &R::Key) -> Option<&R> {
        self.0.get(key).and_then(|slot| slot.row.as_ref())
    }

    /// The same, to be changed in place; [`Table::touch`] has the change written.
    pub(in crate::store) fn get_mut(&mut self, key: &R::Key) -> Option<&mut R> {
        self.0.get_mut(key).and_then(|slot| slot.row.as_mut())
    }

    /// Has a row written that was changed in place.
    pub(in crate::store) fn touch(&mut self, key: &R::Key) {
        if let Some(slot) = self.0.get_mut(key) {
            slot.changed = true;
        }
    }

    /// Adds or replaces a row. Where it was not there when the batch began, it is inserted: if another worker
    /// inserted it meanwhile, that fails and the batch runs again.
    pub(in crate::store) fn put(&mut self, key: R::Key, row: R) {
        let slot = self.0.entry(key).or_insert_with(Slot::empty);
        slot.changed = true;
        slot.row = Some(row);
    }

    /// Deletes a row that was loaded.
    pub(in crate::store) fn remove(&mut self, key: &R::Key) {
        if let Some(slot) = self.0.get_mut(key) {
            slot.changed = true;
            slot.row = None;
        }
    }

    /// Sets or deletes a row, whether it is there or not; it need not have been loaded.
    pub(in crate::store) fn overwrite(&mut self, key: R::Key, row: Option<R>) {
        let slot = Slot {
            stored: true,
            changed: true,
            row,
        };
        self.0.insert(key, slot);
    }
}

impl<R: TableRow<Key = usize>> Table<R> {
    /// Adds a row to a table that is only appended to.
    pub(in crate::store) fn append(&mut self, row: R) {
        self.put(self.0.len(), row);
    }
}

/// A [`Table`], whatever its rows are.
pub(super) trait AnyTable: Any + Send {
    /// What loads, and where possible locks, the rows that were requested.
    fn loads(&self, link: &Link) -> Option<RowStatement>;

    /// Takes in a row of such a statement's answer.
    fn load(&mut self, row: &db::Row) -> Result<(), Error>;

    /// What writes the changes.
    fn writes(self: Box<Self>) -> Result<Vec<RowStatement>, Error>;
}

impl<R: TableRow> AnyTable for Table<R> {
    fn loads(&self, link: &Link) -> Option<RowStatement> {
        if self.0.is_empty() {
            return None;
        }
        let columns = R::KEY.join(", ");
        Some(RowStatement {
            doing: R::READING,
            before: select::<R>(&format!("WHERE ({columns}) IN (")),
            rows: self.0.keys().map(R::key_values).collect(),
            after: format!(") ORDER BY {columns}{}", link.lock(R::LOCK)),
            repeatable: true,
        })
    }

    fn load(&mut self, row: &db::Row) -> Result<(), Error> {
        let (key, row) = R::read(row)?;
        let slot = Slot {
            stored: true,
            changed: false,
            row: Some(row),
        };
        self.0.insert(key, slot);
        Ok(())
    }

    fn writes(self: Box<Self>) -> Result<Vec<RowStatement>, Error> {
        let (mut new, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, slot) in self.0.into_iter().filter(|(_, slot)| slot.changed) {
            match slot.row {
                Some(row) => {
                    let mut values = R::key_values(&key);
                    values.extend(row.values()?);
                    if slot.stored { &mut changed } else { &mut new }.push(values);
                }
                None if slot.stored => gone.push(R::key_values(&key)),
                None => {}
            }
        }
        let mut statements = Vec::new();
        let mut add = |before: String, rows, after, repeatable| {
            let doing = R::WRITING;
            statements.push(RowStatement {
                doing,
                before,
                rows,
                after,
                repeatable,
            });
        };
        if !new.is_empty() {
            add(insert::<R>(), new, String::new(), false);
        }
        if !changed.is_empty() {
            add(insert::<R>(), changed, on_conflict::<R>(), false);
        }
        if !gone.is_empty() {
            let (table, key) = (R::TABLE, R::KEY.join(", "));
            let before = format!("DELETE FROM {table} WHERE ({key}) IN (");
            add(before, gone, ")".to_owned(), true);
        }
        Ok(statements)
    }
}

fn insert<R: TableRow>() -> String {
    format!("INSERT INTO {} ({}) ", R::TABLE, columns::<R>())
}

/// All columns, those of the key first.
fn columns<R: TableRow>() -> String {
    [R::KEY, R::COLUMNS].concat().join(", ")
}

fn on_conflict<R: TableRow>() -> String {
    let columns = R::COLUMNS.iter();
    let set: Vec<_> = columns.map(|it| format!("{it} = excluded.{it}")).collect();
    let what = if set.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {}", set.join(", "))
    };
    format!(" ON CONFLICT ({}) DO {what}", R::KEY.join(", "))
}
