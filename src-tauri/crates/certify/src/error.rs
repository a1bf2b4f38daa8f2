//! Why a model was not made, or not accepted.

use std::path::PathBuf;

use embedbar_contract::{Failure, FailureCode};
use embedbar_convert::ConvertError;
use embedbar_engine::{ComputeUnit, EngineError};
use embedbar_mil::MilError;

/// What can go wrong between a checkpoint and a certified model. Whatever it is, the target is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertifyError {
    /// The conversion failed or was cancelled.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// What was made cannot be read back, or its tokenizer cannot.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The package that was made cannot be read back or run.
    #[error(transparent)]
    Mil(#[from] MilError),
    /// The package that was made breaks rules of the format.
    #[error("the package that was made for `{path}` breaks {count} rules of the format, the first one: {first}")]
    Structure {
        /// The target.
        path: PathBuf,
        /// How many.
        count: usize,
        /// The first one.
        first: String,
    },
    /// What was made does not compute what its weights say.
    #[error("what was made for `{path}` fails its self-test: {problem}")]
    SelfTest {
        /// The target.
        path: PathBuf,
        /// What does not agree.
        problem: String,
    },
    /// A vector holds a NaN or an infinite number, or only zeros.
    #[error("`{path}` gives no vector for the probe text `{text}`: {problem}")]
    NoVector {
        /// The checkpoint or the target.
        path: PathBuf,
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The vectors are too far from the source's.
    #[error(
        "`{path}` was not replaced: the new model's vectors agree with the source's to a cosine of {cosine:.4}, below the floor of {floor}"
    )]
    BelowFloor {
        /// The target.
        path: PathBuf,
        /// Where the new model is, under a name that nothing loads.
        aside: PathBuf,
        /// The mean cosine over the probe set.
        cosine: f64,
        /// The least that was asked for.
        floor: f64,
    },
    /// No unit of this machine gives a package's vectors.
    #[error("`{path}` is not used with {unit}: {reason}")]
    Unfit {
        /// The package.
        path: PathBuf,
        /// The last one that was tried.
        unit: ComputeUnit,
        /// What is wrong there.
        reason: String,
    },
    /// A certificate cannot be read.
    #[error("the certificate `{path}` cannot be read: {problem}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl CertifyError {
    fn code(&self) -> FailureCode {
        match self {
            Self::Structure { .. } | Self::SelfTest { .. } | Self::Mil(_) => FailureCode::Internal,
            _ => FailureCode::ModelInvalid,
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Structure { .. } | Self::SelfTest { .. } | Self::Mil(_) => {
                "This is a bug in Embedbar. Nothing was changed; another `--format` or precision may work.".to_owned()
            }
            Self::NoVector { .. } => {
                "The checkpoint's weights may be damaged, or too large for half precision. Try `--format gguf`."
                    .to_owned()
            }
            Self::BelowFloor { aside, cosine, .. } => format!(
                "It is kept as `{}`, which nothing loads. Choose a wider precision, or accept it with `--floor {:.2}`.",
                aside.display(),
                (cosine * 100.0).floor() / 100.0
            ),
            Self::Unfit { .. } => {
                "The same model converted with `--format gguf`, or to a wider precision, does not depend on Core ML."
                    .to_owned()
            }
            Self::Certificate { .. } => "Convert the model again to get a new one.".to_owned(),
            Self::Convert(_) | Self::Engine(_) => String::new(),
        }
    }
}

impl From<CertifyError> for Failure {
    fn from(error: CertifyError) -> Self {
        match error {
            CertifyError::Convert(error) => error.into(),
            CertifyError::Engine(error) => error.into(),
            error => Self::new(error.code(), error.to_string()).hint(error.hint()),
        }
    }
}
