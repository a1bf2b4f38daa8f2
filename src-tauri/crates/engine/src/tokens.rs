//! Text to token ids, with the special tokens in place and every truncation counted.
//!
//! The library's tokenizer reads `tokenizer.json` itself, or what was compiled of it at the first load and is mapped from then
//! on. The tokenizer's own truncation and padding are switched off: it truncates silently, and it pads to whatever length the
//! author once saved. Special tokens are found once by a probe and put around the text here, so that a truncated text keeps
//! its end token.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use embedbar_contract::Truncation;
use embedbar_vocabulary::{FORMAT, MappedTokenizer, VocabularyError, check_templates};
use tokenizers::{Decoder, Encoding, Model, Normalizer, PostProcessor, PreTokenizer, Tokenizer, TokenizerImpl};

use crate::{EngineError, kept::Draft, mapped::Mapped, recipe::Padding};

/// Larger than any real one (Qwen3's has 11 MB, XLM-R's 17 MB).
pub(crate) const LARGEST: u64 = 64 << 20;

/// Texts from which on several threads tokenise.
const PARALLEL: usize = 8;

/// A tokenizer that fits one model.
pub(crate) struct TextTokenizer {
    path: PathBuf,
    tokenizer: Box<dyn Pipeline>,
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    pad: u32,
}

/// One text's tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Tokens {
    /// Special tokens included, and padding that is read like text.
    pub(crate) ids: Vec<u32>,
    /// Tokens of the text that were read, special tokens included, padding not.
    pub(crate) count: usize,
    /// Set where the text was longer.
    pub(crate) truncated: Option<Truncation>,
}

/// What the model demands of its tokenizer.
pub(crate) struct Demands {
    /// Rows of the embedding table; `None` where the model does not tell.
    pub(crate) rows: Option<usize>,
    /// The most tokens of a text.
    pub(crate) max_tokens: usize,
    /// What ends every text.
    pub(crate) end: TextEnd,
}

/// The token that ends a text of Qwen3-Embedding. `tokenizer_config.json` may name another one; it does not count.
const QWEN3_END: &str = "<|endoftext|>";

/// What ends every text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TextEnd {
    /// Whatever the tokenizer puts there.
    Tokenizer,
    /// A token, whether the tokenizer puts it there or not.
    Token {
        /// Its name.
        name: &'static str,
        /// Its id by the model's configuration; it counts where the tokenizer does not know the name.
        configured: Option<u32>,
    },
}

impl TextEnd {
    /// That of Qwen3-Embedding; `configured` is the end token's id by the model's configuration.
    pub fn qwen3(configured: Option<u32>) -> Self {
        Self::Token { name: QWEN3_END, configured }
    }
}

/// Token ids of each text by the tokenizer file at `path`, as an [`Engine`](crate::Engine) has them: special tokens included, at
/// most `max_tokens`. `rows` is the length of the model's table of tokens.
pub fn token_ids(
    path: &Path,
    texts: &[String],
    rows: usize,
    max_tokens: usize,
    end: TextEnd,
) -> Result<Vec<Vec<u32>>, EngineError> {
    let demands = Demands { rows: Some(rows), max_tokens, end };
    let tokenizer = TextTokenizer::new(path, &read_bytes(path)?, &demands, None)?;
    let tokens = tokenizer.encode(texts, max_tokens, Padding::Masked)?;
    match tokens.iter().position(|tokens| tokens.ids.is_empty()) {
        Some(index) => Err(EngineError::NoTokens { index }),
        None => Ok(tokens.into_iter().map(|tokens| tokens.ids).collect()),
    }
}

/// The tokenizer file at `path`, at most 64 MB.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, EngineError> {
    let reading = |error| EngineError::reading(path, error);
    let length = path.metadata().map_err(reading)?.len();
    if length > LARGEST {
        return Err(EngineError::tokenizer(
            path,
            format!("`{length}` bytes are more than the `{LARGEST}` that are read"),
        ));
    }
    std::fs::read(path).map_err(reading)
}

