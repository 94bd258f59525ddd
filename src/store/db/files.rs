//! The files of a SQLite database, compared with those that were opened.
//!
//! A file that is deleted, or that another one is moved over, stays open: SQLite would go on to write to
//! it, and everything would be gone with the process. The files beside the database (`-wal`, `-shm`) are
//! looked at too, since new connections would meet others there than those that are open. Nobody
//! removes them in the ordinary way while a connection is open, and one is, as long as these are known.
//!
//! A file system whose numbers of files change by themselves would not do; those that SQLite's log works on
//! (local ones) have steady numbers.

use std::any::Any;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::store::Error;

/// A file, whatever it is called: device and inode.
type Identity = (u64, u64);

/// The files, as they were when the database was opened.
#[derive(Debug)]
pub(in crate::store) struct Files {
    known: Vec<(PathBuf, Identity)>,
    /// Held for its drop: the last connection that closes takes the files beside the database with it. In
    /// a mutex so that threads may share what holds it; nobody takes it.
    _open: Mutex<Box<dyn Any + Send>>,
}

impl Files {
    /// Notes the files of a database to which a connection is open. Those that it does not have are not
    /// looked for.
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

    /// Compares them with what is there now.
    ///
    /// A disk that cannot be asked says nothing: what is read and written there fails as well.
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
