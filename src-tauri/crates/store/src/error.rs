//! What can go wrong with state on disk.

use std::io;
use std::path::PathBuf;

use embedbar_contract::{Failure, FailureCode};
use embedbar_records::Refused;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system gives no folder for a user's data.
    #[error("there is no home folder: neither EMBEDBAR_HOME nor HOME is set")]
    NoHome,
    /// A file or folder could not be read, made or locked.
    #[error("cannot {action} `{}`", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A newer Embedbar has written this home.
    #[error("`{}` was written by a newer Embedbar (layout {found}; this one knows {LAYOUT})", .path.display(), LAYOUT = crate::LAYOUT_VERSION)]
    NewerLayout {
        /// The home.
        path: PathBuf,
        /// What its layout file says.
        found: u32,
    },
    /// No model goes by this name.
    #[error("there is no model `{0}`")]
    UnknownModel(String),
    /// A name that cannot be that of a model's folder.
    #[error("`{}` cannot be a model's name", .0.escape_debug())]
    UnusableId(String),
    /// A model whose self-test failed.
    #[error("`{id}` is set aside, because its self-test failed: {reason}")]
    SetAside {
        /// Its id.
        id: String,
        /// Which check, with its numbers.
        reason: String,
    },
    /// A model whose files lie elsewhere.
    #[error("the files of `{id}` are gone: `{}` is not there", .lost.display())]
    FilesGone {
        /// Its id.
        id: String,
        /// What is missing.
        lost: PathBuf,
    },
    /// The bundled model is not where it should be.
    #[error("the bundled model is missing; looked in {}", .looked.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", "))]
    NoBundledModel {
        /// All the places.
        looked: Vec<PathBuf>,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<Refused> for StoreError {
    fn from(Refused { action, path, source }: Refused) -> Self {
        Self::Io { action, path, source }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (code, hint) = match &error {
            StoreError::NoHome => (FailureCode::Io, "Set EMBEDBAR_HOME or pass `--home DIR`."),
            StoreError::Io { .. } => {
                (FailureCode::Io, "Check that the folder exists, that it is yours and that the disk is not full.")
            }
            StoreError::NewerLayout { .. } => {
                (FailureCode::OwnerMismatch, "Start the newer Embedbar, or choose another folder with `--home DIR`.")
            }
            StoreError::UnknownModel(_) => {
                (FailureCode::NotFound, "Run `embedbar models` for those there are, or give a path.")
            }
            StoreError::UnusableId(_) => (
                FailureCode::InvalidRequest,
                "Use letters, digits, dots, dashes and underscores, and no dot at the beginning.",
            ),
            StoreError::SetAside { .. } => (
                FailureCode::ModelInvalid,
                "Look at its card with `embedbar show ID`, install it again, or remove it with `embedbar remove ID`.",
            ),
            StoreError::FilesGone { .. } => (FailureCode::NotFound, "Put the files back, or install the model again."),
            StoreError::NoBundledModel { .. } => (
                FailureCode::ModelInvalid,
                "Reinstall Embedbar, or set EMBEDBAR_BUNDLED to the folder `models/bundled` of its sources.",
            ),
        };
        let message = match &error {
            StoreError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(code, message).hint(hint)
    }
}
