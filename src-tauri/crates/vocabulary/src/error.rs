//! What can go wrong with a compiled vocabulary.

/// Why a tokenizer cannot be compiled, or a compiled one not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// There is no compiled form for this tokenizer; the library itself may well read it.
    #[error("there is no compiled form for this tokenizer: {reason}")]
    Unsupported {
        /// The model or the option.
        reason: String,
    },
    /// The bytes to compile are no `tokenizer.json`.
    #[error("it is not a tokenizer")]
    NotATokenizer {
        /// Where the reading stopped.
        #[source]
        source: serde_json::Error,
    },
    /// The bytes to open were never compiled.
    #[error("it is not a compiled vocabulary")]
    NotCompiled,
    /// Compiled by another version of this crate.
    #[error("it is a compiled vocabulary of format `{found}`; this version reads `{expected}`")]
    OtherFormat {
        /// That of the bytes.
        found: u32,
        /// [`FORMAT`](crate::FORMAT).
        expected: u32,
    },
    /// Compiled, and changed since.
    #[error("the compiled vocabulary is damaged: {problem}")]
    Damaged {
        /// What does not fit.
        problem: String,
    },
    /// The library refuses the normaliser, the pre-tokeniser, the added tokens, or another part.
    #[error("the settings of the tokenizer cannot be used: {problem}")]
    Settings {
        /// The library's reason.
        problem: String,
    },
}

impl VocabularyError {
    pub(crate) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported { reason: reason.into() }
    }

    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged { problem: problem.into() }
    }

    pub(crate) fn settings(problem: impl std::fmt::Display) -> Self {
        Self::Settings { problem: problem.to_string() }
    }
}
