//! Opening a compiled file: the library's tokenizer around a mapped model.

use std::ops::{Deref, DerefMut};

use tokenizers::{DecoderWrapper, PostProcessorWrapper, TokenizerBuilder, TokenizerImpl};

use crate::layout::Layout;
use crate::settings::Settings;
use crate::template::check_templates;
use crate::{MappedModel, MappedNormalizer, MappedPreTokenizer, SharedBytes, VocabularyError};

/// The library's tokenizer with a model that is mapped.
pub type Pipeline =
    TokenizerImpl<MappedModel, MappedNormalizer, MappedPreTokenizer, PostProcessorWrapper, DecoderWrapper>;

/// A tokenizer whose vocabulary lies in the bytes of a compiled file.
#[derive(Clone, Debug)]
pub struct MappedTokenizer {
    pipeline: Pipeline,
}

impl MappedTokenizer {
    /// Opens what [`compile`](crate::compile) made. Only the settings are read, whatever the size of the vocabulary.
    ///
    /// Bytes that were changed since give an error here or when tokenising, or other tokens, but for a text none above
    /// [`largest_id`](Self::largest_id). The settings are as trustworthy as the `tokenizer.json` they are from: their seal keeps
    /// accidents out, and who writes a new one can say in them what the library would believe there as well.
    pub fn open(bytes: SharedBytes) -> Result<Self, VocabularyError> {
        let file = (*bytes).as_ref();
        let layout = Layout::read(file)?;
        let settings = file.get(layout.settings.clone()).unwrap_or_default();
        let settings: Settings = serde_json::from_slice(settings).map_err(VocabularyError::settings)?;
        check_templates(settings.post_processor.as_ref()).map_err(VocabularyError::settings)?;
        let model = MappedModel::new(bytes, layout, settings.model)?;
        let mut pipeline = TokenizerBuilder::new()
            .with_model(model)
            .with_truncation(settings.truncation)
            .with_padding(settings.padding)
            .with_normalizer(settings.normalizer)
            .with_pre_tokenizer(settings.pre_tokenizer)
            .with_post_processor(settings.post_processor)
            .with_decoder(settings.decoder)
            .build()
            .map_err(VocabularyError::settings)?;
        pipeline.add_tokens(settings.added_tokens.unwrap_or_default()).map_err(VocabularyError::settings)?;
        Ok(Self { pipeline })
    }

    /// The largest id of any token, added ones included.
    pub fn largest_id(&self) -> u32 {
        let added = self.pipeline.get_added_vocabulary().get_vocab().values();
        added.copied().fold(self.pipeline.get_model().largest_id(), u32::max)
    }
}

impl From<MappedTokenizer> for Pipeline {
    fn from(tokenizer: MappedTokenizer) -> Self {
        tokenizer.pipeline
    }
}

impl Deref for MappedTokenizer {
    type Target = Pipeline;

    fn deref(&self) -> &Pipeline {
        &self.pipeline
    }
}

impl DerefMut for MappedTokenizer {
    fn deref_mut(&mut self) -> &mut Pipeline {
        &mut self.pipeline
    }
}
