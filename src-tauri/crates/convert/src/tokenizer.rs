//! From `tokenizer.json` to the keys in which GGUF keeps a tokenizer, so that llama.cpp splits texts as the checkpoint does.
//!
//! Three kinds can be said there: WordPiece as BERT has it (`bert`), byte-level BPE with Qwen's pre-tokeniser (`gpt2`, `qwen2`)
//! and SentencePiece's Unigram as XLM-R has it (`t5`). A tokenizer with any other part is not written at all, because a reader
//! would split texts otherwise and give other vectors without a word; [`Inexpressible`] names the part. The
//! engine reads these keys only where no `tokenizer.json` lies beside the file; one lies beside every target.
//!
//! What llama.cpp does not know and what is written all the same, because ordinary texts do not meet it: the length from which
//! BERT gives up on a word (100 characters), Qwen's NFC before the split, the white space that an added token swallows
//! (`lstrip`, `rstrip`), and a space at the very end of a text where nothing but Metaspace splits. `tests/bench/llama_cpp.py`
//! lists the texts that come out otherwise. Two more are llama.cpp's own way with BERT's accents: it strips marks that have a
//! width (Devanagari, Tamil) and does not decompose Hangul wholly.
//!
//! The vocabulary is the one thing that the converter holds whole: XLM-R's 250,000 pieces take some 50 MB for a moment.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::gguf::Value;

/// Rows of the table of token types: llama.cpp looks for it among the tokenizer's keys.
pub(crate) const TYPE_COUNT: &str = "tokenizer.ggml.token_type_count";

/// The only split that the name `qwen2` stands for.
const QWEN_SPLIT: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// What ends every text of Qwen3-Embedding; the engine appends it where the tokenizer does not.
const QWEN_END: &str = "<|endoftext|>";
/// What marks the start of a word in llama.cpp and in SentencePiece.
const WORD_START: char = '\u{2581}';
/// The score of a row without a token; no text reaches it.
const UNUSED_SCORE: f32 = -10_000.0;

/// Why a tokenizer cannot be said in GGUF.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Inexpressible {
    /// The file is not in the form of the `tokenizers` library.
    #[error("`tokenizer.json` cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A part that GGUF has no word for.
    #[error("its {part} is `{found}`")]
    Part {
        /// What it is a part of.
        part: &'static str,
        /// What it says, shortened.
        found: String,
    },
    /// A token that is named is not in the vocabulary.
    #[error("it has no token for its {0}")]
    NoToken(&'static str),
    /// The table of embeddings has fewer rows.
    #[error("its token `{token}` has the number `{id}`; the model has embeddings for tokens below `{rows}`")]
    BeyondTable {
        /// The token.
        token: String,
        /// Its number.
        id: u32,
        /// Rows of the table.
        rows: u32,
    },
    /// Two tokens would have the same text; llama.cpp aborts on such a file.
    #[error("two of its tokens would be written as `{0}`")]
    Doubled(String),
}

impl Inexpressible {
    fn part(part: &'static str, found: &Json) -> Self {
        Self::Part { part, found: found.to_string().chars().take(120).collect() }
    }
}

/// As much of `tokenizer.json` as matters.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(rename = "pre_tokenizer", default)]
    split: Json,
    #[serde(default)]
    post_processor: Json,
    #[serde(default)]
    padding: Json,
    model: Model,
}

/// A token that is found before the model splits anything.
#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    single_word: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Json,
    vocab: Vocabulary,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    unk_id: Option<u32>,
    #[serde(default)]
    continuing_subword_prefix: Json,
    #[serde(default)]
    end_of_word_suffix: Json,
    #[serde(default)]
    dropout: Json,
    #[serde(default)]
    byte_fallback: Json,
    #[serde(default)]
    ignore_merges: Json,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary {
    Numbered(HashMap<String, u32>),
    /// In the order of their numbers, with the logarithm of their probability.
    Scored(Vec<(String, f64)>),
}

/// Newer files keep a pair, older ones a line.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// What llama.cpp calls the types of tokens.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
}

/// The tokens in the order of their numbers, one for every row of the table of embeddings.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<Kind>,
    scores: Vec<f32>,
}

/// The tokens that stand before and after every text.
struct Around {
    before: Option<u32>,
    after: Option<u32>,
}

