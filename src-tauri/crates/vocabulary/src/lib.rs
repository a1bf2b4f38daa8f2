//! A tokenizer in a form that is mapped instead of parsed.
//!
//! [`compile`] turns a `tokenizer.json` into one file: the settings, which are small and stay JSON, and the vocabulary and
//! the merges as tables that are looked up where they lie. [`MappedTokenizer::open`] reads the settings and leaves the tables
//! alone, so opening takes as long for 150,000 tokens as for ten. Everything but the model itself (normaliser,
//! pre-tokeniser, added tokens, post-processor) is the library's, and the tokens are those of the library.
//!
//! What no compiled form exists for is [`VocabularyError::Unsupported`]; the library itself reads those. Nothing here knows
//! where the file is kept or which tokenizer it came from: [`FORMAT`] belongs into whatever its owner calls it by.

mod byte_pairs;
mod characters;
mod compile;
#[cfg(test)]
mod damage;
mod error;
mod hash;
mod layout;
mod model;
mod normalizer;
mod pre_tokenizer;
mod settings;
mod splitter;
mod template;
mod tokenizer;
mod word_pieces;

pub use compile::compile;
pub use error::VocabularyError;
pub use layout::FORMAT;
pub use model::{MappedModel, NoTrainer, SharedBytes};
pub use normalizer::MappedNormalizer;
pub use pre_tokenizer::MappedPreTokenizer;
pub use template::check_templates;
pub use tokenizer::{MappedTokenizer, Pipeline};
