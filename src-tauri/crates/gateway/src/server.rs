//! Listening: sockets, connections, and the way a request takes through guard, router and headers.
//!
//! hyper is driven directly, since `axum::serve` has no limits for slow or large request heads.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use embedbar_contract::{Commands, Failure, ReplyJson, Snapshot, dispatch};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::reply::{self, Refusal};
use crate::{DEFAULT_PORT, GatewayError, Limits, Options, Token, UiFiles, guard, holder, native};

/// What is left for answers on their way when the gateway stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// After a failed accept, which usually means that the process has no file descriptors left.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

type Reply = Pin<Box<dyn Future<Output = Result<ReplyJson, Failure>> + Send>>;

/// What the handlers share.
pub(crate) struct Shared {
    /// Carries out a command with its parameters.
    pub(crate) call: Box<dyn Fn(String, Value) -> Reply + Send + Sync>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) token: Token,
    pub(crate) ui: UiFiles,
    pub(crate) limits: Limits,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// An open gateway. Dropping it closes it too, without waiting.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    token: Token,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

impl Server {
    /// The address it listens on; there is one on ::1 with the same port where the machine has it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address for a browser, with the token in its fragment, which a browser never sends.
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.address, self.token.expose())
    }

    /// Takes no more connections, gives answers on their way two seconds, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
    }
}

/// Opens the gateway to `application` on the loopback addresses.
///
/// `snapshots` feeds the event streams; a stream ends when its sender is dropped.
pub async fn serve<A>(
    application: Arc<A>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    options: Options,
) -> Result<Server, GatewayError>
where
    A: Commands + 'static,
{
    let sockets = listen(options.port.unwrap_or(DEFAULT_PORT)).await?;
    let (stop, stopping) = watch::channel(false);
    let shared = Arc::new(Shared {
        call: Box::new(move |command, params| {
            let application = Arc::clone(&application);
            Box::pin(async move { dispatch(application.as_ref(), &command, params).await })
        }),
        snapshots,
        token: options.token.clone(),
        ui: options.ui,
        limits: options.limits,
        calls: Arc::new(Semaphore::new(options.limits.calls)),
        streams: Arc::new(Semaphore::new(options.limits.streams)),
        stop: stopping.clone(),
    });
    let door = Door {
        router: router(shared),
        port: sockets.address.port(),
        limits: options.limits,
        connections: Arc::new(Semaphore::new(options.limits.connections)),
        stop: stopping,
    };
    let listeners =
        sockets.listeners.into_iter().map(|listener| tokio::spawn(accept(listener, door.clone()))).collect();
    tracing::info!(address = %sockets.address, "the gateway is open");
    Ok(Server { address: sockets.address, token: options.token, stop, listeners })
}

/// Waits until the gateway is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn router(shared: Arc<Shared>) -> Router {
    let files = Router::new().fallback(file).with_state(Arc::clone(&shared));
    // Dialects of other programs are merged here.
    native::router(shared).method_not_allowed_fallback(wrong_method).merge(files)
}

async fn file(State(shared): State<Arc<Shared>>, method: Method, uri: Uri) -> Response {
    shared.ui.answer(&method, &uri)
}

async fn wrong_method(method: Method) -> Refusal {
    Refusal::request(StatusCode::METHOD_NOT_ALLOWED, format!("`{method}` is not possible here"))
}

struct Sockets {
    /// The IPv4 address.
    address: SocketAddr,
    listeners: Vec<TcpListener>,
}

async fn listen(port: u16) -> Result<Sockets, GatewayError> {
    let ipv4 = match bind(Ipv4Addr::LOCALHOST.into(), port).await {
        Ok(listener) => listener,
        Err(error) => return Err(explained(port, error).await),
    };
    let address = ipv4.local_addr().map_err(|source| GatewayError::Listen { port, source })?;
    match bind(Ipv6Addr::LOCALHOST.into(), address.port()).await {
        Ok(ipv6) => Ok(Sockets { address, listeners: vec![ipv4, ipv6] }),
        // Whoever asks for `localhost` would get the other program.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && port != 0 => {
            drop(ipv4); // otherwise it is us who hold the port
            Err(explained(port, error).await)
        }
        Err(error) => {
            tracing::debug!(%error, "there is no gateway on ::1");
            Ok(Sockets { address, listeners: vec![ipv4] })
        }
    }
}

async fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((address, port)).await
}

async fn explained(port: u16, source: io::Error) -> GatewayError {
    if source.kind() == io::ErrorKind::AddrInUse {
        GatewayError::PortTaken { port, by: holder::holder(port).await }
    } else {
        GatewayError::Listen { port, source }
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    router: Router,
    port: u16,
    limits: Limits,
    connections: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// Takes connections until the gateway stops.
async fn accept(listener: TcpListener, door: Door) {
    let mut connections = JoinSet::new();
    let mut stop = door.stop.clone();
    loop {
        let next = async {
            let places = Arc::clone(&door.connections);
            let place = places.acquire_owned().await.expect("the semaphore is never closed. This is a bug.");
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stopped(&mut stop) => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, door.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, rest).await.is_err() {
        tracing::debug!("answers on their way were cut off");
    }
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, door: Door, _place: OwnedSemaphorePermit) {
    let _ = stream.set_nodelay(true); // events are small and should not wait for each other
    let mut stop = door.stop.clone();
    let limits = door.limits;
    let service = service_fn(move |request: Request<Incoming>| {
        let door = door.clone();
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

impl Door {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let mut response = match guard::check(request.headers(), request.uri(), self.port) {
            Err(failure) => {
                tracing::warn!(reason = failure.message, "refused a request");
                Refusal::new(StatusCode::FORBIDDEN, failure).into_response()
            }
            Ok(()) => match TowerToHyperService::new(self.router.clone()).call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        };
        reply::protect(response.headers_mut());
        response
    }
}
