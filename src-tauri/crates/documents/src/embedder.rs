//! What this crate asks of a model, and nothing more.

use embedbar_contract::{Failure, Generation};

/// Makes vectors of texts. Calls block: indexing runs on a thread of its own.
pub trait Embedder: Send + Sync {
    /// One vector for each text, in order, each of unit length.
    ///
    /// # Errors
    ///
    /// Any failure ends the refresh that called; the words that it stored stay, and a later refresh makes only the vectors
    /// that are missing.
    fn embed_documents(&self, texts: Vec<String>) -> Result<Embedded, Failure>;

    /// What documents would be embedded with now; `None` while unknown. The answer decides which passages lack a vector,
    /// so that nothing needs to be loaded where nothing is missing.
    fn generation(&self) -> Option<Generation>;
}

/// The vectors of one call of [`Embedder::embed_documents`].
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One for each text, all of the same width, of unit length.
    pub vectors: Vec<Vec<f32>>,
    /// What made them.
    pub generation: Generation,
}
