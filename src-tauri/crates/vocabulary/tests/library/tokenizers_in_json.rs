//! The tokenizers and the texts that the tests compare with.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer};

const QWEN_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../..").join(path)
}

/// The tokenizer of the model that the app brings: WordPiece with 30,522 tokens.
pub(crate) fn bundled() -> Vec<u8> {
    std::fs::read(repository("models/bundled/tokenizer.json")).unwrap()
}

/// Prose, Rust, TOML, and a few lines of what the repository has none of.
pub(crate) fn texts() -> Vec<String> {
    let files =
        ["README.md", "Cargo.toml", "src-tauri/crates/engine/src/tokens.rs", "src-tauri/xtask/src/architecture.rs"];
    let mut texts: Vec<String> = files.iter().map(|file| std::fs::read_to_string(repository(file)).unwrap()).collect();
    let lines = [
        "",
        " ",
        "The quick brown fox jumps over the lazy dog.",
        "Überraschungsgäste naïve café cafe\u{301} ﬁ ①",
        "北京的天气很好，東京も。서울은 어때요? Ελληνικά русский עברית العربية हिन्दी",
        "👩‍👩‍👧 🇩🇪 e\u{301}\u{323} \u{0}\u{7f}\u{200b}\u{feff}\u{fffd}",
        "<|endoftext|>between<|im_start|> [CLS] a [MASK] b[SEP]<tool_call>",
        "it's we'LL 'ſ 12345 ½ \t\r\n\n   x  \n",
        "\u{a0}\u{2003}\u{3000}",
    ];
    texts.extend(lines.map(str::to_owned));
    texts.push("a".repeat(100));
    texts.push("a".repeat(101));
    texts.push("unbelievably".repeat(300));
    texts.push("öß中\u{301}".repeat(2000));
    texts
}

fn trained() -> BPE {
    let bytes = ByteLevel::new(false, false, true);
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(3000)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let words = |text: &str| {
        let mut split = PreTokenizedString::from(text);
        bytes.pre_tokenize(&mut split)?;
        let words = split.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
        Ok(words.into_iter().map(|(word, _, _)| word.to_owned()).collect())
    };
    trainer.feed(texts().iter(), words).unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();
    assert!(model.get_vocab_size() > 2000);
    model
}

static TRAINED: LazyLock<Value> = LazyLock::new(|| serde_json::to_value(trained()).unwrap());

/// All that Qwen3-Embedding's tokenizer has, around 3,000 tokens learnt from the repository.
pub(crate) fn qwen() -> Value {
    let special = |id: usize, content: &str, special: bool| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": special})
    };
    let size = TRAINED["vocab"].as_object().unwrap().len();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
            special(size, "<|endoftext|>", true),
            special(size + 1, "<|im_start|>", true),
            special(size + 2, "<tool_call>", false)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
        ]},
        "post_processor": {"type": "Sequence", "processors": [
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            {"type": "TemplateProcessing",
             "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
             "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [size], "tokens": ["<|endoftext|>"]}}}
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": *TRAINED
    })
}

/// A BPE of these tokens and merges, and nothing else.
pub(crate) fn byte_pairs(vocabulary: &[&str], merges: &[(&str, &str)]) -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        vocabulary.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id.into())).collect();
    json!({
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocabulary, "merges": merges}
    })
}
