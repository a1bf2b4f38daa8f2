//! What can go wrong before the door is open. What goes wrong afterwards is a [`Failure`] in some answer.

use std::io;
use std::path::PathBuf;

use embedbar_contract::{Failure, FailureCode};

/// Why the gateway cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Another program listens on the port.
    #[error("port `{port}` is taken by {}", .by.as_ref().map_or_else(|| "a program that could not be identified".to_owned(), |by| format!("`{by}`")))]
    PortTaken {
        /// The port.
        port: u16,
        /// Name and process id of the other program, such as `node (process 812)`, where they could be found out.
        by: Option<String>,
    },
    /// The system refuses to listen on the port.
    #[error("cannot listen on port `{port}` of the loopback address")]
    Listen {
        /// The port.
        port: u16,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The file with the token cannot be read or made.
    #[error("cannot read or make the token file `{}`", .file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

impl GatewayError {
    /// One sentence of advice.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::PortTaken { .. } => "Choose another port with `--port`, or end the program that holds this one.",
            Self::Listen { .. } => "Choose another port with `--port`; those below 1024 need special rights.",
            Self::Token { .. } => "Check that the folder exists and belongs to you.",
        }
    }
}

impl From<GatewayError> for Failure {
    fn from(error: GatewayError) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new(FailureCode::Io, format!("{error}{cause}")).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_says_by_whom_and_what_to_do() {
        let taken = GatewayError::PortTaken { port: 7431, by: Some("node (process 812)".to_owned()) };
        let failure = Failure::from(taken);
        assert_eq!(failure.message, "port `7431` is taken by `node (process 812)`");
        assert!(failure.hint.expect("a hint").contains("--port"));
        let unknown = GatewayError::PortTaken { port: 1, by: None };
        assert_eq!(unknown.to_string(), "port `1` is taken by a program that could not be identified");
    }
}
