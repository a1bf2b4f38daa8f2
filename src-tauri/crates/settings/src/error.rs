//! What can go wrong with a followed file and with what is remembered about it.

use std::io;
use std::path::PathBuf;

use embedbar_contract::{Failure, FailureCode};
use embedbar_records::{RecordError, Refused, Unread};

use crate::document::Breakage;
use crate::file::MOST_BYTES;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A file or folder could not be read, written or watched.
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
    /// A folder, a pipe, a device.
    #[error("`{}` is not a file", .path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Larger than any file of this kind.
    #[error("`{}` has {bytes} bytes; at most {most} are read", .path.display(), most = MOST_BYTES)]
    TooLarge {
        /// Its path.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// Somebody else has written it meanwhile.
    #[error("`{}` has changed since it was read, so it was not written", .path.display())]
    Changed {
        /// Its path.
        path: PathBuf,
    },
    /// Python would stop at it.
    #[error("`{}` cannot be used: {breakage}", .path.display())]
    Broken {
        /// Its path.
        path: PathBuf,
        /// Why.
        breakage: Breakage,
    },
    /// There is no way to write this value so that python-dotenv reads it.
    #[error("`{name}` cannot be set to this value: {reason}")]
    CannotBeWritten {
        /// The variable.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// Edits that overlap or lie outside of the file.
    #[error(
        "the edits do not fit the file of {bytes} bytes: {span_start}..{span_end} overlaps another one or lies outside"
    )]
    EditsDoNotFit {
        /// The size of the file.
        bytes: usize,
        /// Where the edit begins.
        span_start: usize,
        /// Where it ends.
        span_end: usize,
    },
    /// What is remembered cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A path that JSON cannot hold.
    #[error("`{}` cannot be remembered: its path is not UTF-8", .path.display())]
    PathNotUtf8 {
        /// The path.
        path: PathBuf,
    },
}

impl SettingsError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

impl From<Refused> for SettingsError {
    fn from(Refused { action, path, source }: Refused) -> Self {
        Self::Io { action, path, source }
    }
}

impl From<Unread> for SettingsError {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Refused(refused) => refused.into(),
            Unread::NotAFile { path } => Self::NotAFile { path },
            Unread::TooLarge { path, bytes, .. } => Self::TooLarge { path, bytes },
        }
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let (code, hint) = match &error {
            SettingsError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                (FailureCode::NotFound, "Check the path, or choose another `.env` with `embedbar env use PATH`.")
            }
            SettingsError::Io { .. } => (
                FailureCode::Io,
                "Check that it is yours, that its folder can be written to and that the disk is not full.",
            ),
            SettingsError::NotAFile { .. } => {
                (FailureCode::InvalidRequest, "Give the path of a file, such as `project/.env`.")
            }
            SettingsError::TooLarge { .. } => (FailureCode::InvalidRequest, "Choose a file with settings, one a line."),
            SettingsError::Changed { .. } => (FailureCode::InvalidRequest, "Look at it again and repeat what you did."),
            SettingsError::Broken { .. } => {
                (FailureCode::InvalidRequest, "Correct that line in an editor; until then the last good settings stay.")
            }
            SettingsError::CannotBeWritten { .. } => {
                (FailureCode::InvalidRequest, "Write the line in an editor, or use another value.")
            }
            SettingsError::EditsDoNotFit { .. } => {
                (FailureCode::Internal, "This is a bug in Embedbar; the file was not touched.")
            }
            SettingsError::Record(error) => {
                let code = match error {
                    RecordError::Newer { .. } => FailureCode::OwnerMismatch,
                    _ => FailureCode::Io,
                };
                return Self::new(code, error.sentence()).hint(error.hint("what you once approved or chose"));
            }
            SettingsError::PathNotUtf8 { .. } => (FailureCode::InvalidRequest, "Give its folder another name."),
        };
        let message = match &error {
            SettingsError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(code, message).hint(hint)
    }
}
