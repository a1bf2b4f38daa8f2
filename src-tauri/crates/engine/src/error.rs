//! What can go wrong with a model's files or with a forward pass, and what a person can do about it.

use std::path::{Path, PathBuf};

use embedbar_contract::{Failure, FailureCode, RecipeName};

use crate::backend::BackendError;

/// Why a model could not be opened or a text not be embedded. Every variant that is about a file names it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// A file that the model needs is not there.
    #[error("there is no `{path}`")]
    Missing {
        /// The file or folder that was looked for.
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
    /// A file is cut short, damaged or not what its name says.
    #[error("`{path}` is damaged or cut short: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        problem: String,
    },
    /// The configuration says something that no model of this kind says.
    #[error("`{path}` has an impossible `{key}`: {problem}")]
    BadConfig {
        /// The configuration or GGUF file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// The value and the range.
        problem: String,
    },
    /// A model family that has no encoder here.
    #[error("`{path}` holds a model of the kind `{architecture}`, which Embedbar cannot run")]
    UnknownArchitecture {
        /// The configuration or GGUF file.
        path: PathBuf,
        /// The kind that it names.
        architecture: String,
    },
    /// A known family with an option that is not implemented.
    #[error("`{path}` asks for {what}, which Embedbar cannot run")]
    Unsupported {
        /// The file that asks.
        path: PathBuf,
        /// What it asks for.
        what: String,
    },
    /// The weights lack a tensor.
    #[error("`{path}` lacks the tensor `{tensor}`")]
    MissingTensor {
        /// The weights.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor's shape contradicts the configuration.
    #[error("the tensor `{tensor}` of `{path}` has the shape `{found:?}`; the configuration wants `{wanted:?}`")]
    TensorShape {
        /// The weights.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that follows from the configuration.
        wanted: Vec<usize>,
    },
    /// The tokenizer cannot be parsed or applied.
    #[error("the tokenizer `{path}` cannot be used: {problem}")]
    BadTokenizer {
        /// The tokenizer.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The tokenizer makes tokens for which the model has no embedding.
    #[error("the tokenizer `{path}` has the token `{largest}`; the model has embeddings for tokens below `{rows}`")]
    TokenizerMismatch {
        /// The tokenizer.
        path: PathBuf,
        /// Its largest token id.
        largest: u32,
        /// Rows of the embedding table.
        rows: usize,
    },
    /// The model has only one recipe, fixed when it was converted.
    #[error("`{path}` was converted for the recipe `{available}` and cannot apply `{asked}`")]
    RecipeUnavailable {
        /// The model.
        path: PathBuf,
        /// The recipe that was asked for.
        asked: RecipeName,
        /// The recipe that it has.
        available: RecipeName,
    },
    /// A text became no token at all, so there is nothing to pool.
    #[error("text `{index}` became no token")]
    NoTokens {
        /// Its place in the request, from 0.
        index: usize,
    },
    /// A vector holds a NaN or an infinite number.
    #[error("the model `{path}` made a vector with NaN or infinite numbers for text `{index}`")]
    NotFinite {
        /// The model.
        path: PathBuf,
        /// The text's place in the request, from 0.
        index: usize,
    },
    /// A vector is zero, so it has no direction.
    #[error("the model `{path}` made a zero vector for text `{index}`")]
    ZeroVector {
        /// The model.
        path: PathBuf,
        /// The text's place in the request, from 0.
        index: usize,
    },
    /// The arithmetic itself failed.
    #[error("the model `{path}` failed while computing")]
    Backend {
        /// The model.
        path: PathBuf,
        /// The backend's reason.
        #[source]
        source: BackendError,
    },
}

impl EngineError {
    pub(crate) fn corrupt(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn config(path: &Path, key: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::BadConfig { path: path.to_path_buf(), key: key.into(), problem: problem.to_string() }
    }

    pub(crate) fn unsupported(path: &Path, what: impl Into<String>) -> Self {
        Self::Unsupported { path: path.to_path_buf(), what: what.into() }
    }

    pub(crate) fn tokenizer(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::BadTokenizer { path: path.to_path_buf(), problem: problem.to_string() }
    }

    /// Turns a failed read into [`Self::Missing`] or [`Self::Unreadable`].
    pub(crate) fn reading(path: &Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing { path: path.to_path_buf() }
        } else {
            Self::Unreadable { path: path.to_path_buf(), source }
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::BadConfig { .. }
            | Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::BadTokenizer { .. }
            | Self::TokenizerMismatch { .. }
            | Self::NotFinite { .. }
            | Self::ZeroVector { .. } => FailureCode::ModelInvalid,
            Self::Unreadable { .. } => FailureCode::Io,
            Self::UnknownArchitecture { .. } | Self::Unsupported { .. } => FailureCode::ModelUnsupported,
            Self::RecipeUnavailable { .. } | Self::NoTokens { .. } => FailureCode::InvalidRequest,
            Self::Backend { .. } => FailureCode::Internal,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "A model is a `.gguf` file that has a tokenizer in it or `tokenizer.json` beside it, or a folder with \
                 `model.safetensors`, `config.json` and `tokenizer.json`; copy the missing file there or install the model \
                 again."
            }
            Self::Unreadable { .. } => "Check the permissions of the file and of its folder.",
            Self::Corrupt { .. } => "Remove the model and install it again; a download may have been interrupted.",
            Self::BadConfig { .. } | Self::MissingTensor { .. } | Self::TensorShape { .. } => {
                "The weights and the configuration do not belong together; install the model again from its source."
            }
            Self::UnknownArchitecture { .. } | Self::Unsupported { .. } => {
                "Embedbar runs BERT, XLM-R, NomicBERT and Qwen3 embedding models from safetensors, GGUF or folders that MLX has quantised; \
                 choose another model, or another variant of this one."
            }
            Self::BadTokenizer { .. } | Self::TokenizerMismatch { .. } => {
                "Put the `tokenizer.json` that belongs to this model beside it; the source that a GGUF file was made of has one."
            }
            Self::RecipeUnavailable { .. } => {
                "Ask for the recipe that the model has, or install its safetensors or GGUF."
            }
            Self::NoTokens { .. } => "Leave the empty text out.",
            Self::NotFinite { .. } | Self::ZeroVector { .. } => {
                "The weights are probably damaged: verify the model or install it again."
            }
            Self::Backend { .. } => "This is a bug in Embedbar; the log in the home's `logs` folder has more.",
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Failure::new(error.code(), message).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_file_the_cause_and_what_to_do() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = Failure::from(EngineError::reading(Path::new("/models/x.gguf"), denied));
        assert_eq!(failure.code, FailureCode::Io);
        assert!(failure.message.starts_with("`/models/x.gguf` cannot be read: permission denied"), "{failure}");
        assert!(failure.hint.is_some());
        assert!(!failure.retryable);
    }
}
