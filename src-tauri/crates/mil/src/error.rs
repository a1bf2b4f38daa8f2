//! What can be wrong with a package and what a person can do about it.

use std::path::{Path, PathBuf};

use embedbar_contract::{Failure, FailureCode};

/// Why a package cannot be opened or evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MilError {
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
    /// A folder that is no package, or whose parts lie outside it.
    #[error("`{path}` is not a Core ML package: {problem}")]
    NotAPackage {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        problem: String,
    },
    /// A file is cut short, damaged or not what its name says.
    #[error("`{path}` is damaged or cut short: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not add up.
        problem: String,
    },
    /// A Core ML model of another kind: a neural network, a pipeline, a tree.
    #[error("`{path}` is a Core ML model, but not an ML program")]
    NotAProgram {
        /// The package.
        path: PathBuf,
    },
    /// A function that the package does not have.
    #[error("`{path}` has no function `{function}`; it has `{known:?}`")]
    UnknownFunction {
        /// The package.
        path: PathBuf,
        /// The name asked for.
        function: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A weight that the package does not have.
    #[error("`{path}` has no weight `{name}`")]
    UnknownWeight {
        /// The package.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// An operation that is not evaluated.
    #[error("`{path}` uses the operation `{operation}` for `{output}`, which is not known here")]
    UnknownOperation {
        /// The package.
        path: PathBuf,
        /// The kind of operation.
        operation: String,
        /// Its first output.
        output: String,
    },
    /// An operation that cannot be evaluated as it stands.
    #[error("`{path}`: `{operation}` for `{output}`: {problem}")]
    Operation {
        /// The package.
        path: PathBuf,
        /// The kind of operation.
        operation: String,
        /// Its first output.
        output: String,
        /// What is wrong.
        problem: String,
    },
    /// A program that does not hold together.
    #[error("the program of `{path}` is not valid: {problem}")]
    BadProgram {
        /// The package.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An input that was not given, or that the package does not accept.
    #[error("the input `{input}` of `{path}`: {problem}")]
    BadInput {
        /// The package.
        path: PathBuf,
        /// The input.
        input: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Whoever watched a run ended it.
    #[error("running `{path}` was stopped")]
    Stopped {
        /// The package.
        path: PathBuf,
    },
    /// A package that turns something else into something else.
    #[error("`{path}` is not an embedding model: {problem}")]
    NotEmbedding {
        /// The package.
        path: PathBuf,
        /// What about its inputs and outputs says so.
        problem: String,
    },
}

impl MilError {
    pub(crate) fn corrupt(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn not_a_package(path: &Path, problem: impl std::fmt::Display) -> Self {
        Self::NotAPackage { path: path.to_path_buf(), problem: problem.to_string() }
    }

    /// For `map_err`: [`Self::Missing`] or [`Self::Unreadable`].
    pub(crate) fn reading(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        |source| match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { path: path.to_path_buf() },
            std::io::ErrorKind::UnexpectedEof => Self::corrupt(path, "it became shorter while it was read"),
            _ => Self::Unreadable { path: path.to_path_buf(), source },
        }
    }

    fn code(&self) -> FailureCode {
        match self {
            Self::Missing { .. } => FailureCode::NotFound,
            Self::Unreadable { .. } => FailureCode::Io,
            Self::NotAPackage { .. } | Self::Corrupt { .. } | Self::Operation { .. } | Self::BadProgram { .. } => {
                FailureCode::ModelInvalid
            }
            Self::NotAProgram { .. } | Self::UnknownOperation { .. } | Self::NotEmbedding { .. } => {
                FailureCode::ModelUnsupported
            }
            Self::UnknownFunction { .. } | Self::UnknownWeight { .. } | Self::BadInput { .. } => {
                FailureCode::InvalidRequest
            }
            Self::Stopped { .. } => FailureCode::Cancelled,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } | Self::NotAPackage { .. } => {
                "A package is a folder with `Manifest.json` and `Data` in it, all of its files inside; copy the whole \
                 folder, not links into a download cache."
            }
            Self::Unreadable { .. } => "Check the permissions of the file and of its folder.",
            Self::Corrupt { .. } => "Fetch or convert the package again; a download may have been interrupted.",
            Self::NotAProgram { .. } => "Convert the model again as an ML program (`convert_to=\"mlprogram\"`).",
            Self::Stopped { .. } => "Run it again.",
            Self::UnknownFunction { .. } => "Choose one of the functions that the package has.",
            Self::UnknownWeight { .. } => "Ask for the output's name of a constant in the program.",
            Self::UnknownOperation { .. } => "Core ML itself may run it; use the package on a Mac.",
            Self::Operation { .. } | Self::BadProgram { .. } => {
                "The package was made wrongly; convert the model again, and report this if Embedbar made it."
            }
            Self::BadInput { .. } => "Give every input in a shape and a type that the package's description names.",
            Self::NotEmbedding { .. } => {
                "An embedding model has token ids (and perhaps a mask) as inputs and one vector or one vector a token \
                 as output."
            }
        }
    }
}

impl From<MilError> for Failure {
    fn from(error: MilError) -> Self {
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self::new(error.code(), message).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_file_the_cause_and_what_to_do() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = Failure::from(MilError::reading(Path::new("/x/Manifest.json"))(denied));
        assert_eq!(failure.code, FailureCode::Io);
        assert!(failure.message.starts_with("`/x/Manifest.json` cannot be read: permission denied"), "{failure}");
        assert!(failure.hint.is_some());
    }
}
