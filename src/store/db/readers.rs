//! The connections to a SQLite database that read and do small writes.
//!
//! Not sqlx's pool: it pings a connection before each use and after it, and each ping is a hand-over to the
//! connection's thread and back, which costs more than reading a group. A connection to a file does not break by itself.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::files::Files;

/// Up to so many connections, which are made when they are needed; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Readers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: SqliteConnectOptions,
    /// Those that were opened first, to which every connection must lead.
    files: Option<Arc<Files>>,
    /// The last one that was used is the next to be used, so that few have their caches filled.
    idle: Mutex<Vec<SqliteConnection>>,
    /// One for each connection that may be in use.
    permits: Arc<Semaphore>,
    /// How long a caller waits for one.
    timeout: Duration,
}

/// A connection in use. Dropped, it is closed, as a statement may still run on it.
pub(super) struct Reader {
    link: SqliteConnection,
    readers: Readers,
    _permit: OwnedSemaphorePermit,
}

impl Readers {
    pub(super) fn new(
        options: SqliteConnectOptions,
        files: Option<Arc<Files>>,
        size: usize,
        timeout: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            options,
            files,
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(size)),
            timeout,
        }))
    }

    /// A connection that nobody else uses.
    pub(super) async fn acquire(&self) -> Result<Reader, sqlx::Error> {
        let permit = Arc::clone(&self.0.permits).acquire_owned();
        let permit = tokio::time::timeout(self.0.timeout, permit).await;
        let permit = permit.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.0.idle.lock().pop();
        let link = match idle {
            Some(link) => {
                // It leads to the files that were opened, and what is written to deleted ones is lost.
                self.0
                    .files
                    .as_deref()
                    .map_or(Ok(()), Files::check_connection)?;
                link
            }
            // In a box, since it is rare and takes much room.
            None => Box::pin(connect(&self.0.options, self.0.files.as_deref())).await?,
        };
        Ok(Reader {
            link,
            readers: self.clone(),
            _permit: permit,
        })
    }

    /// Closes the connections that nobody uses; there are no more.
    pub(super) async fn close(&self) {
        self.0.permits.close();
        let idle = std::mem::take(&mut *self.0.idle.lock());
        for link in idle {
            // It is of no more use either way.
            link.close().await.ok();
        }
    }
}

impl Reader {
    /// Lets the next caller have the connection.
    pub(super) fn release(self) {
        let Self { link, readers, .. } = self;
        if !readers.0.permits.is_closed() {
            readers.0.idle.lock().push(link);
        }
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.link
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.link
    }
}

/// Opens a connection, which must lead to the files that were opened first.
pub(super) async fn connect(
    options: &SqliteConnectOptions,
    files: Option<&Files>,
) -> Result<SqliteConnection, sqlx::Error> {
    let same_files = || files.map_or(Ok(()), Files::check_connection);
    // Before, since SQLite would write the log of the old file into a new one; and afterwards, as it may have been
    // replaced in between.
    same_files()?;
    let link = options.connect().await?;
    same_files()?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readers(folder: &std::path::Path, size: usize) -> Readers {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("store.db"))
            .create_if_missing(true);
        Readers::new(options, None, size, Duration::from_millis(50))
    }

    #[tokio::test]
    async fn none_is_given_out_once_the_file_was_replaced_be_it_open_or_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        std::fs::write(&path, "").unwrap();
        let files = Files::of(&path, ()).unwrap();
        let options = SqliteConnectOptions::new().filename(&path);
        let limit = Duration::from_millis(50);
        let readers = Readers::new(options, Some(Arc::new(files)), 2, limit);
        readers.acquire().await.unwrap().release();
        std::fs::write(folder.path().join("other.db"), "").unwrap();
        std::fs::rename(folder.path().join("other.db"), &path).unwrap();
        for which in ["open", "new"] {
            let error = readers.acquire().await.err().expect(which).to_string();
            assert!(error.contains("was replaced by another one"), "{error}");
        }
    }

    /// Marks a connection, or finds the mark.
    async fn is_marked(reader: &mut Reader) -> bool {
        let marked = sqlx::raw_sql("CREATE TEMP TABLE mark (n)").execute(&mut **reader);
        marked.await.is_err()
    }

    #[tokio::test]
    async fn a_connection_is_used_again_once_it_is_released_and_not_when_it_was_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(folder.path(), 2);
        let mut first = readers.acquire().await.unwrap();
        assert!(!is_marked(&mut first).await);
        first.release();
        let mut again = readers.acquire().await.unwrap();
        assert!(is_marked(&mut again).await);
        drop(again);
        let mut other = readers.acquire().await.unwrap();
        assert!(!is_marked(&mut other).await);
    }

    #[tokio::test]
    async fn no_more_are_in_use_than_may_be_and_a_wait_for_one_ends() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(folder.path(), 1);
        let first = readers.acquire().await.unwrap();
        let Err(error) = readers.acquire().await else {
            panic!("two are in use");
        };
        assert!(matches!(error, sqlx::Error::PoolTimedOut), "{error}");
        // A connection that is thrown away makes room too.
        drop(first);
        readers.acquire().await.unwrap().release();
        readers.close().await;
        let closed = readers.acquire().await.err();
        assert!(matches!(closed, Some(sqlx::Error::PoolClosed)));
    }
}
