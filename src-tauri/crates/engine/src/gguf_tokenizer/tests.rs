//! Tokenizers in files that candle wrote, sound and damaged ones.

use candle_core::quantized::gguf_file::{self, Value};
use proptest::prelude::*;
use serde_json::Value as Json;
use tokenizers::Tokenizer;

use super::*;

fn texts<T: AsRef<str>>(texts: &[T]) -> Value {
    Value::Array(texts.iter().map(|text| Value::String(text.as_ref().to_owned())).collect())
}

fn types(types: &[i32]) -> Value {
    Value::Array(types.iter().map(|&kind| Value::I32(kind)).collect())
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

type Keys = Vec<(&'static str, Value)>;

/// A file without tensors, by candle's writer.
fn file(keys: &Keys) -> Vec<u8> {
    let named: Vec<(String, &Value)> =
        keys.iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect();
    let named: Vec<(&str, &Value)> = named.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &named, &[]).unwrap();
    bytes.into_inner()
}

fn built(keys: &Keys) -> Result<Option<String>, EngineError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    std::fs::write(&path, file(keys)).unwrap();
    tokenizer_json(&path)
}

fn tokenizer(keys: &Keys) -> Tokenizer {
    Tokenizer::from_bytes(built(keys).unwrap().unwrap()).unwrap()
}

fn ids(keys: &Keys, text: &str) -> Vec<u32> {
    tokenizer(keys).encode(text, true).unwrap().get_ids().to_vec()
}

fn refused(keys: &Keys) -> String {
    let error = built(keys).unwrap_err();
    assert!(matches!(error, EngineError::BadTokenizer { .. }), "{error}");
    error.to_string()
}

/// `keys` with `key` replaced or added.
fn with(mut keys: Keys, key: &'static str, value: Value) -> Keys {
    keys.retain(|(found, _)| *found != key);
    keys.push((key, value));
    keys
}

fn without(mut keys: Keys, key: &str) -> Keys {
    keys.retain(|(found, _)| *found != key);
    keys
}

