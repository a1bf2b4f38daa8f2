//! What can go wrong in a conversion and what a person can do about it.

use std::path::{Path, PathBuf};

use embedbar_contract::{Failure, FailureCode};

/// Why a checkpoint was not converted. Whatever the reason, the target is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A file or folder that is needed is not there.
    #[error("there is no `{path}`")]
    Missing {
        /// What was looked for.
        path: PathBuf,
    },
    /// The system refused to read a file.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The system refused to write a file.
    #[error("`{path}` cannot be written")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A certificate cannot be read.
    #[error("the certificate `{path}` cannot be read: {problem}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk has too little room, found out before or while writing.
    #[error("the disk of `{path}` has `{free}` bytes free; `{needed}` are needed")]
    NoSpace {
        /// Where the target would be.
        path: PathBuf,
        /// Bytes that the target takes.
        needed: u64,
        /// Bytes that the person may still use there.
        free: u64,
    },
    /// A file is cut short, damaged or not what its name says.
    #[error("`{path}` is damaged or cut short: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        problem: String,
    },
    /// The configuration lacks a setting or gives it an impossible value.
    #[error("`{path}` has an impossible `{key}`: {problem}")]
    BadConfig {
        /// The configuration.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The value and what is wrong with it.
        problem: String,
    },
    /// A model family that cannot be converted.
    #[error("`{path}` describes a model of the kind `{architecture}`, which cannot be converted")]
    UnknownArchitecture {
        /// The configuration.
        path: PathBuf,
        /// The kind that it names.
        architecture: String,
    },
    /// A known family with an option that the target cannot express.
    #[error("`{path}` asks for {what}, which cannot be converted")]
    Unsupported {
        /// The file that asks.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// A model cannot be split into packages that are small enough.
    #[error("a package of `{path}` with layer `{layer}` alone has `{bytes}` bytes of weights; `{limit}` are allowed")]
    LayerTooLarge {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The layer, counted from 0; with the first one go the tables of tokens and positions.
        layer: usize,
        /// Bytes of weights that it takes.
        bytes: u64,
        /// Bytes that a package may have.
        limit: u64,
    },
    /// Neither the checkpoint nor the job says how to pool.
    #[error("`{path}` does not say how hidden states become one vector")]
    UnknownPooling {
        /// The checkpoint's folder.
        path: PathBuf,
    },
    /// The model needs a tensor that the checkpoint does not have.
    #[error("`{path}` lacks the tensor `{tensor}`")]
    MissingTensor {
        /// The checkpoint's folder.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
    },
    /// The checkpoint has a tensor that the model has no place for.
    #[error("`{path}` has the tensor `{tensor}`, which this kind of model has no place for")]
    UnknownTensor {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
    },
    /// Two tensors of the checkpoint are the same part of the model.
    #[error("`{path}` has the tensor `{tensor}` twice")]
    DuplicateTensor {
        /// The weight file in which it was met again.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("the tensor `{tensor}` of `{path}` has the shape `{found:?}`; the configuration wants `{wanted:?}`")]
    TensorShape {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        wanted: Vec<usize>,
    },
    /// A tensor's numbers are of a type that weights are not read from.
    #[error("the tensor `{tensor}` of `{path}` is stored as `{found}`; `F32`, `F16` and `BF16` can be converted")]
    TensorType {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A weight is NaN or infinite.
    #[error("the tensor `{tensor}` of `{path}` has a NaN or infinite weight in row `{row}`")]
    NotFinite {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
        /// The row, from 0.
        row: usize,
    },
    /// A weight is too large for the target's type.
    #[error("the tensor `{tensor}` of `{path}` has a weight in row `{row}` that `{stored_as}` cannot hold")]
    OutOfRange {
        /// The weight file.
        path: PathBuf,
        /// The tensor's name in the source.
        tensor: String,
        /// The row, from 0.
        row: usize,
        /// The target's type.
        stored_as: &'static str,
    },
    /// The path of the target cannot be a converted model.
    #[error("`{path}` cannot be the target: {problem}")]
    BadTarget {
        /// The target.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The target's folder has a tokenizer that belongs to another model.
    #[error("`{path}` belongs to another model and would be replaced")]
    OtherTokenizer {
        /// The tokenizer.
        path: PathBuf,
    },
    /// Another conversion writes to the same target.
    #[error("`{path}` is being written by another conversion")]
    Busy {
        /// The target.
        path: PathBuf,
    },
    /// The checkpoint is not the one that the bundled model is made from.
    #[error("`{path}` is not the file that the bundled model is made from: its sha256 is `{found}`, not `{wanted}`")]
    OtherSource {
        /// The file.
        path: PathBuf,
        /// Its sha256.
        found: String,
        /// The sha256 that the bundled model's source has.
        wanted: &'static str,
    },
    /// The caller asked to stop.
    #[error("the conversion of `{path}` was cancelled")]
    Cancelled {
        /// The checkpoint's folder.
        path: PathBuf,
    },
}

impl ConvertError {
    pub(crate) fn corrupt(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn config(path: &Path, key: &str, problem: impl std::fmt::Display) -> Self {
        Self::BadConfig { path: path.to_path_buf(), key: key.to_owned(), problem: problem.to_string() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_path_buf(), what: what.into() }
    }

    /// For `map_err`: [`Self::Missing`] or [`Self::Unreadable`].
    pub(crate) fn reading(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        |source| match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path: path.to_path_buf() },
            std::io::ErrorKind::UnexpectedEof => Self::corrupt(path, "it became shorter while it was read"),
            _ => Self::Unreadable { path: path.to_path_buf(), source },
        }
    }

    /// For `map_err`: [`Self::Missing`] (the folder) or [`Self::Unwritable`].
    pub(crate) fn writing(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        |source| match (source.kind(), path.parent()) {
            (std::io::ErrorKind::NotFound, Some(folder)) => Self::Missing { path: folder.to_path_buf() },
            _ => Self::Unwritable { path: path.to_path_buf(), source },
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Missing { .. } => FailureCode::NotFound,
            Self::Unreadable { .. } | Self::Unwritable { .. } | Self::NoSpace { .. } => FailureCode::Io,
            Self::Corrupt { .. }
            | Self::BadConfig { .. }
            | Self::MissingTensor { .. }
            | Self::UnknownTensor { .. }
            | Self::DuplicateTensor { .. }
            | Self::TensorShape { .. }
            | Self::NotFinite { .. }
            | Self::OutOfRange { .. }
            | Self::Certificate { .. }
            | Self::OtherSource { .. } => FailureCode::ModelInvalid,
            Self::UnknownArchitecture { .. }
            | Self::Unsupported { .. }
            | Self::LayerTooLarge { .. }
            | Self::TensorType { .. } => FailureCode::ModelUnsupported,
            Self::UnknownPooling { .. } | Self::BadTarget { .. } | Self::OtherTokenizer { .. } => {
                FailureCode::InvalidRequest
            }
            Self::Busy { .. } => FailureCode::Overloaded,
            Self::Cancelled { .. } => FailureCode::Cancelled,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Certificate { .. } => "Convert the model again to get a new one.",
            Self::Missing { .. } => {
                "A checkpoint is a folder with `config.json`, `tokenizer.json` and `model.safetensors` (or shards and \
                 `model.safetensors.index.json`); the target's folder must exist."
            }
            Self::Unreadable { .. } | Self::Unwritable { .. } => {
                "Check the permissions of the file and of its folder, and whether its disk is full."
            }
            Self::NoSpace { .. } => "Free some space, or choose a target on another disk or a smaller precision.",
            Self::Corrupt { .. } | Self::NotFinite { .. } => {
                "Fetch the checkpoint again; a download may have been interrupted."
            }
            Self::BadConfig { .. }
            | Self::MissingTensor { .. }
            | Self::DuplicateTensor { .. }
            | Self::TensorShape { .. } => {
                "The weights and the configuration do not belong together; fetch both again from their source."
            }
            Self::UnknownTensor { .. } => {
                "The checkpoint is of a variant that would be converted wrongly; use the plain encoder's checkpoint."
            }
            Self::UnknownArchitecture { .. } | Self::Unsupported { .. } => {
                "BERT, XLM-R, NomicBERT and Qwen3 embedding models can be converted; choose another checkpoint or another setting."
            }
            Self::LayerTooLarge { .. } => "Choose a smaller precision, or one package whatever its size.",
            Self::UnknownPooling { .. } => "Say which pooling the model was trained with: mean, cls or last.",
            Self::TensorType { .. } => "Use the checkpoint that the model's authors published, not a quantised one.",
            Self::OutOfRange { .. } => "Convert to INT8, whose scale per block holds more, or use another checkpoint.",
            Self::BadTarget { .. } => "Name a file that ends in `.gguf`, or a package that ends in `.mlpackage`.",
            Self::OtherTokenizer { .. } => "Give every model a folder of its own.",
            Self::Busy { .. } => "Wait for the other conversion or choose another target.",
            Self::OtherSource { .. } => "`cargo xtask bundled-model` fetches the right checkpoint.",
            Self::Cancelled { .. } => return None,
        })
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        let failure = Self::new(error.code(), message);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_file_the_cause_and_what_to_do() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = Failure::from(ConvertError::reading(Path::new("/models/config.json"))(denied));
        assert_eq!(failure.code, FailureCode::Io);
        assert!(failure.message.starts_with("`/models/config.json` cannot be read: permission denied"), "{failure}");
        assert!(failure.hint.is_some());
    }

    #[test]
    fn only_a_busy_target_is_worth_trying_again() {
        let path = PathBuf::from("x.gguf");
        assert!(Failure::from(ConvertError::Busy { path: path.clone() }).retryable);
        assert!(!Failure::from(ConvertError::Cancelled { path }).retryable);
    }
}
