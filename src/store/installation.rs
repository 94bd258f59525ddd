//! The identity of the store: an id, generated once, that the broker stores too (`amqp::installation`).
//!
//! Someone may replace the store while it is open: delete or move its file, drop and create the database again, or
//! copy over the file. Checks compare the store that was opened with the one that is there.

use std::sync::Arc;

use uuid::Uuid;

use super::Error;
use super::db::files::Files;
use super::db::{Link, Row, Target, Value};

const ASKING: &str = "asking which store this is";

/// The store's identity; cheap to clone.
#[derive(Debug, Clone)]
pub struct Installation {
    id: Arc<str>,
    target: Target,
}

impl Installation {
    /// Reads the id, or generates one; of several processes that do so at once, one succeeds. From then on the
    /// target refuses connections to other files.
    pub(super) async fn open(mut link: Link, target: &mut Target) -> Result<Self, Error> {
        let found = read(&mut link).await;
        let id = match found.map_err(|error| Error::of(ASKING, error))? {
            Some(id) => id,
            None => make(&mut link).await?,
        };
        if let Target::Sqlite { options, files } = target {
            let opened = Files::of(options.get_filename(), link)
                .map_err(|error| Error::of(ASKING, sqlx::Error::Io(error)))?;
            *files = Some(Arc::new(opened));
        }
        Ok(Self {
            id: id.into(),
            target: target.clone(),
        })
    }

    /// A UUID without hyphens.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Compares the files of a SQLite store with those that are open.
    ///
    /// # Errors
    /// When they differ.
    pub async fn check_files(&self) -> Result<(), Error> {
        let Target::Sqlite {
            files: Some(files), ..
        } = &self.target
        else {
            return Ok(());
        };
        let files = Arc::clone(files);
        // A volume whose server is lost answers late or never.
        let checked = tokio::task::spawn_blocking(move || files.check()).await;
        checked.unwrap_or(Ok(()))
    }

    /// Reads the id again, over a new connection: open ones may have cached it.
    ///
    /// # Errors
    /// When the id differs or is missing, or the store cannot be used.
    pub async fn check_id(&self) -> Result<(), Error> {
        let connected = self.target.link().await;
        let mut link = connected.map_err(|error| Error::of("connecting", error))?;
        let replaced = |what: &str| Error::Replaced(format!("the store was {what}"));
        match read(&mut link).await {
            Ok(Some(found)) if *found == *self.id => Ok(()),
            Ok(Some(found)) => {
                let found = found.get(..8).unwrap_or_default();
                Err(replaced(&format!("replaced by another one ({found})")))
            }
            Ok(None) => Err(replaced("emptied")),
            Err(error) if is_no_table(&error) => Err(replaced("emptied")),
            Err(error) => Err(Error::of(ASKING, error)),
        }
    }

    /// Writes what is in SQLite's log into the database's one file, so that the file alone can be copied once
    /// the process has ended.
    ///
    /// # Errors
    /// When the store cannot be used; nothing is lost then, as the log stays.
    pub async fn gather(&self) -> Result<(), Error> {
        if !matches!(self.target, Target::Sqlite { .. }) {
            return Ok(());
        }
        let gather = async {
            let mut link = self.target.link().await?;
            let sql = "PRAGMA wal_checkpoint(TRUNCATE)".to_owned();
            link.fetch(sql, Vec::new()).await.map(drop)
        };
        gather
            .await
            .map_err(|error| Error::of("gathering the log", error))
    }
}

async fn read(link: &mut Link) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT id FROM installation".to_owned();
    let rows = if matches!(link, Link::Sqlite(_)) {
        link.fetch(sql, Vec::new()).await?
    } else {
        // A pooler before PostgreSQL may hand each statement outside a transaction to another session. One
        // that fails ends it, and the connection is of no more use.
        link.begin().await?;
        let rows = link.fetch(sql, Vec::new()).await?;
        link.commit().await?;
        rows
    };
    rows.first().map(Row::text).transpose()
}

/// No such table or schema, by SQLSTATE or SQLite's result code; SQLite has this one for any faulty statement.
fn is_no_table(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| matches!(&*code, "42P01" | "3F000" | "1"))
}

async fn make(link: &mut Link) -> Result<String, Error> {
    let new = Uuid::new_v4().simple().to_string();
    let sql = "INSERT INTO installation (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";
    let insert = async {
        link.begin().await?;
        link.execute(sql.to_owned(), vec![Value::from(new.as_str())])
            .await?;
        link.commit().await
    };
    insert
        .await
        .map_err(|error| Error::of("saying which store this is", error))?;
    // Another process may have been faster.
    let read = read(link).await.map_err(|error| Error::of(ASKING, error))?;
    Ok(read.unwrap_or(new))
}
