//! The part of a compiled file that stays JSON: a `tokenizer.json` without its model, and the model's options.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokenizers::{AddedToken, DecoderWrapper, PaddingParams, PostProcessorWrapper, TruncationParams};

use crate::normalizer::MappedNormalizer;
use crate::pre_tokenizer::MappedPreTokenizer;
use crate::word_pieces::WordPieces;

/// Which model, with the options that the tables do not say.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) enum ModelSettings {
    WordPiece(WordPieces),
    BytePair,
}

/// As they are written: every part as it was found.
#[derive(Serialize)]
pub(crate) struct WrittenSettings<'json> {
    pub(crate) model: ModelSettings,
    #[serde(flatten)]
    pub(crate) parts: Parts<'json>,
}

/// The parts of a `tokenizer.json` that are taken over unread.
#[derive(Default, Serialize)]
pub(crate) struct Parts<'json> {
    pub(crate) truncation: Option<&'json RawValue>,
    pub(crate) padding: Option<&'json RawValue>,
    pub(crate) added_tokens: Option<&'json RawValue>,
    pub(crate) normalizer: Option<&'json RawValue>,
    pub(crate) pre_tokenizer: Option<&'json RawValue>,
    pub(crate) post_processor: Option<&'json RawValue>,
    pub(crate) decoder: Option<&'json RawValue>,
}

/// As they are read: by the library, but for what this crate does itself.
#[derive(Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: ModelSettings,
    pub(crate) truncation: Option<TruncationParams>,
    pub(crate) padding: Option<PaddingParams>,
    pub(crate) added_tokens: Option<Vec<AddedToken>>,
    pub(crate) normalizer: Option<MappedNormalizer>,
    pub(crate) pre_tokenizer: Option<MappedPreTokenizer>,
    pub(crate) post_processor: Option<PostProcessorWrapper>,
    pub(crate) decoder: Option<DecoderWrapper>,
}
