//! Tokenizers: their description, and the compiled form of it.

use std::sync::Arc;

use embedbar_intake::tokenizer as intake;
use embedbar_vocabulary::{MappedTokenizer, compile};
use tokenizers::Tokenizer;

/// With words of all scripts, what looks like an added token, and one word that is longer than any limit.
const TEXTS: [&str; 4] =
    ["", "a ab abc Ab, [CLS] e\u{301} 中文 \u{1f600}", "  b\t\n", "abababababababababababababababababababab"];

/// `tokenizer.json` as it is counted when a model arrives: what it says is not more than the bytes can hold.
pub fn tokenizer(bytes: &[u8]) {
    let Ok(read) = intake::read(bytes) else { return };
    assert!(read.vocabulary <= bytes.len() as u64, "each token takes bytes");
}

/// `tokenizer.json` as it is compiled: the tokens are those of the library.
///
/// Without truncation and padding, which the engine switches off as well: the library subtracts its special tokens from a length of
/// truncation that may be less, and panics or truncates nothing.
pub fn vocabulary(bytes: &[u8]) {
    // What is refused on arrival is never compiled.
    if intake::read(bytes).is_err() {
        return;
    }
    let Ok(compiled) = compile(bytes) else { return };
    let mut ours = MappedTokenizer::open(Arc::new(compiled)).expect("what was compiled can be opened");
    let mut theirs = Tokenizer::from_bytes(bytes).expect("what was compiled the library reads");
    ours.with_padding(None).with_truncation(None).expect("nothing is truncated");
    theirs.with_padding(None).with_truncation(None).expect("nothing is truncated");
    for text in TEXTS {
        for special in [false, true] {
            match (ours.encode(text, special), theirs.encode(text, special)) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours.get_ids(), theirs.get_ids(), "the tokens of {text:?}"),
                (Err(_), Err(_)) => {}
                (ours, theirs) => panic!("of {text:?} we make {ours:?} and the library {theirs:?}"),
            }
        }
    }
}

/// A compiled file, whatever happened to it.
pub fn compiled_vocabulary(bytes: &[u8]) {
    let Ok(mut tokenizer) = MappedTokenizer::open(Arc::new(bytes.to_vec())) else { return };
    tokenizer.with_padding(None).with_truncation(None).expect("nothing is truncated");
    let largest = tokenizer.largest_id();
    for text in TEXTS {
        if let Ok(encoding) = tokenizer.encode(text, true) {
            assert!(encoding.get_ids().iter().all(|id| *id <= largest), "no token is above the largest");
        }
        let _ = tokenizer.token_to_id(text);
    }
    for id in [0, 1, largest, u32::MAX] {
        let _ = tokenizer.id_to_token(id);
    }
    assert!(tokenizer.get_vocab(true).values().all(|id| *id <= largest));
}