/// The keys for the contents of `tokenizer.json`, where GGUF can say them.
///
/// `settings` is `tokenizer_config.json` (`null` where there is none); `rows` those of the table of token embeddings.
pub(crate) fn keys(bytes: &[u8], settings: &Json, rows: u32) -> Result<Vec<(String, Value)>, Inexpressible> {
    let tokenizer: Tokenizer = serde_json::from_slice(bytes)?;
    let mut keys = match tokenizer.model.kind.as_str() {
        Some("WordPiece") => word_piece(&tokenizer, rows)?,
        Some("BPE") => byte_pairs(&tokenizer, settings, rows)?,
        Some("Unigram") => unigram(&tokenizer, rows)?,
        _ => return Err(Inexpressible::part("model", &tokenizer.model.kind)),
    };
    for (key, setting, usual) in
        [("padding", "pad_token", ["[PAD]", "<pad>"]), ("mask", "mask_token", ["[MASK]", "<mask>"])]
    {
        let saved = if key == "padding" { &tokenizer.padding["pad_id"] } else { &Json::Null };
        let saved = saved.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|&id| id < rows);
        let named = named(settings, setting).and_then(|name| tokenizer.number(name));
        let found = named.or(saved).or_else(|| usual.iter().find_map(|name| tokenizer.number(name)));
        keys.extend(found.map(|id| (format!("{key}_token_id"), Value::U32(id))));
    }
    Ok(keys.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect())
}

type Keys = Vec<(String, Value)>;

fn word_piece(tokenizer: &Tokenizer, rows: u32) -> Result<Keys, Inexpressible> {
    let model = &tokenizer.model;
    only("prefix within words", &model.continuing_subword_prefix, &json!("##"))?;
    let normalizer = &tokenizer.normalizer;
    let is_berts = normalizer["type"] == "BertNormalizer"
        && normalizer["clean_text"] == true
        && normalizer["handle_chinese_chars"] == true;
    let lowercase = normalizer["lowercase"].as_bool().filter(|_| is_berts);
    let lowercase = lowercase.ok_or_else(|| Inexpressible::part("normalizer", normalizer))?;
    if tokenizer.split["type"] != "BertPreTokenizer" {
        return Err(Inexpressible::part("pre-tokeniser", &tokenizer.split));
    }
    let around = tokenizer.around()?;
    // llama.cpp puts one of each around every text, asked or not.
    let (Some(before), Some(after)) = (around.before, around.after) else {
        return Err(Inexpressible::part("post-processor", &tokenizer.post_processor));
    };
    let unknown = model.unk_token.as_deref().and_then(|name| tokenizer.number(name));
    let unknown = unknown.ok_or(Inexpressible::NoToken("unknown words"))?;
    let tokens = tokenizer.tokens(rows, |piece| match piece.strip_prefix("##") {
        Some(continuing) => continuing.to_owned(),
        None => format!("{WORD_START}{piece}"),
    })?;
    let mut keys = tokens.keys("bert", "default");
    keys.extend(numbers([
        ("bos", Some(before)),
        ("eos", Some(after)),
        ("unknown", Some(unknown)),
        ("seperator", Some(after)),
        ("cls", Some(before)),
    ]));
    // The separator is what ends a text; an end token would stand behind it.
    keys.extend(flags([
        ("add_bos_token", true),
        ("add_eos_token", false),
        ("add_sep_token", true),
        ("add_space_prefix", false),
        ("normalizer.lowercase", lowercase),
        ("normalizer.strip_accents", normalizer["strip_accents"].as_bool().unwrap_or(lowercase)),
    ]));
    Ok(keys)
}

