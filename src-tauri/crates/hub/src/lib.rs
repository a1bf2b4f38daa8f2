//! The Hugging Face hub's protocol, and downloads that resume and are verified.
//!
//! ```text
//! HubSettings ─► HubClient ─► Snapshot (files, sizes, digests of one commit) ─► a person's yes ─► download ─► a folder
//!                    │                                                              │
//!                    └─► HubCache: what is there already, also without a network    └─► Transfer: pause, cap, progress
//! ```
//!
//! Why not `hf-hub` 1.0: it begins a broken file again, compares neither size nor digest, and may keep an error page as a
//! file. Everything that a server says is distrusted: names become paths only after a check, lengths are compared, and
//! nothing appears under its name before its digest is that of the listing.
//!
//! What is not here: what the files mean, which models there are, asking a person, and keeping the token.

mod cache;
pub mod choice;
mod client;
mod description;
mod digest;
mod environment;
mod error;
mod file;
mod journal;
mod kept;
mod names;
pub mod parsers;
mod quote;
mod reference;
mod secret;
mod snapshot;
mod sweep;
mod transfer;
mod tree;

pub use cache::{HubCache, Verdict};
pub use client::{FileMetadata, HubClient, HubOptions};
pub use description::{Description, Gate};
pub use digest::Digest;
pub use environment::{DEFAULT_ENDPOINT, HubSettings, TokenPlace};
pub use error::HubError;
pub use names::{Chosen, FilePath, RepositoryId, is_commit};
pub use quote::Quote;
pub use reference::Reference;
pub use secret::Token;
pub use snapshot::{Entry, Snapshot, Target};
pub use sweep::Leftover;
pub use transfer::{Progress, Transfer};
