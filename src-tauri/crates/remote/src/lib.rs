//! Another machine that embeds: an OpenAI-compatible server, reached over the network.
//!
//! ```text
//! settings ─► Endpoint ─► Question ─► Consents     who is asked, what leaves, whether a person has said yes
//!                │
//!                └─► RemoteEmbedder ─► requests of a bounded size ─► answers that are checked ─► unit vectors
//!                                                                          │
//! local vectors of PROBES ──────────────────────────────► agrees() ◄───────┘
//! ```
//!
//! The server is not trusted: it may be slow, wrong, gone, another one than yesterday, or somebody who likes to see the key
//! sent elsewhere. Every answer is bounded in size and time, is checked before a number of it is used, and what it says is
//! cleaned before a person reads it.
//!
//! Everything blocks: it is meant for a worker process, which may be ended at any moment. What is not here: reading
//! settings, asking a person, putting a model's prompt in front of a text, and deciding when a remote model is used.
//! Nothing here looks at [`Consents`] by itself: whoever owns the home looks, before it hands an [`Endpoint`] to a worker.

mod agreement;
mod answer;
mod consent;
mod embedder;
mod endpoint;
mod error;
mod key;
mod probes;
mod said;

pub use agreement::{Agreement, NotComparable, THRESHOLD, agrees};
pub use answer::AnswerFault;
pub use consent::{ConsentError, Consents, Given, Question, Standing};
pub use embedder::{RemoteBatch, RemoteEmbedder};
pub use endpoint::{Endpoint, EndpointError};
pub use error::RemoteError;
pub use key::Key;
pub use probes::PROBES;
pub use said::Said;