fn byte_pairs(tokenizer: &Tokenizer, settings: &Json, rows: u32) -> Result<Keys, Inexpressible> {
    let model = &tokenizer.model;
    only("prefix within words", &model.continuing_subword_prefix, &json!(""))?;
    only("suffix at the end of words", &model.end_of_word_suffix, &json!(""))?;
    only("dropout", &model.dropout, &Json::Null)?;
    only("fallback to bytes", &model.byte_fallback, &json!(false))?;
    only("passing over of merges", &model.ignore_merges, &json!(false))?;
    let normalizer = &tokenizer.normalizer;
    if !normalizer.is_null() && normalizer["type"] != "NFC" {
        return Err(Inexpressible::part("normalizer", normalizer));
    }
    let parts = &tokenizer.split["pretokenizers"];
    let is_qwens = tokenizer.split["type"] == "Sequence"
        && parts.as_array().is_some_and(|parts| parts.len() == 2)
        && parts[0]["type"] == "Split"
        && parts[0]["pattern"]["Regex"] == QWEN_SPLIT
        && parts[0]["behavior"] == "Isolated"
        && parts[0]["invert"] == false
        && parts[1]["type"] == "ByteLevel"
        && parts[1]["add_prefix_space"] == false
        && parts[1]["use_regex"] == false;
    if !is_qwens {
        return Err(Inexpressible::part("pre-tokeniser", &tokenizer.split));
    }
    let around = tokenizer.around()?;
    let before = around.before;
    let after = around.after.or_else(|| tokenizer.number(QWEN_END));
    let tokens = tokenizer.tokens(rows, str::to_owned)?;
    let mut keys = tokens.keys("gpt2", "qwen2");
    let merge = |merge: &Merge| match merge {
        Merge::Pair(left, right) => format!("{left} {right}"),
        Merge::Line(line) => line.clone(),
    };
    keys.push(("merges".to_owned(), Value::Texts(model.merges.iter().map(merge).collect())));
    let bos = before.or_else(|| named(settings, "bos_token").and_then(|name| tokenizer.number(name)));
    keys.extend(numbers([("bos", bos), ("eos", after)]));
    keys.extend(flags([
        ("add_bos_token", before.is_some()),
        ("add_eos_token", after.is_some()),
        ("add_space_prefix", false),
    ]));
    Ok(keys)
}

fn unigram(tokenizer: &Tokenizer, rows: u32) -> Result<Keys, Inexpressible> {
    let model = &tokenizer.model;
    only("fallback to bytes", &model.byte_fallback, &json!(false))?;
    let charsmap = charsmap(&tokenizer.normalizer)?;
    let metaspace = metaspace(&tokenizer.split);
    // Older files say `add_prefix_space`, newer ones when to add it.
    let is_sentencepieces = metaspace.is_some_and(|metaspace| {
        metaspace["replacement"] == WORD_START.to_string()
            && metaspace.get("add_prefix_space").is_none_or(|add| add == true)
            && metaspace.get("prepend_scheme").is_none_or(|when| when == "always")
    });
    if !is_sentencepieces {
        return Err(Inexpressible::part("pre-tokeniser", &tokenizer.split));
    }
    let around = tokenizer.around()?;
    let unknown = model.unk_id.ok_or(Inexpressible::NoToken("unknown characters"))?;
    let mut tokens = tokenizer.tokens(rows, str::to_owned)?;
    *tokens.kinds.get_mut(unknown as usize).ok_or(Inexpressible::NoToken("unknown characters"))? = Kind::Unknown;
    let mut keys = tokens.keys("t5", "default");
    keys.push(("scores".to_owned(), Value::F32s(tokens.scores)));
    keys.extend(numbers([
        ("bos", around.before),
        ("eos", around.after),
        ("unknown", Some(unknown)),
        ("seperator", around.after),
        ("cls", around.before),
    ]));
    keys.extend(flags([
        ("add_bos_token", around.before.is_some()),
        ("add_eos_token", around.after.is_some()),
        // Between two texts, which only rerankers read.
        ("add_sep_token", around.after.is_some()),
        ("add_space_prefix", true),
        ("remove_extra_whitespaces", true),
    ]));
    keys.extend(charsmap.map(|bytes| ("precompiled_charsmap".to_owned(), Value::Bytes(bytes))));
    Ok(keys)
}

/// SentencePiece's compiled normalisation, where there is one.
fn charsmap(normalizer: &Json) -> Result<Option<Vec<u8>>, Inexpressible> {
    let refused = || Inexpressible::part("normalizer", normalizer);
    let parts = match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"].as_array().ok_or_else(refused)?.as_slice(),
        Some(_) => std::slice::from_ref(normalizer),
        None if normalizer.is_null() => &[],
        None => return Err(refused()),
    };
    let mut found = None;
    for part in parts {
        match part["type"].as_str() {
            Some("Precompiled") if found.is_none() => {
                let bytes = part["precompiled_charsmap"].as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
                found = Some(bytes.filter(|bytes| is_charsmap(bytes)).ok_or_else(refused)?);
            }
            // What removing extra white space does as well.
            Some("Replace") if part["pattern"]["Regex"] == " {2,}" && part["content"] == " " => {}
            Some("Strip") => {}
            _ => return Err(refused()),
        }
    }
    Ok(found)
}

