//! The model of a mapped tokenizer, for the library: it looks tokens up in the file's tables, and cannot be trained or saved.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::{AddedToken, Model, Result, Token, Trainer};

use crate::layout::{Layout, Tables};
use crate::settings::ModelSettings;
use crate::{VocabularyError, byte_pairs};

/// The bytes of a compiled file, read or mapped.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// A vocabulary, and merges where the model has some, in the bytes of a compiled file.
#[derive(Clone)]
pub struct MappedModel {
    bytes: SharedBytes,
    layout: Layout,
    settings: ModelSettings,
}

impl fmt::Debug for MappedModel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("MappedModel")
            .field("layout", &self.layout)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl MappedModel {
    pub(crate) fn new(
        bytes: SharedBytes,
        layout: Layout,
        settings: ModelSettings,
    ) -> std::result::Result<Self, VocabularyError> {
        let model = Self { bytes, layout, settings };
        if let ModelSettings::WordPiece(pieces) = &model.settings
            && model.tables().text(pieces.unknown).is_none()
        {
            let id = pieces.unknown;
            return Err(VocabularyError::damaged(format!("the token `{id}` for unknown words is not there")));
        }
        Ok(model)
    }

    fn tables(&self) -> Tables<'_> {
        self.layout.tables((*self.bytes).as_ref())
    }

    /// The largest id of the model; added tokens may have larger ones.
    pub(crate) fn largest_id(&self) -> u32 {
        self.layout.header.records.saturating_sub(1)
    }
}

/// A token as the library has it. `id` is from the tables, so it may be anything.
fn token(tables: &Tables<'_>, id: u32, start: usize, end: usize) -> Result<Token> {
    match tables.text(id) {
        Some(text) => Ok(Token::new(id, text.to_owned(), (start, end))),
        None => Err(VocabularyError::damaged(format!("there is no token `{id}`")).into()),
    }
}

impl Model for MappedModel {
    type Trainer = NoTrainer;

    fn tokenize(&self, sequence: &str) -> Result<Vec<Token>> {
        let tables = self.tables();
        match &self.settings {
            ModelSettings::WordPiece(pieces) => pieces
                .encode(&tables, sequence)
                .into_iter()
                .map(|(id, range)| token(&tables, id, range.start, range.end))
                .collect(),
            ModelSettings::BytePair => {
                if sequence.len() >= u32::MAX as usize {
                    return Err(format!("a word of `{}` bytes is too long", sequence.len()).into());
                }
                if let Some(found) = tables.token(sequence.as_bytes())
                    && found.whole
                {
                    return Ok(vec![Token::new(found.id, sequence.to_owned(), (0, sequence.len()))]);
                }
                let mut tokens = Ok(Vec::new());
                let mut start = 0;
                byte_pairs::encode(&tables, sequence, |id, length| {
                    let Ok(found) = &mut tokens else { return };
                    match token(&tables, id, start, start + length) {
                        Ok(token) => found.push(token),
                        Err(error) => tokens = Err(error),
                    }
                    start += length;
                });
                tokens
            }
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tables().token(token.as_bytes()).map(|found| found.id)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.tables().text(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.tables().all().map(|(id, text)| (text.to_owned(), id)).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.layout.header.tokens as usize
    }

    fn save(&self, _folder: &Path, _prefix: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("a mapped model is not saved: it is a file already".into())
    }

    fn get_trainer(&self) -> NoTrainer {
        NoTrainer
    }
}

/// What the library demands of a model; it trains nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoTrainer;

impl Trainer for NoTrainer {
    type Model = MappedModel;

    fn should_show_progress(&self) -> bool {
        false
    }

    fn train(&self, _model: &mut MappedModel) -> Result<Vec<AddedToken>> {
        Err("a mapped model cannot be trained".into())
    }

    fn feed<I, S, F>(&mut self, _iterator: I, _process: F) -> Result<()>
    where
        I: Iterator<Item = S> + Send,
        S: AsRef<str> + Send,
        F: Fn(&str) -> Result<Vec<String>> + Sync,
    {
        Err("a mapped model cannot be trained".into())
    }
}
