//! The documents' view of the lifecycle: blocking, in the bulk lane.

use std::sync::{Arc, Mutex};

use embedbar_contract::{BackendName, Failure, Generation, ModelState, PromptKind, RecipeName};
use embedbar_documents::{Embedded, Embedder};
use embedbar_lifecycle::{Lane, Lifecycle};
use tokio::runtime::Handle;

/// The recipe of Embedbar's own index and search. Programs name theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnRecipe(Arc<Mutex<RecipeName>>);

impl OwnRecipe {
    /// The followed file wishes this one.
    pub(crate) fn wish(&self, recipe: RecipeName) {
        *self.0.lock().expect("nobody panics while they hold it. This is a bug.") = recipe;
    }

    /// The one for what answers: built into it, else the wished one. A server on the network has its own and no other.
    pub(crate) fn of(&self, state: &ModelState) -> RecipeName {
        match state {
            ModelState::Ready { generation, .. } if generation.recipe != RecipeName::Native => generation.recipe,
            ModelState::Ready { backend: BackendName::Remote, .. } => RecipeName::Native,
            _ => *self.0.lock().expect("nobody panics while they hold it. This is a bug."),
        }
    }
}

/// Embeds documents for a thread that is not tokio's.
pub(crate) struct BulkEmbedder {
    pub(crate) recipe: OwnRecipe,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) runtime: Handle,
}

impl Embedder for BulkEmbedder {
    fn embed_documents(&self, texts: Vec<String>) -> Result<Embedded, Failure> {
        let recipe = self.recipe.of(&self.lifecycle.state().borrow());
        let answer = self.runtime.block_on(self.lifecycle.embed(texts, PromptKind::Document, recipe, Lane::Bulk))?;
        Ok(Embedded { vectors: answer.vectors, generation: answer.generation })
    }

    fn generation(&self) -> Option<Generation> {
        match &*self.lifecycle.state().borrow() {
            state @ ModelState::Ready { generation, .. } => {
                Some(Generation { recipe: self.recipe.of(state), ..generation.clone() })
            }
            _ => None,
        }
    }
}