/// Whether llama.cpp's own check lets it pass: the length of the table of prefixes, that table, and replacements after it.
fn is_charsmap(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|length| (u32::from_le_bytes(*length) as usize) < bytes.len() - length.len())
}

fn metaspace(pre_tokenizer: &Json) -> Option<&Json> {
    match pre_tokenizer["type"].as_str()? {
        "Metaspace" => Some(pre_tokenizer),
        "Sequence" => match pre_tokenizer["pretokenizers"].as_array()?.as_slice() {
            [split, metaspace] if split["type"] == "WhitespaceSplit" && metaspace["type"] == "Metaspace" => {
                Some(metaspace)
            }
            _ => None,
        },
        _ => None,
    }
}

/// A token that `tokenizer_config.json` names, as a text or as an object that has it as its content.
fn named<'a>(settings: &'a Json, key: &str) -> Option<&'a str> {
    let value = settings.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn numbers<const N: usize>(numbers: [(&str, Option<u32>); N]) -> impl Iterator<Item = (String, Value)> {
    numbers.map(|(key, id)| Some((format!("{key}_token_id"), Value::U32(id?)))).into_iter().flatten()
}

fn flags<const N: usize>(flags: [(&str, bool); N]) -> impl Iterator<Item = (String, Value)> {
    flags.map(|(key, truth)| (key.to_owned(), Value::Bool(truth))).into_iter()
}

/// Refuses a part that is there and is not `wanted`.
fn only(part: &'static str, found: &Json, wanted: &Json) -> Result<(), Inexpressible> {
    if found.is_null() || found == wanted { Ok(()) } else { Err(Inexpressible::part(part, found)) }
}

impl Tokenizer {
    /// The number of a token.
    fn number(&self, text: &str) -> Option<u32> {
        let added = self.added_tokens.iter().find(|added| added.content == text).map(|added| added.id);
        added.or_else(|| match &self.model.vocab {
            Vocabulary::Numbered(numbers) => numbers.get(text).copied(),
            Vocabulary::Scored(pieces) => pieces.iter().position(|(piece, _)| piece == text).map(|id| id as u32),
        })
    }

    /// All tokens; `write` gives a piece of the model its form in GGUF.
    fn tokens(&self, rows: u32, write: impl Fn(&str) -> String) -> Result<Tokens, Inexpressible> {
        let mut tokens = Tokens {
            texts: (0..rows).map(|id| format!("[PAD{id}]")).collect(),
            kinds: vec![Kind::Unused; rows as usize],
            scores: vec![UNUSED_SCORE; rows as usize],
        };
        let pieces: &mut dyn Iterator<Item = (&String, u32, f32)> = match &self.model.vocab {
            Vocabulary::Numbered(numbers) => &mut numbers.iter().map(|(piece, &id)| (piece, id, 0.0)),
            Vocabulary::Scored(pieces) => {
                &mut pieces.iter().zip(0..).map(|((piece, score), id)| (piece, id, *score as f32))
            }
        };
        for (piece, id, score) in pieces {
            tokens.place(id, piece, write(piece), Kind::Normal)?;
            tokens.scores[id as usize] = score;
        }
        for added in &self.added_tokens {
            if added.single_word {
                let found = json!({"content": added.content, "single_word": true});
                return Err(Inexpressible::part("added token", &found));
            }
            let kind = if added.special { Kind::Control } else { Kind::UserDefined };
            tokens.place(added.id, &added.content, added.content.clone(), kind)?;
        }
        let mut met = HashSet::with_capacity(tokens.texts.len());
        match tokens.texts.iter().find(|text| !met.insert(text.as_str())) {
            Some(text) => Err(Inexpressible::Doubled(text.clone())),
            None => Ok(tokens),
        }
    }

