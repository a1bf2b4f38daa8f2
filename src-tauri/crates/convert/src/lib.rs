//! Streams a checkpoint into a smaller one: safetensors in, GGUF or Core ML out, a few row blocks in memory at a time.
//!
//! Data flow, one module each:
//!
//! ```text
//! checkpoint ─► plan, package ─► stream ─► quantise ─► output
//!  (headers)    (names, shapes,  (pread,   (one row    (partial file or folder,
//! tokenizer ─►   places)          sha256)   at a time)   then rename)
//! ```
//!
//! [`convert()`] never maps a file and never holds a tensor: a reading thread hands blocks of at most [`BLOCK_BYTES`] to threads
//! that quantise their rows, and a writing thread takes the result. Tensors are written in the order in which the source holds them, so that one
//! sequential pass over the source both converts it and takes its sha256. The same source and [`Job`] give the same bytes.
//!
//! What this is not: it knows nothing of running a model, downloads nothing, and does not decide which precision is wanted.
//! Where a checkpoint leaves room for doubt (a tensor without a place, a pooling that is written nowhere) it refuses.

pub mod bundled;
mod cache;
pub mod certificate;
mod checkpoint;
mod configuration;
mod convert;
mod decode;
mod error;
mod gguf;
mod job;
mod output;
mod package;
mod plan;
mod quantise;
#[cfg(test)]
mod samples;
mod share;
mod sidecar;
mod source;
mod stream;
mod targets;
mod tokenizer;

pub use convert::{CONVERTER, Prepared, QUARANTINED, convert, prepare};
pub use error::ConvertError;
pub use job::{
    Format, Job, Package, PackageSummary, Pooling, Progress, Sharing, Summary, System, TargetPrecision, TensorSummary,
};
pub use output::{place, sweep, sweep_target};
pub use package::NEURAL_ENGINE_BYTES;
pub use package::architecture::{Activation, Architecture, Bert, NomicBert, Qwen3};
pub use source::Source;
pub use stream::BLOCK_BYTES;
pub use targets::{Lengths, left_over};