impl TextTokenizer {
    /// Reads `bytes`, the contents of `path`, and checks that it meets `demands`. Where `compiled` is given, the file of that
    /// name is mapped instead, and written first if it is not there; it has to be named after the bytes.
    pub(crate) fn new(
        path: &Path,
        bytes: &[u8],
        demands: &Demands,
        compiled: Option<&Path>,
    ) -> Result<Self, EngineError> {
        let bad = |error: tokenizers::Error| EngineError::tokenizer(path, error);
        let (mut tokenizer, largest): (Box<dyn Pipeline>, u32);
        if let Some(mapped) = compiled.and_then(|compiled| mapped(compiled, bytes)) {
            largest = mapped.largest_id();
            tokenizer = Box::new(embedbar_vocabulary::Pipeline::from(mapped));
        } else {
            let parsed = Tokenizer::from_bytes(bytes).map_err(bad)?;
            check_templates(parsed.get_post_processor()).map_err(|problem| EngineError::tokenizer(path, problem))?;
            largest = parsed.get_vocab(true).into_values().max().unwrap_or(0);
            tokenizer = Box::new(parsed.into_inner());
        }
        let pad = tokenizer.pad();
        tokenizer.read_whole().map_err(bad)?;

        if let Some(rows) = demands.rows
            && largest as usize >= rows
        {
            return Err(EngineError::TokenizerMismatch { path: path.to_path_buf(), largest, rows });
        }
        let named = |name: &str| tokenizer.id(name);
        let fits = |id: &u32| demands.rows.is_none_or(|rows| (*id as usize) < rows);
        let pads = ["[PAD]", "<pad>", "<|endoftext|>"];
        let pad = pad.or_else(|| pads.into_iter().find_map(named)).filter(fits).unwrap_or(0);

        let (prefix, mut suffix) = special_tokens(path, &*tokenizer)?;
        if let TextEnd::Token { name, configured } = demands.end
            && let Some(end) = named(name).or(configured).filter(fits)
            && suffix.last() != Some(&end)
        {
            suffix.push(end);
        }
        if prefix.len() + suffix.len() >= demands.max_tokens {
            let problem = format!(
                "it adds `{}` special tokens; the model reads `{}` tokens",
                prefix.len() + suffix.len(),
                demands.max_tokens
            );
            return Err(EngineError::tokenizer(path, problem));
        }
        Ok(Self { path: path.to_path_buf(), tokenizer, prefix, suffix, pad })
    }

    /// The id that fills a row up.
    pub(crate) fn pad(&self) -> u32 {
        self.pad
    }

    /// Tokens of each text, at most `max_tokens`.
    pub(crate) fn encode(
        &self,
        texts: &[String],
        max_tokens: usize,
        padding: Padding,
    ) -> Result<Vec<Tokens>, EngineError> {
        let bad = |error: tokenizers::Error| EngineError::tokenizer(&self.path, error);
        let encodings = if texts.len() < PARALLEL {
            texts.iter().map(|text| self.tokenizer.encode(text, false)).collect::<Result<Vec<_>, _>>()
        } else {
            self.tokenizer.encode_several(texts)
        };
        let encodings = encodings.map_err(bad)?;
        Ok(encodings.iter().map(|encoding| self.finish(encoding.get_ids(), max_tokens, padding)).collect())
    }

    fn finish(&self, text: &[u32], max_tokens: usize, padding: Padding) -> Tokens {
        let special = self.prefix.len() + self.suffix.len();
        let kept = text.len().min(max_tokens.saturating_sub(special));
        let mut ids = Vec::with_capacity(kept + special);
        ids.extend_from_slice(&self.prefix);
        ids.extend_from_slice(&text[..kept]);
        ids.extend_from_slice(&self.suffix);
        let count = ids.len();
        if let Padding::ReadUpTo(length) = padding {
            ids.resize(length.max(count), self.pad);
        }
        let truncated =
            (kept < text.len()).then_some(Truncation { total_tokens: text.len() + special, kept_tokens: count });
        Tokens { ids, count, truncated }
    }
}

