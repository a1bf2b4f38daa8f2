//! The contract over HTTP: one address per command, snapshots as server-sent events.
//!
//! A caller that goes away before its answer takes the call with it: the command's future is dropped.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{RequestExt as _, Router};
use embedbar_contract::{Failure, FailureCode, Snapshot};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::reply::{self, Refusal};
use crate::server::{Shared, stopped};

/// Ten snapshots a second are as many as anyone can see.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);
/// A silent stream says this often that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The addresses below `/api`.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let private = Router::new()
        .route("/api/call/{command}", post(call))
        .route("/api/events", get(events))
        .route_layer(from_fn_with_state(Arc::clone(&shared), require_token))
        .layer(DefaultBodyLimit::max(shared.limits.body_bytes));
    Router::new().route("/api/health", get(health)).merge(private).with_state(shared)
}

/// Lets a request through that carries the token.
pub(crate) async fn require_token(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let offered = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let offered =
        offered.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    if offered.is_some_and(|(_, offered)| shared.token.matches(offered.trim())) {
        return Ok(next.run(request).await);
    }
    let failure = Failure::new(FailureCode::InvalidRequest, "the request does not carry this gateway's token")
        .hint("Open the address that `embedbar serve` printed; programs send `Authorization: Bearer` with the token.");
    Err(Refusal::new(StatusCode::UNAUTHORIZED, failure))
}

async fn health() -> Response {
    reply::json(StatusCode::OK, json!({ "status": "ok" }).to_string())
}

async fn call(
    State(shared): State<Arc<Shared>>,
    command: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Response, Refusal> {
    let Path(command) = command.map_err(|error| Refusal::request(error.status(), error.body_text()))?;
    let _permit = admit(&shared.calls, "commands")?;
    require_json(request.headers())?;
    let params = match body(&shared, request).await? {
        bytes if bytes.is_empty() => Value::Null,
        bytes => serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::request(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))?,
    };
    let reply = (shared.call)(command, params).await?;
    Ok(reply::json(StatusCode::OK, String::from(Box::<str>::from(reply))))
}

/// A page of another site can send a form's types without asking first, but not this one.
fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = declared.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body's type must be `application/json`"))
}

async fn body(shared: &Shared, request: Request) -> Result<Bytes, Refusal> {
    let limit = shared.limits.body_bytes;
    let too_large =
        || Refusal::request(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than `{limit}` bytes"));
    // The extractor counts what arrives; a size that is declared need not be waited for.
    if request.body().size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let body = tokio::time::timeout(shared.limits.body_time, request.extract::<Bytes, _>());
    let Ok(body) = body.await else {
        return Err(Refusal::request(StatusCode::REQUEST_TIMEOUT, "the body took too long to arrive"));
    };
    body.map_err(|error: BytesRejection| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        status => Refusal::request(status, "the body broke off"),
    })
}

async fn events(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let permit = admit(&shared.streams, "event streams")?;
    let feed = Feed { snapshots: shared.snapshots.clone(), stop: shared.stop.clone(), last: None, _permit: permit };
    let events = Sse::new(stream::unfold(feed, Feed::next)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], events).into_response())
}

/// One reader's place in the stream of snapshots.
struct Feed {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    stop: watch::Receiver<bool>,
    last: Option<Instant>,
    _permit: OwnedSemaphorePermit,
}

impl Feed {
    /// The snapshot as it is at first, then each newer one; a slow reader skips to the newest.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if let Some(last) = self.last {
            let newer = async {
                tokio::time::sleep_until(last + BETWEEN_EVENTS).await;
                self.snapshots.changed().await
            };
            tokio::select! {
                () = stopped(&mut self.stop) => return None,
                newer = newer => newer.ok()?,
            }
        }
        self.last = Some(Instant::now());
        let snapshot = Arc::clone(&self.snapshots.borrow_and_update());
        match serde_json::to_string(&*snapshot) {
            Ok(text) => Some((Ok(Event::default().data(text)), self)),
            Err(error) => {
                tracing::error!(%error, "a snapshot cannot be written as JSON");
                None
            }
        }
    }
}

fn admit(places: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Refusal> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let failure = Failure::new(FailureCode::Overloaded, format!("too many {what} at once"));
        Refusal::from(failure.hint("Try again in a second, with fewer requests at a time."))
    })
}
