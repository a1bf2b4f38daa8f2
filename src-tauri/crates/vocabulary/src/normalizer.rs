//! The normaliser of a mapped tokenizer: the library's, left out where it would change nothing.

use serde::{Deserialize, Deserializer};
use tokenizers::{NormalizedString, Normalizer, NormalizerWrapper, Result};

/// The library's normaliser.
#[derive(Clone, Debug)]
pub struct MappedNormalizer {
    library: NormalizerWrapper,
    /// It is NFC.
    composes: bool,
}

/// The first character that NFC may change, or that it composes with the one before.
const FIRST_COMBINING: char = '\u{300}';

impl<'json> Deserialize<'json> for MappedNormalizer {
    fn deserialize<Json: Deserializer<'json>>(json: Json) -> std::result::Result<Self, Json::Error> {
        let library = NormalizerWrapper::deserialize(json)?;
        let composes = matches!(library, NormalizerWrapper::NFC(_));
        Ok(Self { library, composes })
    }
}

impl Normalizer for MappedNormalizer {
    fn normalize(&self, text: &mut NormalizedString) -> Result<()> {
        // Most text is composed; going through it by Unicode's rules costs more than all of its merges.
        if self.composes && text.get().chars().all(|character| character < FIRST_COMBINING) {
            return Ok(());
        }
        self.library.normalize(text)
    }
}
