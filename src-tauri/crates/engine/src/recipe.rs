//! How text becomes tokens and how hidden states become a vector.
//!
//! A recipe is data; [`crate::Engine`] applies it. Two vectors can be compared only if model, precision and recipe agree.

use embedbar_contract::{PromptKind, RecipeName};

use crate::facts::ModelFacts;

/// Which hidden state, or which mean of them, becomes the vector.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pooling {
    /// The mean over the text's tokens.
    Mean,
    /// The first token.
    Cls,
    /// The text's last token.
    Last,
}

/// What padding means to the model and to a mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Padding {
    /// Masked: neither attention nor a mean sees it, so that the amount of padding changes nothing.
    Masked,
    /// Read like text up to this many tokens: attention sees it and a mean counts it.
    ReadUpTo(usize),
}

/// The texts that go in front of a query or a document; empty where the model has none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Prompts {
    /// In front of a query.
    pub query: String,
    /// In front of a document.
    pub document: String,
}

/// How text becomes tokens and how hidden states become a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Its name in generations.
    pub name: RecipeName,
    /// The most tokens that are read, special tokens included.
    pub max_tokens: usize,
    /// Prompts that can be asked for.
    pub prompts: Prompts,
    /// What padding means.
    pub padding: Padding,
    /// How many of the last layers are averaged; the last one is after the final norm.
    pub layers: usize,
    /// How the tokens' states become one.
    pub pooling: Pooling,
    /// Limits each number to this magnitude before normalising.
    pub clamp: Option<f32>,
    /// Whether the vector is scaled to length 1.
    pub l2: bool,
}

impl Recipe {
    /// The recipe `name` for a model.
    ///
    /// `Native` follows the model's own configuration and always normalises: search compares by cosine, which does not
    /// change by it. `Papr` is what the Papr SDK's conversion does: at most 32 tokens, no instruction, the mean of the last
    /// four entries of the list of hidden states (of which only the last is after the final norm), the mean over the
    /// text's tokens, a clamp to the range of half precision, L2. Its padding to 32 is masked in attention and in the mean,
    /// so it is not computed here. Attention stays as the architecture has it (causal for Qwen3).
    pub(crate) fn of(name: RecipeName, facts: &ModelFacts) -> Self {
        match name {
            RecipeName::Native => Self {
                name,
                max_tokens: facts.max_tokens,
                prompts: facts.prompts.clone(),
                padding: Padding::Masked,
                layers: 1,
                pooling: facts.pooling,
                clamp: None,
                l2: true,
            },
            RecipeName::Papr => Self {
                name,
                max_tokens: facts.max_tokens.min(32),
                prompts: Prompts::default(),
                padding: Padding::Masked,
                layers: facts.layers.min(4),
                pooling: Pooling::Mean,
                clamp: Some(65_504.0),
                l2: true,
            },
        }
    }

    /// The text that goes in front.
    pub fn prompt(&self, kind: PromptKind) -> &str {
        match kind {
            PromptKind::None => "",
            PromptKind::Query => &self.prompts.query,
            PromptKind::Document => &self.prompts.document,
        }
    }
}
