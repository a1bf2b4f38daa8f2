//! One bounded request to this machine.

use std::io;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::time::Instant;
use ureq::config::RedirectAuthHeaders;

use crate::text::shown;

/// No list of models is larger.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// More header than this comes from nobody that is meant here.
const MOST_HEADER_BYTES: usize = 16 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// The header by which some servers name themselves.
    pub(super) server: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// Not whole before the deadline.
    #[error("it did not answer in time")]
    Late,
    /// More than is read.
    #[error("its answer was too large")]
    TooLarge,
    /// Nobody is there, or what is there does not speak HTTP.
    #[error("it could not be reached ({0})")]
    Failed(String),
}

impl Reply {
    /// What it says about a failure, shortened.
    pub(super) fn complaint(&self) -> String {
        let said: Option<Value> = serde_json::from_slice(&self.body).ok();
        let said = said.as_ref().and_then(|said| {
            let error = said.get("error")?;
            error.as_str().or_else(|| error.get("message")?.as_str())
        });
        match said.map(shown).filter(|said| !said.is_empty()) {
            Some(said) => format!("{} (status {})", said.trim_end_matches('.'), self.status),
            None => format!("status {}", self.status),
        }
    }
}

/// Sends one request on a connection of its own: a POST where there is a body.
pub(super) fn send(
    address: SocketAddr,
    path: &str,
    body: Option<&Value>,
    deadline: Instant,
) -> Result<Reply, HttpError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(HttpError::Late);
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        // The whole exchange, so that a reply that drips ends too.
        .timeout_global(Some(left))
        // A proxy from the environment or a redirect would lead away from this machine.
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .redirect_auth_headers(RedirectAuthHeaders::Never)
        .http_status_as_error(false)
        .max_response_header_size(MOST_HEADER_BYTES)
        .user_agent("embedbar")
        .build()
        .into();
    let url = format!("http://{address}{path}");
    let answered = match body {
        None => agent.get(&url).call(),
        Some(body) => agent.post(&url).send_json(body),
    };
    let mut response = answered.map_err(error)?;
    let server = response.headers().get("server").and_then(|name| name.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MOST_BYTES).read_to_vec().map_err(error)?;
    Ok(Reply { status, server, body })
}

fn error(error: ureq::Error) -> HttpError {
    match error {
        ureq::Error::Timeout(_) => HttpError::Late,
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => HttpError::TooLarge,
        ureq::Error::Io(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            HttpError::Late
        }
        other => HttpError::Failed(shown(&other.to_string())),
    }
}
