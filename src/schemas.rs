//! The generated documents on disk: writes them, and tells where the disk differs.
//!
//! It knows nothing of `schemas/examples`, which people write. Called by `groupmq schemas` and a test.

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::contract::schema::{self, Document};
use crate::gateway::openapi;

/// Why the documents could not be written or compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A document cannot be made.
    #[error("the documents cannot be made")]
    Contract(#[from] schema::Error),
    /// A file or folder cannot be read or written.
    #[error("{} cannot be read or written", .0.display())]
    File(PathBuf, #[source] io::Error),
}

/// A file that is not as the contract has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Should be there and is not.
    Missing(PathBuf),
    /// Says something else.
    Different(PathBuf),
    /// Is there and should not be.
    LeftOver(PathBuf),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path) => write!(f, "{} is missing", path.display()),
            Self::Different(path) => write!(f, "{} differs from the contract", path.display()),
            Self::LeftOver(path) => write!(f, "{} belongs to nothing any more", path.display()),
        }
    }
}

/// The contract's documents, and the gateway's.
fn documents() -> Result<Vec<Document>, Error> {
    let mut documents = schema::documents()?;
    documents.push(openapi::document()?);
    Ok(documents)
}

/// Writes every document into a folder, and returns what was not as it should be.
///
/// What is left over is told and not removed: the folder may hold files of other people's.
///
/// # Errors
/// When a file cannot be written; those before it are.
pub fn write(folder: &Path) -> Result<Vec<Difference>, Error> {
    let differences = check(folder)?;
    for document in documents()? {
        let path = folder.join(&document.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| Error::File(folder.to_owned(), error))?;
        }
        fs::write(&path, document.text).map_err(|error| Error::File(path, error))?;
    }
    Ok(differences)
}

/// Compares every document with its file in a folder; an empty list is agreement.
///
/// # Errors
/// When a file that is there cannot be read.
pub fn check(folder: &Path) -> Result<Vec<Difference>, Error> {
    let documents = documents()?;
    let mut differences = Vec::new();
    for document in &documents {
        let path = PathBuf::from(&document.path);
        match fs::read(folder.join(&path)) {
            Ok(text) if text == document.text.as_bytes() => {}
            Ok(_) => differences.push(Difference::Different(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                differences.push(Difference::Missing(path));
            }
            Err(error) => return Err(Error::File(folder.join(path), error)),
        }
    }
    let mut left_over = files(folder)?;
    left_over.retain(|path| {
        !documents
            .iter()
            .any(|document| Path::new(&document.path) == path)
    });
    left_over.sort();
    differences.extend(left_over.into_iter().map(Difference::LeftOver));
    Ok(differences)
}

/// The files in those subfolders that hold nothing but documents, as paths below the folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for subfolder in ["commands", "results", "events"] {
        let path = folder.join(subfolder);
        let failed = |error| Error::File(path.clone(), error);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            found.push(Path::new(subfolder).join(name));
        }
    }
    Ok(found)
}
