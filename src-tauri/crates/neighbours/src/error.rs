//! What can go wrong with a container engine, a server or the journal.

use std::io;
use std::path::{Path, PathBuf};

use embedbar_records::{RecordError, Refused};

/// An error of this crate. A program that is not there is none: it has nothing to offer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeighboursError {
    /// Nobody answers on the engine's socket, or not as an engine does.
    #[error("the container engine at `{}` cannot be reached ({reason}); start it and try again", .socket.display())]
    EngineAway {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The engine answered with an error, or not in time.
    #[error("the container engine at `{}` did not {action}: {reason}", .socket.display())]
    Engine {
        /// Its socket.
        socket: PathBuf,
        /// What it was asked to do.
        action: &'static str,
        /// What it said.
        reason: String,
    },
    /// The journal could not be read or written.
    #[error("cannot {action} `{}`, the list of the containers that are to be started again", .path.display())]
    JournalIo {
        /// What was tried.
        action: &'static str,
        /// The file or its folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A newer version of Embedbar wrote the journal.
    #[error("`{}` was written by a newer Embedbar (version {found}, this one knows {known}); use that one, it knows \
        which containers are to be started again", .path.display())]
    JournalNewer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that this program reads.
        known: u64,
    },
    /// The journal is not what this program writes.
    #[error("`{}` is damaged ({reason}), so no container is stopped; start by hand what it names, then delete it", .path.display())]
    JournalDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<RecordError> for NeighboursError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Refused(Refused { action, path, source }) => Self::JournalIo { action, path, source },
            RecordError::Newer { path, found, known } => Self::JournalNewer { path, found, known },
            RecordError::Damaged { path, reason } => Self::JournalDamaged { path, reason },
        }
    }
}

impl NeighboursError {
    pub(crate) fn journal<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::JournalIo { action, path: path.to_owned(), source }
    }
}
