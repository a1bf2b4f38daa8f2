//! What an owner and its worker say to each other.
//!
//! The owner sends [`ToWorker::Load`] once, then any number of [`ToWorker::Embed`], one at a time; the worker answers each.
//! Vectors travel in the frame's payload, end to end, in the order of the texts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use embedbar_contract::{BackendName, Failure, Generation, PromptKind, RecipeName, Truncation};

use crate::Hello;

/// From the owner.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ToWorker {
    /// Who the owner is.
    Hello(Hello),
    /// The model to hold.
    Load(Load),
    /// Texts to embed.
    Embed(Embed),
    /// Give memory that is not in use back to the system.
    Trim,
}

/// From the worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromWorker {
    /// Who the worker is.
    Hello(Hello),
    /// The model answers.
    Loaded(Loaded),
    /// The vectors are in the payload.
    Embedded(Embedded),
    /// The last request failed; the worker goes on.
    Failed(Failure),
    /// Answers [`ToWorker::Trim`].
    Trimmed,
}

/// The model to hold.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Load {
    /// The id that generations carry.
    pub model: String,
    /// A `.gguf` file, or a folder with `model.safetensors` and its configuration.
    pub path: PathBuf,
    /// Whether another worker answers meanwhile and is not to be disturbed.
    #[serde(default)]
    pub in_background: bool,
}

/// Texts to embed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Embed {
    /// The texts.
    pub texts: Vec<String>,
    /// The prompt that goes in front of each.
    pub prompt: PromptKind,
    /// How.
    pub recipe: RecipeName,
    /// How large batches may be.
    #[serde(default)]
    pub batches: BatchSize,
}

/// How large a worker's batches may be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchSize {
    /// As large as pays off.
    #[default]
    Full,
    /// A quarter of that, while memory is short.
    Quarter,
}

/// A model that answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Loaded {
    /// What its vectors carry with the native recipe.
    pub generation: Generation,
    /// Width of its vectors.
    pub dims: usize,
    /// The most tokens it reads of a text.
    pub max_tokens: usize,
    /// What runs it.
    pub backend: BackendName,
}

/// What goes with the vectors.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Embedded {
    /// Each text's tokens that were read.
    pub tokens: Vec<usize>,
    /// Each text's truncation, if any.
    pub truncated: Vec<Option<Truncation>>,
    /// What made the vectors.
    pub generation: Generation,
    /// Milliseconds from text to tokens.
    pub tokenize_ms: f64,
    /// Milliseconds from tokens to vectors.
    pub forward_ms: f64,
}
