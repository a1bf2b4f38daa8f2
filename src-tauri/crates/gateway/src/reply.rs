//! Failures as HTTP answers: the one place where a [`FailureCode`] becomes a status.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use embedbar_contract::{Failure, FailureCode};

/// When to try again where the failure does not say it, seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// A failure and the status it is sent with.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    failure: Failure,
}

impl Refusal {
    /// For failures of HTTP itself, which have a status that the contract does not know.
    pub(crate) fn new(status: StatusCode, failure: Failure) -> Self {
        Self { status, failure }
    }

    /// A request that is wrong in a way that has a status of its own.
    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, Failure::new(FailureCode::InvalidRequest, message))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            FailureCode::InvalidRequest => StatusCode::BAD_REQUEST,
            FailureCode::NotFound => StatusCode::NOT_FOUND,
            FailureCode::Cancelled => StatusCode::CONFLICT,
            FailureCode::ModelInvalid | FailureCode::ModelUnsupported => StatusCode::UNPROCESSABLE_ENTITY,
            FailureCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            FailureCode::OwnerMismatch => StatusCode::BAD_GATEWAY,
            FailureCode::Loading | FailureCode::WorkerFailed => StatusCode::SERVICE_UNAVAILABLE,
            // Io, Internal, and codes that a later contract adds.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, failure }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.failure).expect("a failure is plain data. This is a bug.");
        let mut response = json(self.status, body);
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let seconds = self.failure.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: String) -> Response {
    let header = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (status, header, body).into_response()
}

/// Adds what every answer carries, refusals included.
pub(crate) fn protect(headers: &mut HeaderMap) {
    const ALWAYS: [(&str, &str); 4] = [
        (
            "content-security-policy",
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
             connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Whatever does not say that it may be kept may not.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_and_a_dead_worker_say_when_to_try_again() {
        let answer = |code| Refusal::from(Failure::new(code, "x")).into_response();
        for (code, status) in [(FailureCode::Overloaded, 429), (FailureCode::WorkerFailed, 503)] {
            let response = answer(code);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
        let loading = Failure::new(FailureCode::Loading, "x").retry_after(std::time::Duration::from_millis(6_200));
        let response = Refusal::from(loading).into_response();
        assert_eq!(
            (response.status(), &response.headers()[RETRY_AFTER]),
            (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from(7))
        );
        let response = answer(FailureCode::NotFound);
        assert_eq!(response.status(), 404);
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }
}
