//! Group commit: one writer puts the changes of many commands into one transaction.
//!
//! The writer takes the first job that waits and all that arrived behind it while the last transaction was being
//! written. It loads the rows of these jobs with one query per table, runs the step of each job in memory, in
//! order, writes all differences with a few statements, commits, and only then answers. One fsync of the disk
//! thus serves all commands that arrived during the last one.
//!
//! Steps are `Fn` and depend on nothing but the rows, so a batch that conflicts with another worker's
//! transaction is rolled back and run again from the start.
//!
//! The batcher knows no table: [`rows::TableRow`] describes one, and the [`Registry`] lists them.

mod queue;
mod registry;
mod rows;
mod writer;

pub(super) use queue::WriteBatcher;
pub(super) use registry::{ReadSet, Registry, Rows};
pub(super) use rows::{Table, TableRow, select};
pub(super) use writer::writer;
