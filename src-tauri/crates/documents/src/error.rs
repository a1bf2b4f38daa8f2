//! What can go wrong, and how it is said to a person.

use std::io;
use std::path::PathBuf;

use embedbar_contract::{Failure, FailureCode};

/// Why the index could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentsError {
    /// The query has no character but white space.
    #[error("the query is empty")]
    EmptyQuery,
    /// The limit is out of range.
    #[error("the limit is `{limit}` where 1 to 200 is allowed")]
    Limit {
        /// What was asked for.
        limit: usize,
    },
    /// The path leads nowhere.
    #[error("there is no file or folder at `{}`", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// The path cannot be written as text, which the index and its programs need.
    #[error("the name of `{}` is not UTF-8", path.display())]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// The folder or file to index cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The index itself could not be created or opened.
    #[error("the index `{}` cannot be opened", path.display())]
    Open {
        /// The database file.
        path: PathBuf,
        /// SQLite's word.
        #[source]
        source: rusqlite::Error,
    },
    /// A later release wrote the index.
    #[error("the index `{}` has version {found}; this program reads up to {known}", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version it carries.
        found: i64,
        /// The last version that is understood.
        known: i64,
    },
    /// The file is a database, but not an index of Embedbar's.
    #[error("`{}` is not an index of Embedbar's", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The database failed while it was open: a full disk, a damaged file.
    #[error("the index could not be read or written")]
    Store(#[from] rusqlite::Error),
    /// The model failed; what was stored before stays.
    #[error("the passages could not be embedded")]
    Embedding(#[source] Failure),
    /// The embedder broke its promise.
    #[error("the embedder returned {what}")]
    Vectors {
        /// What it returned, in words.
        what: String,
    },
}

impl From<DocumentsError> for Failure {
    fn from(error: DocumentsError) -> Self {
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        match error {
            DocumentsError::Embedding(failure) => failure,
            DocumentsError::EmptyQuery => {
                Failure::new(FailureCode::InvalidRequest, message).hint("Type a word or a question.")
            }
            DocumentsError::Limit { .. } => Failure::new(FailureCode::InvalidRequest, message),
            DocumentsError::NotFound { .. } => Failure::new(FailureCode::NotFound, message)
                .hint("Check the path; if it is on a disk that is not connected, connect it. Nothing was removed."),
            DocumentsError::NotText { .. } => {
                Failure::new(FailureCode::InvalidRequest, message).hint("Rename it, then index it again.")
            }
            DocumentsError::Unreadable { source, .. } => {
                Failure::new(FailureCode::Io, message).hint(advice_for_unreadable(&source))
            }
            DocumentsError::Open { .. } | DocumentsError::Foreign { .. } => Failure::new(FailureCode::Io, message)
                .hint("Move the file away; the index is then made anew from your folders."),
            DocumentsError::Newer { .. } => Failure::new(FailureCode::OwnerMismatch, message)
                .hint("A later release of Embedbar wrote it: update this one, or move the file away."),
            DocumentsError::Store(_) => {
                Failure::new(FailureCode::Io, message).hint("Check that the disk has room, then try again.")
            }
            DocumentsError::Vectors { .. } => Failure::internal(message),
        }
    }
}

fn advice_for_unreadable(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied if cfg!(target_os = "macos") => {
            "Allow Embedbar to read it in System Settings, Privacy & Security, Files and Folders."
        }
        io::ErrorKind::PermissionDenied => "Check its permissions.",
        _ => "Check the path and the disk, then try again.",
    }
}
