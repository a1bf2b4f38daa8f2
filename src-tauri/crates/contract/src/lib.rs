//! The contract between the backend and whoever drives it: the desktop shell, the browser, the command line.
//!
//! Every request, reply and snapshot is declared here once. Hosts carry it over different transports (Tauri's IPC, HTTP,
//! a Unix socket) but none of them adds a command of its own: [`Commands`] is implemented by the application, by
//! [`Remote`] for programs that talk to an application elsewhere, and by fakes in tests. A command that one of them lacks
//! does not compile. The TypeScript half in `ui/src/contract` is generated from these types ([`typescript()`]).
//!
//! What is not here: any input or output, any default that depends on the machine, the worker's own protocol.

mod commands;
mod failure;
mod library;
mod types;
mod typescript;

pub use commands::{Commands, Connection, METHODS, Remote, ReplyJson, Updates, dispatch};
pub use failure::{Failure, FailureCode};
pub use library::*;
pub use types::*;
pub use typescript::typescript;