    /// What the post-processor puts around a text.
    fn around(&self) -> Result<Around, Inexpressible> {
        let whole = &self.post_processor;
        let refused = || Inexpressible::part("post-processor", whole);
        let parts = match whole["type"].as_str() {
            Some("Sequence") => whole["processors"].as_array().ok_or_else(refused)?.as_slice(),
            _ => std::slice::from_ref(whole),
        };
        // Only the offsets in the text differ by it.
        let mut others = parts.iter().filter(|part| !part.is_null() && part["type"] != "ByteLevel");
        let Some(processor) = others.next() else { return Ok(Around { before: None, after: None }) };
        let id = |value: &Json| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(refused);
        let around = match processor["type"].as_str() {
            Some("BertProcessing" | "RobertaProcessing") => {
                Around { before: Some(id(&processor["cls"][1])?), after: Some(id(&processor["sep"][1])?) }
            }
            Some("TemplateProcessing") => {
                let (mut before, mut after, mut text) = (Vec::new(), Vec::new(), 0);
                for piece in processor["single"].as_array().ok_or_else(refused)? {
                    if piece.get("Sequence").is_some() {
                        text += 1;
                        continue;
                    }
                    let name = piece["SpecialToken"]["id"].as_str().ok_or_else(refused)?;
                    let ids = processor["special_tokens"][name]["ids"].as_array().ok_or_else(refused)?;
                    let side = if text == 0 { &mut before } else { &mut after };
                    side.extend(ids.iter().map(id).collect::<Result<Vec<_>, _>>()?);
                }
                if text != 1 || before.len() > 1 || after.len() > 1 {
                    return Err(refused());
                }
                Around { before: before.pop(), after: after.pop() }
            }
            _ => return Err(refused()),
        };
        if others.next().is_some() { Err(refused()) } else { Ok(around) }
    }
}

impl Tokens {
    fn place(&mut self, id: u32, token: &str, text: String, kind: Kind) -> Result<(), Inexpressible> {
        let rows = self.texts.len() as u32;
        let Some(place) = self.texts.get_mut(id as usize) else {
            return Err(Inexpressible::BeyondTable { token: token.to_owned(), id, rows });
        };
        *place = text;
        self.kinds[id as usize] = kind;
        Ok(())
    }

