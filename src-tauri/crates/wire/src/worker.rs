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
    /// What it is opened from.
    pub source: Source,
    /// Whether another worker answers meanwhile and is not to be disturbed.
    #[serde(default)]
    pub in_background: bool,
}

/// What a model is opened from.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A `.gguf` file, a package, or a folder with `model.safetensors` and its configuration.
    File(PathBuf),
    /// A server on the network.
    Remote(RemoteSource),
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Remote(_) => formatter.write_str("a server on the network"),
        }
    }
}

/// An endpoint of `embedbar-remote` as JSON. It holds the key, so it is never shown.
#[derive(Clone, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(transparent)]
pub struct RemoteSource(pub String);

impl std::fmt::Debug for RemoteSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RemoteSource")
    }
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
    /// For whom.
    #[serde(default)]
    pub lane: Lane,
    /// How large batches may be.
    #[serde(default)]
    pub batches: BatchSize,
}

/// How urgent a request is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// A person or a program waits for it.
    #[default]
    Query,
    /// Indexing; it takes the time that queries leave.
    Bulk,
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