/// The library's tokenizer, whatever its parts are.
trait Pipeline: Send + Sync {
    /// Tokens of a text, maybe with those that are put around it.
    fn encode(&self, text: &str, special: bool) -> tokenizers::Result<Encoding>;
    /// Tokens of each text, shared out between threads.
    fn encode_several(&self, texts: &[String]) -> tokenizers::Result<Vec<Encoding>>;
    /// The id of a token.
    fn id(&self, token: &str) -> Option<u32>;
    /// The id that fills a row up, where the file says one.
    fn pad(&self) -> Option<u32>;
    /// Neither truncates nor pads from now on.
    fn read_whole(&mut self) -> tokenizers::Result<()>;
}

impl<M, N, PT, PP, D> Pipeline for TokenizerImpl<M, N, PT, PP, D>
where
    M: Model + Send + Sync,
    N: Normalizer + Send + Sync,
    PT: PreTokenizer + Send + Sync,
    PP: PostProcessor + Send + Sync,
    D: Decoder + Send + Sync,
{
    fn encode(&self, text: &str, special: bool) -> tokenizers::Result<Encoding> {
        self.encode_fast(text, special)
    }

    fn encode_several(&self, texts: &[String]) -> tokenizers::Result<Vec<Encoding>> {
        self.encode_batch_fast(texts.iter().map(String::as_str).collect(), false)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.token_to_id(token)
    }

    fn pad(&self) -> Option<u32> {
        self.get_padding().map(|padding| padding.pad_id)
    }

    fn read_whole(&mut self) -> tokenizers::Result<()> {
        self.with_padding(None);
        self.with_truncation(None).map(drop)
    }
}

/// The name of the file that is compiled of a tokenizer; `revision` changes with its bytes.
pub(crate) fn compiled_name(revision: &str) -> String {
    format!("{revision}-{FORMAT}.vocabulary")
}

/// The tokenizer that is compiled in `path`, from `bytes` where it is not there or damaged; `None` where there is no such form
/// or no place for it.
fn mapped(path: &Path, bytes: &[u8]) -> Option<MappedTokenizer> {
    let open = || MappedTokenizer::open(Arc::new(Mapped::open(path).ok()?)).ok();
    if let Some(tokenizer) = open() {
        return Some(tokenizer);
    }
    let compiled = match embedbar_vocabulary::compile(bytes) {
        Ok(compiled) => compiled,
        Err(error @ VocabularyError::Unsupported { .. }) => {
            tracing::info!(%error, "the tokenizer is parsed at every load");
            return None;
        }
        // The library says what is wrong with it.
        Err(_) => return None,
    };
    let written = Draft::begin(path).and_then(|mut draft| {
        draft.write_all(&compiled)?;
        draft.finish()
    });
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the compiled tokenizer was not written");
    }
    open()
}

