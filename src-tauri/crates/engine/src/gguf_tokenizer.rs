//! From the tokenizer that llama.cpp's converters keep in a GGUF file back to the `tokenizer.json` that they read.
//!
//! Three kinds, as `tokenizer.ggml.model` names them: `bert` (WordPiece as BERT has it), `gpt2` (byte-level BPE, split as `qwen2`
//! says) and `t5` (SentencePiece's Unigram as XLM-R has it). What the converters leave out is the same for every model of a kind
//! and is put back here: Qwen's NFC, BERT's normaliser, the white space that `<mask>` swallows. A way of splitting texts that is
//! not known is refused, because it would give other vectors without a word.
//!
//! Nothing here runs a tokenizer. The text that comes out is parsed by the library like any other, and may as well be written to
//! a file beside the model. Whatever the file claims is checked first: [`metadata`] says how.

mod byte_pairs;
mod charsmap;
mod json;
mod metadata;
#[cfg(test)]
mod tests;
mod unigram;
mod vocabulary;
mod word_pieces;

use std::path::{Path, PathBuf};

use crate::{
    EngineError, gguf,
    mapped::Mapped,
    tokens::{LARGEST, read_bytes},
};

use metadata::Metadata;

/// Why the keys of a file make no tokenizer.
#[derive(Debug, thiserror::Error)]
enum Unbuildable {
    #[error("its kind is `{0}`; those that can be read are `bert`, `gpt2` and `t5`")]
    Kind(String),
    #[error("it splits texts in the way `{0}`, which is not known here; of the kind `gpt2` only `qwen2` is")]
    PreTokenizer(String),
    #[error("`tokenizer.ggml.{key}` {problem}")]
    Key { key: &'static str, problem: String },
    #[error("two of its tokens are `{0}`")]
    Doubled(String),
    #[error("its merge `{merge}` is no pair of its tokens that makes a third one")]
    Merge { merge: String },
    #[error("it would have `{0}` bytes, which is more than are read of any tokenizer")]
    TooLarge(usize),
}

impl Unbuildable {
    fn key(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Key { key, problem: problem.into() }
    }
}

/// The `tokenizer.json` of the GGUF file at `path`; `None` where the file brings no tokenizer.
///
/// # Errors
/// [`EngineError::BadTokenizer`] where it brings one that is of no kind known here, or damaged; others where the file itself
/// cannot be read.
pub fn tokenizer_json(path: &Path) -> Result<Option<String>, EngineError> {
    let file = Mapped::open(path)?;
    let header = gguf::parse(file.bytes()).map_err(|problem| problem.of(path))?;
    let metadata = Metadata::new(file.bytes(), header);
    let built = build(&metadata).map_err(|problem| EngineError::tokenizer(path, problem))?;
    // Megabytes of vocabulary, which nobody reads again.
    file.release(&metadata.whole());
    Ok(built)
}

fn build(metadata: &Metadata) -> Result<Option<String>, Unbuildable> {
    let text = match metadata.text("model") {
        None | Some("none" | "no_vocab") => return Ok(None),
        Some("bert") => word_pieces::tokenizer(metadata)?,
        Some("gpt2") => byte_pairs::tokenizer(metadata)?,
        Some("t5") => unigram::tokenizer(metadata)?,
        Some(other) => return Err(Unbuildable::Kind(json::short(other))),
    };
    if text.len() as u64 > LARGEST { Err(Unbuildable::TooLarge(text.len())) } else { Ok(Some(text)) }
}

/// The tokenizer of the GGUF file at `path`, and which file it is from: `beside` where that is there, else the file itself.
pub(crate) fn beside_or_within(path: &Path, beside: PathBuf) -> Result<(PathBuf, Vec<u8>), EngineError> {
    match read_bytes(&beside) {
        Err(EngineError::Missing { .. }) => match tokenizer_json(path)? {
            Some(text) => Ok((path.to_path_buf(), text.into_bytes())),
            None => Err(EngineError::Missing { path: beside }),
        },
        read => Ok((beside, read?)),
    }
}
