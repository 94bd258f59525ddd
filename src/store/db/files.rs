//! The files of a SQLite database, compared with those that were opened.
//!
//! A file that was deleted, or replaced by another one, stays open: SQLite would continue to write to it, and the
//! data would be lost with the process. The `-wal` and `-shm` files are compared too, since new connections would
//! open other ones than the existing connections. They are not removed in normal operation while a connection is
//! open, and one is kept open here.
//!
//! This needs a file system with stable inode numbers; local ones, which SQLite's log requires, have them.

use std::any::Any;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::store::Error;

/// The identity of a file: device and inode.
type Identity = (u64, u64);

/// The files, as they were when the database was opened.
#[derive(Debug)]
pub(in crate::store) struct Files {
    known: Vec<(PathBuf, Identity)>,
    /// Held for its drop: the last connection that closes removes the `-wal` and `-shm` files. In a mutex so
    /// that this type is `Sync`; it is never locked.
    _open: Mutex<Box<dyn Any + Send>>,
}

impl Files {
    /// Records the files of a database that has an open connection. Those that are missing now are not checked.
    pub(in crate::store) fn of(database: &Path, open: impl Send + 'static) -> io::Result<Self> {
        let mut known = vec![(database.to_owned(), identity(database)?)];
        for end in ["-wal", "-shm"] {
            let mut path = database.as_os_str().to_owned();
            path.push(end);
            let path = PathBuf::from(path);
            if let Ok(found) = identity(&path) {
                known.push((path, found));
            }
        }
        Ok(Self {
            known,
            _open: Mutex::new(Box::new(open)),
        })
    }

    /// Compares them with the files that are there now.
    ///
    /// A disk that does not answer proves nothing: reads and writes fail there as well.
    pub(in crate::store) fn check(&self) -> Result<(), Error> {
        for (path, known) in &self.known {
            let what = match identity(path) {
                Ok(found) if found == *known => continue,
                Ok(_) => "replaced by another one",
                Err(error) if is_gone(&error) => "deleted or moved away",
                Err(_) => continue,
            };
            let what = format!("the store's file {} was {what}", path.display());
            return Err(Error::Replaced(what));
        }
        Ok(())
    }

    /// The same for a connection that was just made.
    pub(in crate::store) fn check_connection(&self) -> Result<(), sqlx::Error> {
        self.check()
            .map_err(|error| sqlx::Error::Io(io::Error::other(error)))
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = std::fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Also a volume that is not mounted any more, and one whose server has lost the file.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::StaleNetworkFileHandle
    )
}
