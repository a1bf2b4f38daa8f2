//! The loopback HTTP door to the contract: the browser drives the same commands as the desktop shell.
//!
//! Every page in every browser on this machine can reach a loopback port, so most of this crate says no: only exact hosts
//! and origins pass (`guard`, before anything is routed), everything that does something needs the token (`token`), a body
//! must be JSON by its declared type, and sizes, times and numbers of connections are bounded ([`Limits`]). It listens on
//! 127.0.0.1 and ::1 only; there is no option for more.
//!
//! | path | |
//! |---|---|
//! | `GET /`, `GET /…` | the interface's files |
//! | `GET /api/health` | `{"status":"ok"}`, without a token, and nothing else |
//! | `POST /api/call/{command}` | a command of the contract: parameters and reply as JSON; token |
//! | `GET /api/events` | snapshots as server-sent events, ten a second at most; token |
//!
//! What is not here: what the commands do (that is whoever implements [`Commands`]), and who may run a gateway on a home.
//! Further dialects become modules beside `native`, each with its own router behind the same guard, token and limits.

mod error;
mod guard;
mod holder;
mod native;
mod reply;
mod server;
mod token;
mod ui_files;

use std::time::Duration;

#[cfg(doc)]
use embedbar_contract::Commands;

pub use error::GatewayError;
pub use server::{Server, serve};
pub use token::{Token, token};
pub use ui_files::UiFiles;

/// The port that is used where none is given.
pub const DEFAULT_PORT: u16 = 7431;

/// How to open the door.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port to listen on: [`DEFAULT_PORT`] where none is given; 0 takes any that is free.
    pub port: Option<u16>,
    /// The interface's files.
    pub ui: UiFiles,
    /// What a caller must know.
    pub token: Token,
    /// What callers may use at most.
    pub limits: Limits,
}

impl Options {
    /// The default port, the embedded interface and the default limits.
    pub fn new(token: Token) -> Self {
        Self { port: None, ui: UiFiles::embedded(), token, limits: Limits::default() }
    }
}

/// What callers may use at most.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Commands that are being carried out at once; one more is answered with 429.
    pub calls: usize,
    /// Event streams that are open at once; one more is answered with 429.
    pub streams: usize,
    /// Open connections; one more waits.
    pub connections: usize,
    /// Size of a request's body.
    pub body_bytes: usize,
    /// Size of a request's head.
    pub head_bytes: usize,
    /// Until a request's head has arrived, counted from the connection or the answer before.
    pub head_time: Duration,
    /// Until a request's body has arrived.
    pub body_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 64,
            streams: 16,
            connections: 256,
            body_bytes: 4 << 20,
            head_bytes: 32 << 10,
            head_time: Duration::from_secs(15),
            body_time: Duration::from_secs(30),
        }
    }
}