/// The tokens that the tokenizer puts before and after a text.
fn special_tokens(path: &Path, tokenizer: &dyn Pipeline) -> Result<(Vec<u32>, Vec<u32>), EngineError> {
    let encode = |text: &str, special| {
        let encoding = tokenizer.encode(text, special).map_err(|error| EngineError::tokenizer(path, error))?;
        Ok(encoding.get_ids().to_vec())
    };
    for probe in ["a", "the", "1", "."] {
        let plain: Vec<u32> = encode(probe, false)?;
        if plain.is_empty() {
            continue;
        }
        let whole: Vec<u32> = encode(probe, true)?;
        return match whole.windows(plain.len()).position(|window| window == plain) {
            Some(start) => Ok((whole[..start].to_vec(), whole[start + plain.len()..].to_vec())),
            None => Err(EngineError::tokenizer(path, "its post-processor changes the tokens of the text itself")),
        };
    }
    Err(EngineError::tokenizer(path, "it makes no tokens of ordinary words"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Words of one letter; `template` is a post-processor.
    fn tokenizer(template: &Value) -> Vec<u8> {
        json!({
            "version": "1.0",
            "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 3, "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": [
                {"id": 1, "content": "[CLS]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
                {"id": 2, "content": "[SEP]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
                {"id": 3, "content": "[PAD]", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}
            ],
            "normalizer": null,
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": template,
            "decoder": null,
            "model": {"type": "WordLevel", "unk_token": "[UNK]",
                      "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4, "b": 5, "c": 6}}
        })
        .to_string()
        .into_bytes()
    }

    fn template(before: &[&str], after: &[&str]) -> Value {
        let special = |name: &&str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        let mut single: Vec<Value> = before.iter().map(special).collect();
        single.push(json!({"Sequence": {"id": "A", "type_id": 0}}));
        single.extend(after.iter().map(special));
        json!({"type": "TemplateProcessing", "single": single,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [1], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}})
    }

    fn open(template: &Value, demands: &Demands) -> Result<TextTokenizer, EngineError> {
        TextTokenizer::new(Path::new("tokenizer.json"), &tokenizer(template), demands, None)
    }

    fn encode(tokenizer: &TextTokenizer, text: &str, max_tokens: usize) -> Tokens {
        tokenizer.encode(&[text.to_owned()], max_tokens, Padding::Masked).unwrap().remove(0)
    }

    const DEMANDS: Demands = Demands { rows: Some(7), max_tokens: 512, end: TextEnd::Tokenizer };

    #[test]
    fn the_saved_padding_and_truncation_do_not_apply() {
        let tokenizer = open(&template(&["[CLS]"], &["[SEP]"]), &DEMANDS).unwrap();
        let tokens = encode(&tokenizer, "a b c a b c", 512);
        assert_eq!(tokens.ids, [1, 4, 5, 6, 4, 5, 6, 2]);
        assert_eq!(tokens.truncated, None);
        assert_eq!(tokenizer.pad(), 3);
    }

    #[test]
    fn a_truncated_text_keeps_its_special_tokens_and_says_so() {
        let tokenizer = open(&template(&["[CLS]"], &["[SEP]"]), &DEMANDS).unwrap();
        let tokens = encode(&tokenizer, "a b c a b c", 5);
        assert_eq!(tokens.ids, [1, 4, 5, 6, 2]);
        assert_eq!(tokens.truncated, Some(Truncation { total_tokens: 8, kept_tokens: 5 }));
        assert_eq!(encode(&tokenizer, "a b c", 5).truncated, None);
    }

    #[test]
    fn an_empty_text_is_its_special_tokens() {
        let tokenizer = open(&template(&["[CLS]"], &["[SEP]"]), &DEMANDS).unwrap();
        assert_eq!(encode(&tokenizer, "", 5).ids, [1, 2]);
    }

    #[test]
    fn a_demanded_end_token_is_there_exactly_once() {
        let end =
            |name, configured| Demands { rows: Some(7), max_tokens: 512, end: TextEnd::Token { name, configured } };
        for (after, demands) in [
            (vec!["[SEP]"], end("[SEP]", None)),
            (vec![], end("[SEP]", None)),
            (vec![], end("<|endoftext|>", Some(2))),
            (vec!["[SEP]"], end("<|endoftext|>", Some(2))),
        ] {
            let tokenizer = open(&template(&[], &after), &demands).unwrap();
            assert_eq!(encode(&tokenizer, "a b", 512).ids, [4, 5, 2], "{after:?}");
            assert_eq!(encode(&tokenizer, "a b c", 2).ids, [4, 2], "{after:?}");
        }
    }

    /// The library reads each of these and panics at the first text.
    #[test]
    fn a_template_that_lacks_what_it_names_is_refused() {
        let unnamed = template(&["[CLS]", "[MASK]"], &[]);
        let mut second = template(&["[CLS]"], &[]);
        second["single"][1]["Sequence"]["id"] = json!("B");
        let good = template(&["[CLS]"], &["[SEP]"]);
        let inner = json!({"type": "Sequence", "processors": [&good]});
        let twice = json!({"type": "Sequence", "processors": [&good, inner]});
        for (template, problem) in [(&unnamed, "`[MASK]`"), (&second, "a second one"), (&twice, "several templates")] {
            let nested = json!({"type": "Sequence", "processors": [template]});
            for template in [template, &nested] {
                assert!(Tokenizer::from_bytes(tokenizer(template)).is_ok());
                let error = open(template, &DEMANDS).err().unwrap().to_string();
                assert!(error.contains(problem), "{error}");
            }
        }
    }

    #[test]
    fn many_texts_at_once_are_each_text_alone() {
        let tokenizer = open(&template(&["[CLS]"], &["[SEP]"]), &DEMANDS).unwrap();
        let texts: Vec<String> = (0..40).map(|count| "a b c ".repeat(count)).collect();
        let together = tokenizer.encode(&texts, 20, Padding::Masked).unwrap();
        for (text, tokens) in texts.iter().zip(together) {
            assert_eq!(tokens, encode(&tokenizer, text, 20));
        }
    }

    #[test]
    fn padding_that_is_read_is_part_of_the_ids_but_not_of_the_count() {
        let tokenizer = open(&template(&[], &["[SEP]"]), &DEMANDS).unwrap();
        let tokens = tokenizer.encode(&["a".to_owned()], 5, Padding::ReadUpTo(5)).unwrap().remove(0);
        assert_eq!((tokens.ids.as_slice(), tokens.count), ([4, 2, 3, 3, 3].as_slice(), 2));
    }

    #[test]
    fn a_tokenizer_with_more_tokens_than_embeddings_is_refused() {
        let demands = Demands { rows: Some(6), ..DEMANDS };
        let error = open(&template(&[], &[]), &demands).err().unwrap();
        assert!(matches!(error, EngineError::TokenizerMismatch { largest: 6, rows: 6, .. }), "{error}");
    }

    #[test]
    fn a_compiled_tokenizer_is_written_once_made_again_when_damaged_and_gives_the_same_tokens() {
        let mut json: Value = serde_json::from_slice(&tokenizer(&template(&["[CLS]"], &["[SEP]"]))).unwrap();
        json["model"] = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 20, "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4, "##b": 5, "c": 6}});
        let bytes = json.to_string().into_bytes();
        let folder = tempfile::tempdir().unwrap();
        let compiled = folder.path().join("model").join(compiled_name("revision"));
        let open = |compiled| TextTokenizer::new(Path::new("tokenizer.json"), &bytes, &DEMANDS, compiled).unwrap();
        let texts = ["a ab abb c d", "", "[SEP] a"].map(str::to_owned);
        let wanted = open(None).encode(&texts, 512, Padding::Masked).unwrap();
        assert_eq!(wanted[0].ids, [1, 4, 4, 5, 4, 5, 5, 6, 0, 2]);
        let check = || {
            let tokenizer = open(Some(&compiled));
            assert_eq!(tokenizer.encode(&texts, 512, Padding::Masked).unwrap(), wanted);
            assert_eq!(tokenizer.pad(), 3);
        };
        check();
        let (whole, written) = (std::fs::read(&compiled).unwrap(), compiled.metadata().unwrap().modified().unwrap());
        check();
        assert_eq!(compiled.metadata().unwrap().modified().unwrap(), written);
        for damaged in [&whole[..100], b"", b"something else"] {
            std::fs::write(&compiled, damaged).unwrap();
            check();
            assert_eq!(std::fs::read(&compiled).unwrap(), whole);
        }
        let few = Demands { rows: Some(6), ..DEMANDS };
        let error = TextTokenizer::new(Path::new("tokenizer.json"), &bytes, &few, Some(&compiled)).err().unwrap();
        assert!(matches!(error, EngineError::TokenizerMismatch { largest: 6, rows: 6, .. }), "{error}");
    }

    #[test]
    fn what_cannot_be_compiled_or_written_is_read_by_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "in the way").unwrap();
        // Words without pieces have no compiled form.
        for compiled in [folder.path().join("compiled"), file.join("compiled")] {
            let bytes = tokenizer(&template(&["[CLS]"], &["[SEP]"]));
            let tokenizer = TextTokenizer::new(Path::new("tokenizer.json"), &bytes, &DEMANDS, Some(&compiled)).unwrap();
            assert_eq!(encode(&tokenizer, "a b", 512).ids, [1, 4, 5, 2]);
            assert!(!compiled.exists());
        }
    }

    #[test]
    fn a_tokenizer_that_is_damaged_names_the_file() {
        let error = TextTokenizer::new(Path::new("x/tokenizer.json"), b"{\"version\"", &DEMANDS, None).err().unwrap();
        assert!(error.to_string().contains("`x/tokenizer.json`"), "{error}");
    }
}
