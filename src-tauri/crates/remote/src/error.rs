//! Why a server gave no vectors.
//!
//! Each variant is a situation with its values; [`RemoteError::hint`] says what a person can do. What a server says is
//! cleaned before it gets here ([`Said`]), and no variant has the key in it. What is not here: why an endpoint cannot be used
//! at all ([`EndpointError`](crate::EndpointError)), and what is wrong with an answer ([`AnswerFault`]).

use std::time::Duration;

use embedbar_contract::{Failure, FailureCode};
use embedbar_records::RecordError;

use crate::{AnswerFault, ConsentError, EndpointError, Said};

/// Why there are no vectors.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No connection, or one that broke before an answer.
    #[error("`{host}` cannot be reached: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Why not.
        reason: String,
    },
    /// No encrypted connection.
    #[error("no secure connection to `{host}`: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// Why not.
        reason: String,
    },
    /// Something answers there that is no web server.
    #[error("what answers at `{host}` is no HTTP server: {reason}")]
    NotHttp {
        /// The host.
        host: String,
        /// Where it departs from the protocol.
        reason: String,
    },
    /// The deadline is over.
    #[error("`{host}` has not answered {texts} text(s) within {} s", .deadline.as_secs_f64())]
    TimedOut {
        /// The host.
        host: String,
        /// Texts of the request.
        texts: usize,
        /// The deadline of a request.
        deadline: Duration,
    },
    /// The answer ended before its end.
    #[error("`{host}` broke off its answer: {reason}")]
    BrokenOff {
        /// The host.
        host: String,
        /// How.
        reason: String,
    },
    /// The answer is larger than vectors can be.
    #[error("the answer of `{host}` is larger than the {most_bytes} bytes that {texts} vector(s) take at most")]
    TooLarge {
        /// The host.
        host: String,
        /// Texts of the request.
        texts: usize,
        /// The limit.
        most_bytes: u64,
    },
    /// 401 or 403.
    #[error("`{host}` refuses {} (status {status}){said}", if *.had_key { "the key" } else { "requests without a key" })]
    KeyRefused {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// Whether one was sent.
        had_key: bool,
        /// Its own words.
        said: Said,
    },
    /// 404.
    #[error("`{host}` knows no such address or no model `{model}` (status 404){said}")]
    NotThere {
        /// The host.
        host: String,
        /// The model.
        model: String,
        /// Its own words.
        said: Said,
    },
    /// Another status of the 400s: the same request will fail again.
    #[error("`{host}` rejects the request for model `{model}` (status {status}){said}")]
    Rejected {
        /// The host.
        host: String,
        /// The model.
        model: String,
        /// The status.
        status: u16,
        /// Its own words.
        said: Said,
    },
    /// 429 or 503, for longer than the deadline allows to wait.
    #[error("`{host}` is too busy (status {status}){said}")]
    Busy {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// How long it asks to wait, where it says so.
        retry_after: Option<Duration>,
        /// Its own words.
        said: Said,
    },
    /// Another status of the 500s, twice.
    #[error("`{host}` failed (status {status}){said}")]
    ServerFailed {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// Its own words.
        said: Said,
    },
    /// It sends us elsewhere. The texts and the key are for the host that a person was asked about.
    #[error("`{host}` sends requests on to {} (status {status}), where nothing was sent",
        .to.as_deref().map_or("another place".to_owned(), |to| format!("`{to}`")))]
    Redirected {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// The host that it names, where it names one.
        to: Option<String>,
    },
    /// A status that means nothing here.
    #[error("`{host}` answers with status {status}, which means nothing here{said}")]
    StatusUnknown {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// Its own words.
        said: Said,
    },
    /// An answer, but none that can be used.
    #[error("the answer of `{host}` cannot be used: {fault}")]
    AnswerUnusable {
        /// The host.
        host: String,
        /// What is wrong with it.
        fault: AnswerFault,
    },
}