    fn keys(&self, model: &str, pre_tokenizer: &str) -> Keys {
        vec![
            ("model".to_owned(), Value::Text(model.to_owned())),
            ("pre".to_owned(), Value::Text(pre_tokenizer.to_owned())),
            ("tokens".to_owned(), Value::Texts(self.texts.clone())),
            ("token_type".to_owned(), Value::I32s(self.kinds.iter().map(|&kind| kind as i32).collect())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A file of a small checkpoint that other libraries wrote (`tests/truth`).
    fn committed(name: &str, file: &str) -> Vec<u8> {
        let truth = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/truth");
        fs::read(truth.join(name).join(file)).expect("it is committed")
    }

    fn parsed(name: &str) -> Json {
        serde_json::from_slice(&committed(name, "tokenizer.json")).expect("it is JSON")
    }

    fn written(tokenizer: &Json, rows: u32) -> Result<HashMap<String, Value>, Inexpressible> {
        keys(tokenizer.to_string().as_bytes(), &Json::Null, rows).map(|keys| keys.into_iter().collect())
    }

    fn of_checkpoint(name: &str, rows: u32) -> HashMap<String, Value> {
        let settings = serde_json::from_slice(&committed(name, "tokenizer_config.json")).expect("it is JSON");
        let keys = keys(&committed(name, "tokenizer.json"), &settings, rows).expect("it can be said");
        keys.into_iter().map(|(key, value)| (key.replace("tokenizer.ggml.", ""), value)).collect()
    }

    fn texts<'a>(keys: &'a HashMap<String, Value>, key: &str) -> &'a [String] {
        let Value::Texts(texts) = &keys[key] else { panic!("{key} are texts") };
        texts
    }

    fn types(keys: &HashMap<String, Value>) -> &[i32] {
        let Value::I32s(types) = &keys["token_type"] else { panic!("types are numbers") };
        types
    }

    fn ids(keys: &HashMap<String, Value>) -> Vec<(&str, u32)> {
        let mut ids: Vec<(&str, u32)> = keys
            .iter()
            .filter_map(|(key, value)| match value {
                Value::U32(id) => Some((key.trim_end_matches("_token_id"), *id)),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_word_piece_marks_where_words_start_and_keeps_special_tokens() {
        let keys = of_checkpoint("bert-small", 1000);
        assert_eq!(keys["model"], Value::Text("bert".into()));
        let vocabulary = &parsed("bert-small")["model"]["vocab"];
        for (piece, id) in vocabulary.as_object().expect("a map") {
            let id = id.as_u64().expect("a number") as usize;
            let wanted = match (id < 5, piece.strip_prefix("##")) {
                (true, _) => piece.clone(),
                (_, Some(continuing)) => continuing.to_owned(),
                _ => format!("\u{2581}{piece}"),
            };
            assert_eq!((&texts(&keys, "tokens")[id], types(&keys)[id]), (&wanted, if id < 5 { 3 } else { 1 }));
        }
        let wanted =
            [("bos", 2), ("cls", 2), ("eos", 3), ("mask", 4), ("padding", 0), ("seperator", 3), ("unknown", 1)];
        assert_eq!(ids(&keys), wanted);
        for (key, wanted) in
            [("normalizer.lowercase", true), ("normalizer.strip_accents", true), ("add_sep_token", true)]
        {
            assert_eq!(keys[key], Value::Bool(wanted), "{key}");
        }
    }

    #[test]
    fn byte_pairs_bring_their_merges_added_tokens_and_end() {
        let keys = of_checkpoint("qwen3-small", 2048);
        assert_eq!((&keys["model"], &keys["pre"]), (&Value::Text("gpt2".into()), &Value::Text("qwen2".into())));
        let merges = &parsed("qwen3-small")["model"]["merges"];
        assert_eq!(texts(&keys, "merges").len(), merges.as_array().expect("a list").len());
        assert_eq!(texts(&keys, "merges")[0], "\u{120} t");
        let tokens = texts(&keys, "tokens");
        assert_eq!(
            [&tokens[2000], &tokens[2014], &tokens[2026], &tokens[2047]].map(String::as_str),
            ["<|endoftext|>", "<tool_call>", "[PAD2026]", "[PAD2047]"]
        );
        assert_eq!([1999, 2000, 2014, 2026].map(|id: usize| types(&keys)[id]), [1, 3, 4, 5]);
        assert_eq!(ids(&keys), [("eos", 2000), ("padding", 2000)]);
        assert_eq!(keys["add_eos_token"], Value::Bool(true));
        assert_eq!(keys["add_bos_token"], Value::Bool(false));
    }

    #[test]
    fn a_qwen_whose_tokenizer_adds_no_end_token_gets_the_one_that_the_engine_adds() {
        let mut tokenizer = parsed("qwen3-small");
        tokenizer["post_processor"] = json!({"type": "ByteLevel"});
        // As older files write merges.
        let merges = tokenizer["model"]["merges"].as_array_mut().expect("a list");
        for merge in merges.iter_mut() {
            *merge = json!(format!("{} {}", merge[0].as_str().expect("a text"), merge[1].as_str().expect("a text")));
        }
        let old = written(&tokenizer, 2048).expect("it can be said");
        assert_eq!(old, written(&parsed("qwen3-small"), 2048).expect("it can be said"));
    }

    #[test]
    fn unigram_brings_its_scores_and_its_normalisation() {
        let keys = of_checkpoint("xlm-roberta-small", 2048);
        assert_eq!(keys["model"], Value::Text("t5".into()));
        let Value::F32s(scores) = &keys["scores"] else { panic!("scores are numbers") };
        let tokenizer = parsed("xlm-roberta-small");
        let pieces = tokenizer["model"]["vocab"].as_array().expect("a list");
        for (id, piece) in pieces.iter().enumerate() {
            assert_eq!(texts(&keys, "tokens")[id], piece[0].as_str().expect("a text"));
            assert_eq!(scores[id].to_bits(), (piece[1].as_f64().expect("a number") as f32).to_bits());
        }
        let mask = pieces.len() - 1;
        assert_eq!([0, 1, 2, 3, 4, mask, mask + 1].map(|id| types(&keys)[id]), [3, 3, 3, 2, 1, 3, 5]);
        assert!(scores[mask + 1] < -9_999.0);
        let wanted = [
            ("bos", 0),
            ("cls", 0),
            ("eos", 2),
            ("mask", mask as u32),
            ("padding", 1),
            ("seperator", 2),
            ("unknown", 3),
        ];
        assert_eq!(ids(&keys), wanted);
        for key in ["add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"] {
            assert_eq!(keys[key], Value::Bool(true), "{key}");
        }
        let Value::Bytes(charsmap) = &keys["precompiled_charsmap"] else { panic!("the map is bytes") };
        let text = tokenizer["normalizer"]["precompiled_charsmap"].as_str().expect("a text");
        assert_eq!(BASE64_STANDARD.encode(charsmap), text);
    }

    #[test]
    fn older_and_newer_forms_of_the_same_parts_are_the_same() {
        let plain = written(&parsed("xlm-roberta-small"), 2048).expect("it can be said");
        let mut changed = parsed("xlm-roberta-small");
        let spaces = json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "});
        changed["normalizer"] = json!({"type": "Sequence", "normalizers": [changed["normalizer"], spaces]});
        changed["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "\u{2581}", "add_prefix_space": true});
        changed["post_processor"] = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
            "trim_offsets": true, "add_prefix_space": true});
        assert!(written(&changed, 2048).expect("it can be said") == plain);
        let plain = written(&parsed("bert-small"), 1000).expect("it can be said");
        let mut changed = parsed("bert-small");
        changed["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]});
        assert!(written(&changed, 1000).expect("it can be said") == plain);
    }

    #[test]
    fn a_cased_vocabulary_says_so() {
        let mut tokenizer = parsed("bert-small");
        tokenizer["normalizer"]["lowercase"] = json!(false);
        let keys = written(&tokenizer, 1000).expect("it can be said");
        for key in ["lowercase", "strip_accents"] {
            assert_eq!(keys[&format!("tokenizer.ggml.normalizer.{key}")], Value::Bool(false));
        }
    }

    #[test]
    fn a_part_that_cannot_be_said_is_named() {
        type Change = fn(&mut Json);
        let cases: [(&str, Change, &str); 12] = [
            ("bert-small", |it| it["normalizer"] = Json::Null, "its normalizer is `null`"),
            ("bert-small", |it| it["normalizer"]["handle_chinese_chars"] = json!(false), "its normalizer is"),
            (
                "bert-small",
                |it| it["pre_tokenizer"] = json!({"type": "Whitespace"}),
                "pre-tokeniser is `{\"type\":\"Whites",
            ),
            ("bert-small", |it| it["post_processor"] = Json::Null, "its post-processor is `null`"),
            ("bert-small", |it| it["model"]["type"] = json!("WordLevel"), "its model is `\"WordLevel\"`"),
            ("bert-small", |it| it["model"]["unk_token"] = json!("[NONE]"), "no token for its unknown words"),
            (
                "qwen3-small",
                |it| it["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("x"),
                "pre-tokeniser",
            ),
            (
                "qwen3-small",
                |it| it["normalizer"] = json!({"type": "Lowercase"}),
                "normalizer is `{\"type\":\"Lowercase\"}`",
            ),
            ("qwen3-small", |it| it["model"]["ignore_merges"] = json!(true), "its passing over of merges is `true`"),
            ("xlm-roberta-small", |it| it["model"]["byte_fallback"] = json!(true), "its fallback to bytes is `true`"),
            ("xlm-roberta-small", |it| it["normalizer"]["precompiled_charsmap"] = json!("AAAA"), "its normalizer is"),
            ("xlm-roberta-small", |it| it["added_tokens"][0]["single_word"] = json!(true), "its added token is"),
        ];
        for (name, change, wanted) in cases {
            let mut tokenizer = parsed(name);
            change(&mut tokenizer);
            let reason = written(&tokenizer, 2048).expect_err(wanted).to_string();
            assert!(reason.contains(wanted), "{reason}");
        }
    }

    #[test]
    fn tokens_beyond_the_table_and_doubled_ones_are_not_written() {
        let reason = written(&parsed("bert-small"), 999).expect_err("there is one too many").to_string();
        assert!(reason.contains("`999`; the model has embeddings for tokens below `999`"), "{reason}");
        let mut doubled = parsed("bert-small");
        let vocabulary = doubled["model"]["vocab"].as_object_mut().expect("a map");
        vocabulary.insert("ab".to_owned(), json!(1000));
        vocabulary.insert("##\u{2581}ab".to_owned(), json!(1001));
        let reason = written(&doubled, 1002).expect_err("both are written with the mark").to_string();
        assert!(reason.contains("`\u{2581}ab`"), "{reason}");
        let reason = written(&json!({"version": "1.0"}), 1).expect_err("it has no model").to_string();
        assert!(reason.contains("model"), "{reason}");
    }
}
