//! The documents' view of the lifecycle: blocking, in the bulk lane.

use embedbar_contract::{Failure, Generation, ModelState, PromptKind, RecipeName};
use embedbar_documents::{Embedded, Embedder};
use embedbar_lifecycle::{Lane, Lifecycle};
use tokio::runtime::Handle;

/// Embeds documents for a thread that is not tokio's.
pub(crate) struct BulkEmbedder {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) runtime: Handle,
}

impl Embedder for BulkEmbedder {
    fn embed_documents(&self, texts: Vec<String>) -> Result<Embedded, Failure> {
        let answer =
            self.runtime.block_on(self.lifecycle.embed(texts, PromptKind::Document, RecipeName::Native, Lane::Bulk))?;
        Ok(Embedded { vectors: answer.vectors, generation: answer.generation })
    }

    fn generation(&self) -> Option<Generation> {
        match &*self.lifecycle.state().borrow() {
            ModelState::Ready { generation, .. } => Some(generation.clone()),
            _ => None,
        }
    }
}