impl RemoteError {
    /// What the reader can do, in one sentence.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Check the network and `EMBEDBAR_REMOTE_URL`.",
            Self::Tls { .. } => {
                "Check the address; if the server has a certificate of its own, tell this system to trust it."
            }
            Self::NotHttp { .. } => "Check the port in `EMBEDBAR_REMOTE_URL`.",
            Self::TimedOut { .. } => "Try again, or raise `EMBEDBAR_REMOTE_DEADLINE_SECONDS`.",
            Self::BrokenOff { .. } | Self::ServerFailed { .. } => {
                "Try again later; if it stays, the server's own log has the reason."
            }
            Self::TooLarge { .. } => {
                "Check that `EMBEDBAR_REMOTE_URL` is an embeddings server; for very wide vectors, set \
                 `EMBEDBAR_REMOTE_DIMENSIONS`."
            }
            Self::KeyRefused { .. } => {
                "Check `EMBEDBAR_REMOTE_KEY`; it may be wrong, revoked, or not allowed this model."
            }
            Self::NotThere { .. } => {
                "Check `EMBEDBAR_REMOTE_MODEL` and `EMBEDBAR_REMOTE_URL`, which often ends in `/v1`."
            }
            Self::Rejected { .. } => "Check `EMBEDBAR_REMOTE_MODEL` and `EMBEDBAR_REMOTE_DIMENSIONS`.",
            Self::Busy { .. } => "Try again later, or look at the limits of your account there.",
            Self::Redirected { .. } => "If that place is meant, write its address in `EMBEDBAR_REMOTE_URL`.",
            Self::StatusUnknown { .. } => "Check that `EMBEDBAR_REMOTE_URL` is an embeddings server.",
            Self::AnswerUnusable { fault, .. } => fault.hint(),
        }
    }

    /// Whether the same request may succeed later without anything being changed.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::BrokenOff { .. }
                | Self::Busy { .. }
                | Self::ServerFailed { .. }
        )
    }
}

impl From<RemoteError> for Failure {
    /// The contract has no code for a remote server: [`FailureCode::Overloaded`] is what passes by itself,
    /// [`FailureCode::ModelInvalid`] an answer that no model gives, and [`FailureCode::InvalidRequest`] what somebody has to
    /// change. Never [`FailureCode::WorkerFailed`], which would end a worker that is well.
    fn from(error: RemoteError) -> Self {
        let code = match &error {
            RemoteError::AnswerUnusable { .. } | RemoteError::TooLarge { .. } | RemoteError::NotHttp { .. } => {
                FailureCode::ModelInvalid
            }
            RemoteError::NotThere { .. } => FailureCode::NotFound,
            passing if passing.is_passing() => FailureCode::Overloaded,
            _ => FailureCode::InvalidRequest,
        };
        let failure = Self::new(code, error.to_string()).hint(error.hint());
        match error {
            RemoteError::Busy { retry_after: Some(after), .. } => failure.retry_after(after),
            _ => failure,
        }
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        Self::new(FailureCode::InvalidRequest, error.to_string()).hint("Correct the `EMBEDBAR_REMOTE_*` settings.")
    }
}

impl From<ConsentError> for Failure {
    fn from(error: ConsentError) -> Self {
        let record = error.record();
        let code = match record {
            RecordError::Newer { .. } => FailureCode::OwnerMismatch,
            _ => FailureCode::Io,
        };
        Self::new(code, record.sentence()).hint(record.hint("what you once answered"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_whether_and_when_to_try_again() {
        let busy =
            |retry_after| RemoteError::Busy { host: "h".into(), status: 429, retry_after, said: Said::default() };
        let failure = Failure::from(busy(Some(Duration::from_millis(1500))));
        assert_eq!((failure.code, failure.retryable), (FailureCode::Overloaded, true));
        assert_eq!(failure.retry_after_seconds, Some(2));
        assert_eq!(Failure::from(busy(None)).retry_after_seconds, None);
        let refused = RemoteError::KeyRefused { host: "h".into(), status: 401, had_key: true, said: Said::default() };
        let failure = Failure::from(refused);
        assert_eq!((failure.code, failure.retryable), (FailureCode::InvalidRequest, false));
        assert!(failure.to_string().contains("refuses the key (status 401)\n\nhint: Check `EMBEDBAR_REMOTE_KEY`"));
    }
}
