//! The normaliser of a mapped tokenizer: the library's, without those of its steps that would change nothing.
//!
//! Each step of the library writes the whole text anew, with the origin of every byte. For ordinary text that takes longer
//! than looking up its tokens.

use serde::{Deserialize, Deserializer};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, Result};

/// The library's normaliser.
#[derive(Clone, Debug)]
pub struct MappedNormalizer(NormalizerWrapper);

/// The first character that NFC may change, or compose with the one before.
const FIRST_COMBINING: char = '\u{300}';

impl<'json> Deserialize<'json> for MappedNormalizer {
    fn deserialize<Json: Deserializer<'json>>(json: Json) -> std::result::Result<Self, Json::Error> {
        NormalizerWrapper::deserialize(json).map(Self)
    }
}

impl Normalizer for MappedNormalizer {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        match &self.0 {
            NormalizerWrapper::NFC(_) if text.get().chars().all(|character| character < FIRST_COMBINING) => Ok(()),
            NormalizerWrapper::BertNormalizer(bert) if text.get().is_ascii() => ascii_by_bert(*bert, text),
            library => library.normalize(text),
        }
    }
}

/// ASCII has no accents, no Chinese characters, and control characters only where there are line ends or tabulators.
fn ascii_by_bert(bert: BertNormalizer, text: &mut NormalizedString) -> Result<()> {
    if bert.clean_text && text.get().bytes().any(|byte| byte.is_ascii_control()) {
        BertNormalizer::new(true, false, Some(false), false).normalize(text)?;
    }
    if bert.lowercase && text.get().bytes().any(|byte| byte.is_ascii_uppercase()) {
        text.lowercase();
    }
    Ok(())
}
