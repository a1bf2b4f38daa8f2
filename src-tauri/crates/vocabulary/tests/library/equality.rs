//! Compiled tokenizers beside the library's own, with all that the engine and a curious reader ask of them.

use std::sync::{Arc, LazyLock};

use embedbar_vocabulary::{MappedTokenizer, compile};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::tokenizers_in_json::{bundled, byte_pairs, qwen, texts};

/// The library's tokenizer and the compiled one, without truncation and padding, as the engine uses them.
struct Both {
    library: Tokenizer,
    mapped: MappedTokenizer,
}

impl Both {
    fn new(json: &[u8]) -> Self {
        let mut library = Tokenizer::from_bytes(json).unwrap();
        let mut mapped = MappedTokenizer::open(Arc::new(compile(json).unwrap())).unwrap();
        assert_eq!(format!("{:?}", mapped.get_padding()), format!("{:?}", library.get_padding()));
        assert_eq!(format!("{:?}", mapped.get_truncation()), format!("{:?}", library.get_truncation()));
        library.with_padding(None).with_truncation(None).unwrap();
        mapped.with_padding(None).with_truncation(None).unwrap();
        Self { library, mapped }
    }

    fn of(json: &Value) -> Self {
        Self::new(json.to_string().as_bytes())
    }

    /// Ids, tokens, offsets, words and masks are the same.
    fn compare(&self, text: &str) {
        for special in [false, true] {
            let expected = self.library.encode(text, special).unwrap();
            assert_eq!(self.mapped.encode(text, special).unwrap(), expected, "{text:?}");
            let fast = self.mapped.encode_fast(text, special).unwrap();
            assert_eq!(fast.get_ids(), self.library.encode_fast(text, special).unwrap().get_ids());
            let decode = |special| {
                let expected = self.library.decode(expected.get_ids(), special).unwrap();
                assert_eq!(self.mapped.decode(fast.get_ids(), special).unwrap(), expected);
            };
            decode(false);
            decode(true);
        }
    }

    /// All tokens and ids are the same, and the largest id is what the engine looks for in all of them.
    fn compare_vocabulary(&self) {
        for added in [false, true] {
            assert_eq!(self.mapped.get_vocab(added), self.library.get_vocab(added));
            assert_eq!(self.mapped.get_vocab_size(added), self.library.get_vocab_size(added));
        }
        let vocabulary = self.library.get_vocab(true);
        assert_eq!(Some(self.mapped.largest_id()), vocabulary.values().copied().max());
        for (token, id) in &vocabulary {
            assert_eq!(self.mapped.token_to_id(token), Some(*id));
            assert_eq!(self.mapped.id_to_token(*id), self.library.id_to_token(*id));
        }
        for absent in ["", "no such token", "##", "\u{10ffff}"] {
            assert_eq!(self.mapped.token_to_id(absent), self.library.token_to_id(absent));
        }
        assert_eq!(self.mapped.id_to_token(self.mapped.largest_id() + 1), None);
    }
}

static BUNDLED: LazyLock<Both> = LazyLock::new(|| Both::new(&bundled()));
static QWEN: LazyLock<Both> = LazyLock::new(|| Both::of(&qwen()));

#[test]
fn the_bundled_tokenizer_is_the_librarys() {
    BUNDLED.compare_vocabulary();
    for text in texts() {
        BUNDLED.compare(&text);
    }
}

#[test]
fn a_tokenizer_like_qwens_is_the_librarys() {
    QWEN.compare_vocabulary();
    for text in texts() {
        QWEN.compare(&text);
    }
}

#[test]
fn many_texts_at_once_are_the_librarys() {
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for both in [&*BUNDLED, &*QWEN] {
        let expected = both.library.encode_batch_fast(texts.clone(), true).unwrap();
        let found = both.mapped.encode_batch_fast(texts.clone(), true).unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.get_ids(), expected.get_ids());
        }
    }
}

#[test]
fn words_around_the_length_where_the_method_changes_are_the_librarys() {
    let word: String = "thequickbrownfoxjumpsoverthelazydogandtokenisesembeddingsunbelievably".repeat(3);
    for length in 0..word.len() {
        QWEN.compare(&word[..length]);
        QWEN.compare(&word[length..]);
    }
}

#[test]
fn a_word_of_a_megabyte_is_the_librarys() {
    let word: String = "abcdeftheration".chars().cycle().take(1 << 20).collect();
    for both in [&*BUNDLED, &*QWEN] {
        let expected = both.library.encode_fast(word.as_str(), false).unwrap();
        assert_eq!(both.mapped.encode_fast(word.as_str(), false).unwrap().get_ids(), expected.get_ids());
    }
}

