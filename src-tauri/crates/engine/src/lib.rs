//! Text to tokens to vector: recipes and backends.
//!
//! An [`Engine`] is one loaded model. It applies a [`Recipe`] (how text becomes tokens, how hidden states become a vector)
//! around a [`Backend`] (what runs the arithmetic). It does not download, convert, queue or choose models, and it speaks
//! to no other process: that is the work of `store`, `convert`, `lifecycle` and `worker`.
//!
//! Data flow: [`Engine::embed`] tokenises and truncates (`tokens`), forms batches of similar length (`batches`), lets the
//! backend run them (`bert`, `nomic_bert`, `qwen3`, Core ML), pools and normalises (`pool`) and restores the order of the texts.
//!
//! Models are read as they are published: safetensors as transformers writes them (`checkpoint`) or as MLX quantises them
//! (`affine`), and GGUF (`gguf`), with the tokenizer that is in the file where none lies beside it (`gguf_tokenizer`).
//!
//! Why own encoders over candle instead of `candle-transformers`: its models keep a key-value cache, return logits instead
//! of hidden states, copy the embedding table to F32 (hundreds of megabytes for Qwen3) and have no quantised BERT.

mod affine;
mod attention;
mod backend;
mod batches;
mod bert;
mod checkpoint;
#[cfg(any(target_os = "macos", test))]
mod coreml;
mod engine;
mod error;
mod facts;
mod fast;
mod gguf;
mod gguf_tokenizer;
#[cfg(not(target_os = "macos"))]
mod interpreted;
mod kept;
mod linear;
mod mapped;
mod mapped_blocks;
mod nomic_bert;
mod package;
mod pool;
mod qwen3;
mod recipe;
mod revision;
mod sidecar;
mod tensor_rows;
mod tokens;
mod weights;

pub use embedbar_kernels::urgency::{Urgency, with_urgency};

pub use backend::{Backend, BackendError, BatchShape, Output, PaddedBatch};
pub use engine::{Arithmetic, Batch, Engine, How, is_package, start_threads};
pub use error::EngineError;
pub use gguf_tokenizer::tokenizer_json;
pub use package::ComputeUnit;
pub use recipe::{Padding, Pooling, Prompts, Recipe};
pub use tensor_rows::TensorRows;
pub use tokens::{TextEnd, token_ids};
