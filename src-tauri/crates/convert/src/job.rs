//! What is asked of the converter and what it answers. No behaviour.

use std::path::PathBuf;

/// What the matrices of the target are stored as. Norms, biases and small tables stay F32 in each of them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum TargetPrecision {
    /// IEEE half precision (GGUF's F16).
    Fp16,
    /// 8-bit integers, a scale for every 32 of them (GGUF's Q8_0).
    Int8,
}

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Pooling {
    /// The mean over the tokens of the text.
    Mean,
    /// The first token.
    Cls,
    /// The last token.
    Last,
}

/// One conversion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// A folder with `config.json`, `tokenizer.json` and `model.safetensors`, or shards and their index.
    pub source: PathBuf,
    /// The `.gguf` file to make; its folder must exist. `tokenizer.json` is placed beside it. An existing file is replaced
    /// only when the new one is complete.
    pub target: PathBuf,
    /// What the matrices are stored as.
    pub precision: TargetPrecision,
    /// Overrides what the checkpoint says about pooling; needed where it says nothing.
    pub pooling: Option<Pooling>,
    /// Overrides the most tokens that the authors meant the model to read of a text.
    pub max_tokens: Option<usize>,
    /// The model's name as the file records it; by default the target's file name without its suffix.
    pub name: Option<String>,
}

impl Job {
    /// A job with everything else as the checkpoint says.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>, precision: TargetPrecision) -> Self {
        Self { source: source.into(), target: target.into(), precision, pooling: None, max_tokens: None, name: None }
    }
}

/// How far a conversion is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Bytes of the source that were converted plus bytes of the target that were read back.
    pub bytes_done: u64,
    /// Bytes of the source's weights plus bytes of the target; known from the headers before anything is converted.
    pub bytes_total: u64,
    /// The tensor that was worked on, by its name in the target; empty while the target is read back for its sha256.
    pub tensor: String,
}

/// What a conversion did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Summary {
    /// Bytes of the source's weight files, all of which were read.
    pub bytes_read: u64,
    /// Size of the target.
    pub bytes_written: u64,
    /// The sha256 of the weights: of the file itself where there is one; where there are shards, of the lines
    /// `SHA256  NAME` that `sha256sum` prints for them in the order of their names.
    pub input_sha256: String,
    /// The sha256 of the target, taken by reading it back.
    pub output_sha256: String,
    /// Every tensor of the target, in its order.
    pub tensors: Vec<TensorSummary>,
    /// Tensors of the source that a vector does not depend on and that were left out, such as the pooler.
    pub left_out: Vec<String>,
    /// Why the target has no tokenizer of its own, where `tokenizer.json` cannot be said in GGUF. llama.cpp cannot read such
    /// a target; Embedbar can, with the `tokenizer.json` that lies beside it.
    pub tokenizer_left_out: Option<String>,
    /// The most tokens of a text that the target says to read.
    pub max_tokens: usize,
    /// The pooling that the target asks for.
    pub pooling: Pooling,
}

/// One tensor of the target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TensorSummary {
    /// Its name in the target.
    pub name: String,
    /// Its name in the source.
    pub source: String,
    /// Rows first; those of the source, less the rows that belong to no position of XLM-R.
    pub shape: Vec<usize>,
    /// What it is stored as: `F32`, `F16` or `Q8_0`.
    pub stored_as: &'static str,
    /// Its size in the target.
    pub bytes: u64,
    /// Whether it is stored wider than asked because its rows do not divide into whole blocks.
    pub fell_back: bool,
}
