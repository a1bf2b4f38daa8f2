//! Files to passages to answers: extract, chunk, index, search.
//!
//! ```text
//! walk ─► extract (bytes to text) ─► chunk (text to passages) ─► store (SQLite: words, then vectors) ─► search
//! ```
//!
//! [`Index`] is the whole of it from outside. [`Index::refresh`] brings the index in line with a folder and reads again only
//! what changed; [`Index::search`] finds passages by words (FTS5, bm25) and by meaning (exact scan of the vectors), and fuses
//! the two rankings. The words of a file can be found as soon as it is read; its vectors follow, and a failure of the model
//! costs nothing but the vectors that are still missing.
//!
//! What is not here: any model. Vectors come from an [`Embedder`], a trait that the application implements; this crate does
//! not know the engine, the lifecycle or the host. Nor does it watch folders: whoever does calls [`Index::refresh`] with the
//! path that changed.

mod chunk;
mod control;
mod copies;
mod embedder;
mod error;
mod extract;
mod function_words;
mod fuse;
mod index;
mod query;
mod refresh;
mod search;
mod snippet;
mod store;
mod vectors;
mod walk;
mod words;

pub use control::{Control, Outcome, Progress};
pub use embedder::{Embedded, Embedder};
pub use error::DocumentsError;
pub use index::Index;
pub use search::{Found, MeaningStatus, QueryVector};