fn bert() -> Keys {
    vec![
        ("model", text("bert")),
        ("pre", text("jina-v2-en")),
        ("tokens", texts(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁word", "s", "▁.", "▁[PAD7]"])),
        ("token_type", types(&[3, 3, 3, 3, 1, 1, 1, 5])),
        ("bos_token_id", Value::U32(2)),
        ("eos_token_id", Value::U32(3)),
        ("seperator_token_id", Value::U32(3)),
        ("unknown_token_id", Value::U32(1)),
        ("padding_token_id", Value::U32(0)),
    ]
}

fn qwen() -> Keys {
    vec![
        ("model", text("gpt2")),
        ("pre", text("qwen2")),
        ("tokens", texts(&["a", "b", "Ġ", "ab", "Ġab", "<|endoftext|>", "<|im_end|>", "<think>", "[PAD8]"])),
        ("token_type", types(&[1, 1, 1, 1, 1, 3, 3, 4, 4])),
        ("merges", texts(&["a b", "Ġ ab"])),
        ("eos_token_id", Value::U32(5)),
        ("padding_token_id", Value::U32(5)),
        ("add_eos_token", Value::Bool(true)),
    ]
}

fn xlm_r() -> Keys {
    let scores = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -9.0, -1e4, -4.0, -1e4_f32].map(Value::F32).to_vec();
    vec![
        ("model", text("t5")),
        ("tokens", texts(&["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "▁", "[PAD7]", "▁ab", "[PAD9]"])),
        ("token_type", types(&[3, 3, 3, 2, 1, 1, 1, 5, 1, 5])),
        ("scores", Value::Array(scores)),
        ("bos_token_id", Value::U32(0)),
        ("eos_token_id", Value::U32(2)),
        ("padding_token_id", Value::U32(1)),
        ("mask_token_id", Value::U32(9)),
    ]
}

#[test]
fn word_pieces_are_put_together_again() {
    assert_eq!(ids(&bert(), "Words WÓRD. x [SEP]"), [2, 4, 5, 4, 6, 1, 3, 3]);
    let vocabulary = tokenizer(&bert()).get_vocab(true);
    assert_eq!(vocabulary.len(), 7, "the row without a token is none: {vocabulary:?}");
    assert_eq!(vocabulary["##s"], 5);
    // As older converters wrote them: everything in brackets as it is, types lacking, no word on what stands around a text.
    let old = with(bert(), "tokens", texts(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁word", "s", "▁.", "[unused0]"]));
    let old = without(with(old, "cls_token_id", Value::U32(2)), "bos_token_id");
    let old = without(old, "token_type");
    assert_eq!(ids(&old, "Words WÓRD. x [SEP]"), [2, 4, 5, 4, 6, 1, 3, 3]);
    assert_eq!(tokenizer(&old).token_to_id("[unused0]"), Some(7));
}

#[test]
fn capitals_are_kept_where_the_file_says_so_or_the_vocabulary_has_some() {
    let lowers = |keys: &Keys| {
        let json: Json = serde_json::from_str(&built(keys).unwrap().unwrap()).unwrap();
        (json["normalizer"]["lowercase"].clone(), json["normalizer"]["strip_accents"].clone())
    };
    assert_eq!(lowers(&bert()), (true.into(), Json::Null));
    let cased = with(bert(), "tokens", texts(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁Word", "s", "▁.", "▁[PAD7]"]));
    assert_eq!(lowers(&cased), (false.into(), Json::Null));
    assert_eq!(lowers(&with(cased, "normalizer.lowercase", Value::Bool(true))), (true.into(), Json::Null));
    let accents = with(bert(), "normalizer.strip_accents", Value::Bool(false));
    assert_eq!(lowers(&accents), (true.into(), false.into()));
}

#[test]
fn byte_pairs_end_as_the_file_says() {
    assert_eq!(ids(&qwen(), "ab ab<think>"), [3, 4, 7, 5]);
    assert_eq!(tokenizer(&qwen()).get_padding().map(|padding| padding.pad_id), Some(5));
    assert!(tokenizer(&qwen()).token_to_id("[PAD8]").is_none());
    assert_eq!(ids(&with(qwen(), "add_eos_token", Value::Bool(false)), "ab"), [3]);
    assert_eq!(ids(&without(qwen(), "add_eos_token"), "ab"), [3]);
    // An end of a chat's turn is never what ends a text that is embedded.
    assert_eq!(ids(&with(qwen(), "eos_token_id", Value::U32(6)), "ab"), [3, 5]);
    let both = with(with(qwen(), "add_bos_token", Value::Bool(true)), "bos_token_id", Value::U32(6));
    assert_eq!(ids(&both, "ab"), [6, 3, 5]);
    // Composed before it is split, which the converters leave out.
    let composed = with(qwen(), "tokens", texts(&["Ã", "ī", "Ģ", "Ãī", "e", "<|endoftext|>", "i", "j", "k"]));
    let composed = with(composed, "merges", texts(&["Ã ī"]));
    assert_eq!(ids(&composed, "E\u{301}"), [3, 5]);
}

#[test]
fn unigram_splits_marked_words_by_their_scores() {
    assert_eq!(ids(&xlm_r(), "ab  b\na <mask>"), [0, 8, 6, 5, 4, 9, 2]);
    // What has no token changes neither ids nor what an unknown character costs.
    let scores: Json = serde_json::from_str(&built(&xlm_r()).unwrap().unwrap()).unwrap();
    assert_eq!(scores["model"]["vocab"][7], serde_json::json!(["\0[PAD7]", -9.0]));
    assert_eq!(ids(&without(xlm_r(), "mask_token_id"), "a [PAD7]").last(), Some(&2));
    assert!(!ids(&xlm_r(), "a [PAD7]").contains(&7));
    assert_eq!(ids(&with(xlm_r(), "add_bos_token", Value::Bool(false)), "a"), [4, 2]);
}

#[test]
fn a_file_without_a_tokenizer_has_none() {
    assert!(built(&vec![]).unwrap().is_none());
    assert!(built(&vec![("model", text("none"))]).unwrap().is_none());
}

#[test]
fn what_is_not_known_or_does_not_add_up_is_refused_with_a_sentence() {
    let long = "x".repeat(20_000);
    let cases = [
        (with(bert(), "model", text("llama")), "its kind is `llama`"),
        (with(qwen(), "pre", text("llama-bpe")), "the way `llama-bpe`"),
        (without(qwen(), "pre"), "the way `default`"),
        (without(bert(), "tokens"), "has no tokens"),
        (with(bert(), "tokens", texts(&[long.as_str()])), "has a text of `20000` bytes"),
        (with(bert(), "tokens", types(&[1])), "is a list of the type `5`"),
        (with(bert(), "token_type", types(&[1, 2])), "has `2` items, and there are `8` tokens"),
        (with(bert(), "token_type", types(&[1, 1, 1, 1, 1, 1, 1, 9])), "has the type `9`"),
        (with(bert(), "bos_token_id", Value::U32(8)), "is `8`, and there are `8` tokens"),
        (with(bert(), "unknown_token_id", Value::I32(-5)), "is `-5`"),
        (with(bert(), "unknown_token_id", Value::U32(7)), "`tokenizer.ggml.unknown_token_id` is missing"),
        (
            with(bert(), "tokens", texts(&["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁word", "s", "▁##s", "▁x"])),
            "two of its tokens are `##s`",
        ),
        (
            with(bert(), "tokens", texts(&["<s>", "<pad>", "</s>", "<unk>", "▁▁the", "▁▁a", "▁b", "▁▁c"])),
            "are SentencePiece's",
        ),
        (with(qwen(), "merges", texts(&["a c"])), "its merge `a c`"),
        (with(qwen(), "merges", texts(&["b a"])), "its merge `b a`"),
        (with(qwen(), "merges", texts(&["ab"])), "its merge `ab`"),
        (with(qwen(), "merges", texts(&[""])), "its merge ``"),
        (without(qwen(), "merges"), "`tokenizer.ggml.merges` is missing"),
        (without(qwen(), "eos_token_id"), "`tokenizer.ggml.eos_token_id` is missing"),
        (without(xlm_r(), "scores"), "`tokenizer.ggml.scores` is missing"),
        (with(xlm_r(), "scores", Value::Array(vec![Value::F32(f32::NAN); 10])), "has `NaN` at `0`"),
        (with(xlm_r(), "scores", Value::Array(vec![Value::F32(0.0); 9])), "has `9` items"),
        (with(xlm_r(), "add_space_prefix", Value::Bool(false)), "words would have no mark"),
        (with(xlm_r(), "precompiled_charsmap", Value::Array(vec![Value::U8(4); 3])), "is too short"),
    ];
    for (keys, wanted) in cases {
        let message = refused(&keys);
        assert!(message.contains(wanted), "{wanted}: {message}");
    }
}

/// SentencePiece's own map, from a tokenizer that is committed.
fn charsmap() -> Vec<u8> {
    use base64::Engine as _;
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../../tests/truth/xlm-roberta-small/tokenizer.json");
    let json: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let map = json["normalizer"]["precompiled_charsmap"].as_str().unwrap();
    base64::prelude::BASE64_STANDARD.decode(map).unwrap()
}

fn normalise(map: &[u8], texts: &[String]) {
    use base64::Engine as _;
    let json = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": base64::prelude::BASE64_STANDARD.encode(map)});
    let normalizer: tokenizers::NormalizerWrapper = serde_json::from_value(json).unwrap();
    for text in texts {
        let mut text = tokenizers::NormalizedString::from(text.as_str());
        tokenizers::Normalizer::normalize(&normalizer, &mut text).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_makes_it_panic(kind in 0_usize..3, place in 0_usize..1_000, value in any::<u8>()) {
        let mut bytes = file(&[bert(), qwen(), xlm_r()][kind].clone());
        let place = place % bytes.len();
        bytes[place] = value;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        std::fs::write(&path, bytes).unwrap();
        if let Ok(Some(text)) = tokenizer_json(&path)
            && let Ok(tokenizer) = Tokenizer::from_bytes(text)
        {
            let _ = tokenizer.encode("ab Words <mask> \u{fdfa}", true);
        }
    }

    /// A map that is let through leads the library's walk nowhere, whatever the texts.
    #[test]
    fn a_damaged_map_is_refused_or_harmless(
        damage in prop::collection::vec((0_usize..300_000, any::<u32>()), 0..40),
        texts in prop::collection::vec(any::<String>(), 4),
    ) {
        let mut map = charsmap();
        for (place, value) in damage {
            let place = place % (map.len() - 4);
            // Mostly within the units, and now and then in the replacements or the length.
            map[place..place + 4].copy_from_slice(&value.to_le_bytes());
        }
        if charsmap::check(&map).is_ok() {
            normalise(&map, &texts);
        }
    }

    /// Small tables of any units, in which nearly every walk gets somewhere.
    #[test]
    fn a_small_map_is_refused_or_harmless(
        units in prop::collection::vec((0_u32..4, any::<u8>(), any::<bool>(), 0_u32..1024), 256..=256),
        texts in prop::collection::vec("[ -~]{0,8}", 4),
    ) {
        let mut map = 1024_u32.to_le_bytes().to_vec();
        for (kind, label, leaf, offset) in units {
            let unit = if kind == 0 { (1 << 31) | (offset & 15) } else { ((offset % 256) << 10) | (u32::from(leaf) << 8) | u32::from(label) };
            map.extend(unit.to_le_bytes());
        }
        map.extend_from_slice("abc\0é\0defgh\0ijkl".as_bytes());
        if charsmap::check(&map).is_ok() {
            normalise(&map, &texts);
        }
    }
}

#[test]
fn the_real_map_passes() {
    assert_eq!(charsmap::check(&charsmap()), Ok(()));
}