#[test]
fn merges_in_an_odd_order_are_the_librarys() {
    // A merge of merged tokens that ranks before those, two ways to one token, and a pair that is there twice.
    let vocabulary = ["a", "b", "c", "ab", "bc", "abc", "aa", "aaa", "aaaa", "cab", "ca", "abcab"];
    let merges = [
        ("ab", "c"),
        ("aa", "aa"),
        ("a", "bc"),
        ("a", "a"),
        ("c", "a"),
        ("b", "c"),
        ("a", "b"),
        ("ca", "b"),
        ("abc", "ab"),
        ("b", "c"),
        ("aa", "a"),
    ];
    let both = Both::of(&byte_pairs(&vocabulary, &merges));
    for length in 0..7_u32 {
        for number in 0..3_usize.pow(length) {
            let letter = |place| ["a", "b", "c"][number / 3_usize.pow(place) % 3];
            let word: String = (0..length).map(letter).collect();
            both.compare(&word);
            both.compare(&word.repeat(40));
        }
    }
}

#[test]
fn characters_without_a_token_are_left_out_as_the_library_does() {
    let both = Both::of(&byte_pairs(&["a", "b", "ab", "中", "中a"], &[("a", "b"), ("中", "a")]));
    for text in ["axb", "ab", "中ab", "x", "xabx", "é中文a", "abéx中aab", &"axb中".repeat(100)] {
        both.compare(text);
    }
}

#[test]
fn whole_words_come_before_merges_where_the_tokenizer_says_so() {
    for ignore in [false, true] {
        let mut json = byte_pairs(&["a", "b", "c", "ab", "abc"], &[("a", "b")]);
        json["model"]["ignore_merges"] = ignore.into();
        let both = Both::of(&json);
        for text in ["abc", "ab", "abcabc", "a"] {
            both.compare(text);
        }
    }
}

#[test]
fn merges_in_lines_are_read() {
    let mut json = byte_pairs(&["a", "b", "c", "ab", "abc"], &[]);
    json["model"]["merges"] = json!(["#version: 0.2", "a b", "ab c"]);
    Both::of(&json).compare("abcab");
}

#[test]
fn ids_may_have_gaps_and_added_tokens_are_counted_on() {
    let added = |content: &str| {
        json!({"id": 0, "content": content, "single_word": true, "lstrip": true, "rstrip": false,
               "normalized": true, "special": false})
    };
    let mut json = byte_pairs(&[], &[("a", "b")]);
    json["model"]["vocab"] = json!({"a": 1, "b": 4, "ab": 5, "": 3});
    json["added_tokens"] = json!([added("new"), added("ab"), added("another")]);
    let both = Both::of(&json);
    both.compare_vocabulary();
    for text in ["ab new a", "newab  another", "another"] {
        both.compare(text);
    }
}

#[test]
fn other_parts_of_the_library_are_taken_over() {
    let mut json = qwen();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]});
    json["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    json["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    let both = Both::of(&json);
    for text in texts() {
        both.compare(&text);
    }
}

#[test]
fn word_pieces_of_all_options_are_the_librarys() {
    for (prefix, longest) in [("##", 5), ("", 100), ("é", 3), ("##", 0)] {
        let mut vocabulary = serde_json::Map::new();
        for (id, token) in ["?", "a", "b", "ab", "aab", "中"].into_iter().enumerate() {
            vocabulary.insert(token.to_owned(), id.into());
            vocabulary.insert(format!("{prefix}{token}"), if prefix.is_empty() { id } else { id + 6 }.into());
        }
        let both = Both::of(&json!({
            "version": "1.0",
            "model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": prefix,
                      "max_input_chars_per_word": longest, "vocab": vocabulary}
        }));
        both.compare_vocabulary();
        for text in ["", "a", "aabab", "ababab", "中中中", "中a中b", "x", "abx", "aaaaaab", "##a", "éa"] {
            both.compare(text);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_tokenised_like_the_library_does(text in any::<String>()) {
        BUNDLED.compare(&text);
        QWEN.compare(&text);
    }

    #[test]
    fn any_ascii_is_tokenised_like_the_library_does(text in "[ -~\\x00-\\x7f]{0,80}") {
        BUNDLED.compare(&text);
        QWEN.compare(&text);
    }

    #[test]
    fn any_words_are_tokenised_like_the_library_does(
        text in "[a-eA-E0-2 '.,\\n\\tſéüÅ中文\u{301}\u{ac00}가-각\u{a0}]{0,80}"
    ) {
        BUNDLED.compare(&text);
        QWEN.compare(&text);
    }
}
