//! What has no compiled form is said to have none; what is no tokenizer at all is told apart from it.

use std::sync::Arc;

use embedbar_vocabulary::{FORMAT, MappedTokenizer, VocabularyError, compile};
use serde_json::{Value, json};

use crate::tokenizers_in_json::byte_pairs;

fn reason(json: &Value) -> String {
    match compile(json.to_string().as_bytes()) {
        Err(VocabularyError::Unsupported { reason }) => reason,
        other => panic!("{:?} of {json}", other.map(|bytes| bytes.len())),
    }
}

fn changed(option: &str, value: Value) -> Value {
    let mut json = byte_pairs(&["a", "b", "ab"], &[("a", "b")]);
    json["model"][option] = value;
    json
}

#[test]
fn other_models_are_unsupported() {
    let unigram = json!({"version": "1.0", "model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]}});
    assert_eq!(reason(&unigram), "the model `Unigram`");
    let words = json!({"version": "1.0", "model": {"type": "WordLevel", "unk_token": "a", "vocab": {"a": 0}}});
    assert_eq!(reason(&words), "the model `WordLevel`");
    let untyped = json!({"version": "1.0", "model": {"vocab": {"a": 0}, "merges": []}});
    assert_eq!(reason(&untyped), "the model `without a type`");
    let version = json!({"version": "2.0", "model": {}});
    assert_eq!(reason(&version), "version `2.0`");
}

#[test]
fn a_part_that_the_library_does_not_know_is_refused_as_the_library_does() {
    let mut json = byte_pairs(&["a", "b", "ab"], &[("a", "b")]);
    json["paddiNg"] = Value::Null;
    let bytes = json.to_string();
    assert!(tokenizers::Tokenizer::from_bytes(&bytes).is_err());
    assert!(matches!(compile(bytes.as_bytes()), Err(VocabularyError::NotATokenizer { .. })));
}

#[test]
fn other_options_of_byte_pairs_are_unsupported() {
    let options = [
        ("dropout", json!(0.1)),
        ("unk_token", json!("a")),
        ("continuing_subword_prefix", json!("##")),
        ("end_of_word_suffix", json!("</w>")),
        ("byte_fallback", json!(true)),
    ];
    for (option, value) in options {
        assert_eq!(reason(&changed(option, value)), format!("BPE with `{option}`"));
    }
    for (option, value) in [("dropout", json!(0.0)), ("end_of_word_suffix", json!("")), ("byte_fallback", json!(null))]
    {
        compile(changed(option, value).to_string().as_bytes()).unwrap();
    }
}

#[test]
fn vocabularies_that_contradict_themselves_are_unsupported() {
    assert!(reason(&changed("merges", json!([["a", "c"]]))).contains("`ac`"));
    assert!(reason(&changed("merges", json!(["a b c"]))).contains("`a b c`"));
    assert!(reason(&changed("vocab", json!({"a": 0, "b": 0, "ab": 1}))).contains("the same id"));
    assert!(reason(&changed("vocab", json!({"a": 0, "b": 1, "ab": 100}))).contains("ids up to `100`"));
    assert!(reason(&changed("vocab", json!({"a": 0, "b": 1, "ab": 2, "c".repeat(5000): 3}))).contains("`5000` bytes"));
    let mut empty = changed("vocab", json!({}));
    empty["model"]["merges"] = json!([]);
    assert!(reason(&empty).contains("without tokens"));
}

#[test]
fn odd_word_pieces_are_unsupported() {
    let word_pieces = |unknown: &str, longest: u64| {
        json!({"version": "1.0", "model": {"type": "WordPiece", "unk_token": unknown,
               "continuing_subword_prefix": "##", "max_input_chars_per_word": longest, "vocab": {"a": 0}}})
    };
    assert!(reason(&word_pieces("[UNK]", 100)).contains("`[UNK]`"));
    assert!(reason(&word_pieces("a", 1 << 40)).contains("1099511627776"));
}

#[test]
fn what_is_no_tokenizer_is_not_called_unsupported() {
    for bytes in [&b""[..], b"{}", b"{\"model\": 1}", b"\xff", b"{\"model\": {\"type\": \"BPE\"}}"] {
        let found = compile(bytes);
        assert!(matches!(found, Err(VocabularyError::NotATokenizer { .. })), "{:?}", found.map(|bytes| bytes.len()));
    }
    let mut json = byte_pairs(&["a"], &[]);
    json["normalizer"] = json!({"type": "no such normaliser"});
    assert!(matches!(compile(json.to_string().as_bytes()), Err(VocabularyError::Settings { .. })));
}

#[test]
fn other_files_are_not_opened() {
    let compiled = compile(byte_pairs(&["a"], &[]).to_string().as_bytes()).unwrap();
    let open = |bytes: Vec<u8>| MappedTokenizer::open(Arc::new(bytes)).map(|_| ());
    assert!(matches!(open(Vec::new()), Err(VocabularyError::NotCompiled)));
    assert!(matches!(open(vec![0; 1000]), Err(VocabularyError::NotCompiled)));
    let mut other = compiled.clone();
    other[8] += 1;
    let found = open(other);
    assert!(matches!(found, Err(VocabularyError::OtherFormat { found, expected: FORMAT }) if found == FORMAT + 1));
    let mut longer = compiled.clone();
    longer.push(0);
    assert!(matches!(open(longer), Err(VocabularyError::Damaged { .. })));
    assert!(open(compiled).is_ok());
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let json = byte_pairs(&["a", "b", "ab", "c", "abc"], &[("a", "b"), ("ab", "c")]).to_string();
    assert_eq!(compile(json.as_bytes()).unwrap(), compile(json.as_bytes()).unwrap());
}
