//! The one error that crosses a process or host boundary.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A stable name for what went wrong; the interface decides on it, people read [`Failure::message`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, TS)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureCode {
    /// The request itself is wrong: unknown method, empty query, a value out of range.
    InvalidRequest,
    /// The thing named in the request does not exist: a folder, a job, a model.
    NotFound,
    /// A model file is missing, truncated, corrupt or contradicts its tokenizer.
    ModelInvalid,
    /// A model of a kind that Embedbar cannot run.
    ModelUnsupported,
    /// The worker process died or could not be started, and the retry failed too; or the converter's did.
    WorkerFailed,
    /// The queue is full; try again shortly.
    Overloaded,
    /// The model is on its way; try again when it is expected.
    Loading,
    /// The caller or a person cancelled it.
    Cancelled,
    /// A file or folder could not be read or written.
    Io,
    /// Another program owns this home and speaks another version.
    OwnerMismatch,
    /// An invariant was broken. This is a bug.
    Internal,
}

/// What went wrong and what to do about it.
///
/// `message` is a situation with its values in backticks and no trailing period; `hint` is one sentence of advice.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, TS, thiserror::Error)]
#[error("{message}{}", .hint.as_deref().map(|hint| format!("\n\nhint: {hint}")).unwrap_or_default())]
pub struct Failure {
    /// What kind of failure it is.
    pub code: FailureCode,
    /// What happened, with its values.
    pub message: String,
    /// What the reader can do.
    pub hint: Option<String>,
    /// Whether the same request may succeed later without anything being changed.
    pub retryable: bool,
    /// When to try again, in whole seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub retry_after_seconds: Option<u32>,
}

impl Failure {
    /// A failure without advice that will not go away by itself.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            retryable: matches!(code, FailureCode::Overloaded | FailureCode::Loading | FailureCode::WorkerFailed),
            retry_after_seconds: None,
        }
    }

    /// Adds one sentence of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says when to try again, rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after_seconds = Some(after.as_secs_f64().ceil().min(f64::from(u32::MAX)) as u32);
        self
    }

    /// A broken invariant.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(FailureCode::Internal, message.to_string())
            .hint("This is a bug in Embedbar; the log in the home's `logs` folder has more.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_set_apart_from_the_message() {
        let failure = Failure::new(FailureCode::NotFound, "no folder at `/x`").hint("Check the path.");
        assert_eq!(failure.to_string(), "no folder at `/x`\n\nhint: Check the path.");
    }
}
