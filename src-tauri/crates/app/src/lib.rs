//! The composition root: wires the crates together and carries out the contract's commands.
//!
//! [`App`] owns a home: its lifecycle, its index, its readings. It knows no host; the desktop shell, `embedbar serve` and the
//! command line hold it the same way. [`Access`] is for programs that do not care whether they own the home or ask the one
//! that does.
//!
//! ```text
//! commands ─► App ─┬─► lifecycle ──► worker process
//!                  ├─► jobs ─┬─────► documents (index, on a thread of its own) ──► lifecycle, bulk lane
//!                  │         ├─────► converter process
//!                  │         └─────► hub, installer process ──► library
//!                  ├─► documents ──► search
//!                  └─► observer ─┬─► memory readings, snapshots (at most 10 a second)
//!                                └─► governing ──► planner ──► lifecycle
//! ```

mod access;
mod agreed;
mod app;
mod arrivals;
mod cleanup;
mod commands;
mod compiled;
mod conversion;
mod embedder;
mod errand;
mod first_use;
mod following;
mod governing;
mod hub;
mod installed;
mod inventory;
mod jobs;
mod keeping;
mod logging;
mod neighbours;
mod observer;
mod owner;
mod private;
mod queries;
mod remembered;
mod remote;
mod shelf;
mod simulation;
mod swap;

pub use access::Access;
pub use app::{App, Options};
pub use arrivals::catalogue_name;
pub use governing::history;
pub use hub::in_cache;
pub use installed::{Installed, installed};
pub use logging::{Logging, log_to_files, log_to_standard_error};
pub use private::embed_with;
pub use simulation::Simulation;
