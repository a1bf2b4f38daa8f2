//! Compiled files that were changed afterwards, by accident or on purpose: they give tokens or an error, and soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::layout::{HEADER, Header, Layout, NONE};
use crate::{MappedTokenizer, compile};

/// One text with words of all lengths, of tokens and of others.
fn text() -> String {
    format!("abab ba a\u{301} 中 abc {} {}", "ab".repeat(45), "xa".repeat(45))
}

/// `a`, `b`, `c` and all words of them with up to four letters.
fn words() -> Vec<String> {
    let mut words: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
    let mut start = 0;
    for _ in 1..4 {
        let end = words.len();
        let longer: Vec<String> =
            words[start..end].iter().flat_map(|word| ["a", "b", "c"].map(|last| format!("{word}{last}"))).collect();
        words.extend(longer);
        start = end;
    }
    words
}

fn vocabulary(words: impl IntoIterator<Item = String>) -> Map<String, Value> {
    words.into_iter().zip(0..).map(|(word, id)| (word, Value::from(id))).collect()
}

fn word_pieces() -> Vec<u8> {
    let pieces = words().into_iter().flat_map(|word| [format!("##{word}"), word]);
    let json = json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary(pieces)}
    });
    compile(json.to_string().as_bytes()).unwrap()
}

fn byte_pairs() -> Vec<u8> {
    let words = words();
    let merges: Vec<(&str, &str)> =
        words.iter().filter(|word| word.len() > 1).map(|word| word.split_at(word.len() / 2)).collect();
    let json = json!({
        "version": "1.0",
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "BPE", "vocab": vocabulary(words.clone()), "merges": merges}
    });
    compile(json.to_string().as_bytes()).unwrap()
}

/// Opens `bytes` and asks for all that can be asked.
fn use_all(bytes: Vec<u8>) {
    let Ok(tokenizer) = MappedTokenizer::open(Arc::new(bytes)) else {
        return;
    };
    let largest = tokenizer.largest_id();
    if let Ok(encoding) = tokenizer.encode(text(), true) {
        assert!(encoding.get_ids().iter().all(|id| *id <= largest), "{:?}", encoding.get_ids());
        assert_eq!(encoding.get_tokens().len(), encoding.get_ids().len());
    }
    for token in ["", "a", "ab", "中", "abcabcabcabc"] {
        assert!(tokenizer.token_to_id(token).is_none_or(|id| id <= largest));
    }
    for id in [0, 1, largest, u32::MAX] {
        let _ = tokenizer.id_to_token(id);
    }
    assert!(tokenizer.get_vocab(true).values().all(|id| *id <= largest));
}

/// `bytes` with other numbers in the header, under a seal that fits.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let layout = Layout::read(bytes).unwrap();
    let mut header = layout.header;
    change(&mut header);
    let mut bytes = bytes.to_vec();
    let sealed = header.sealed(&bytes[layout.settings]);
    bytes[..HEADER].copy_from_slice(&sealed);
    bytes
}

#[test]
fn the_files_that_are_damaged_here_are_whole_before() {
    for bytes in [word_pieces(), byte_pairs()] {
        let tokenizer = MappedTokenizer::open(Arc::new(bytes.clone())).unwrap();
        assert!(tokenizer.encode(text(), true).unwrap().get_ids().len() > 20);
        use_all(bytes);
    }
}

#[test]
fn a_changed_header_or_setting_is_noticed() {
    for bytes in [word_pieces(), byte_pairs()] {
        let settings = Layout::read(&bytes).unwrap().settings;
        for at in (0..HEADER).chain(settings) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(MappedTokenizer::open(Arc::new(changed)).is_err(), "byte {at}");
        }
    }
}

#[test]
fn a_file_is_not_opened_without_its_end() {
    for bytes in [word_pieces(), byte_pairs()] {
        for length in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            assert!(MappedTokenizer::open(Arc::new(bytes[..length].to_vec())).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn numbers_of_the_header_that_do_not_fit_are_noticed() {
    let bytes = byte_pairs();
    let changes: [fn(&mut Header); 8] = [
        |header| header.settings = u32::MAX,
        |header| header.text = u32::MAX,
        |header| header.records = u32::MAX,
        |header| (header.records, header.text) = (0, header.text + 8 * header.records),
        |header| header.token_slots = u32::MAX,
        // Of the same length in all.
        |header| (header.token_slots, header.pair_slots) = (header.token_slots + 8, header.pair_slots - 4),
        |header| (header.token_slots, header.records) = (0, header.records + header.token_slots),
        |header| header.longest = u32::MAX,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        assert!(MappedTokenizer::open(Arc::new(with_header(&bytes, change))).is_err(), "change {index}");
    }
    // Nothing to check these against: they may only be wrong.
    use_all(with_header(&bytes, |header| header.longest = 0));
    use_all(with_header(&bytes, |header| header.longest = 4096));
    use_all(with_header(&bytes, |header| header.tokens = u32::MAX));
}

#[test]
fn tables_without_an_empty_place_are_given_up_on() {
    for bytes in [word_pieces(), byte_pairs()] {
        let layout = Layout::read(&bytes).unwrap();
        for filling in [0, 1, 0x7f, 0xfe] {
            let mut full = bytes.clone();
            full[layout.token_slots.clone()].fill(filling);
            full[layout.pair_slots.clone()].fill(filling);
            let start = Instant::now();
            use_all(full.clone());
            // One word that long by pairs alone, where they merge with anything.
            let tokenizer = MappedTokenizer::open(Arc::new(full)).unwrap();
            let _ = tokenizer.encode_fast("abc".repeat(50_000), false);
            assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        }
    }
}

#[test]
fn ids_that_are_not_there_are_an_error() {
    let bytes = byte_pairs();
    let layout = Layout::read(&bytes).unwrap();
    let mut changed = bytes.clone();
    changed[layout.records].fill(0xff);
    let tokenizer = MappedTokenizer::open(Arc::new(changed)).unwrap();
    assert!(tokenizer.encode("ab", false).is_err());
    let mut changed = bytes;
    for slot in changed[layout.pair_slots].chunks_exact_mut(16).filter(|slot| slot[8..12] != NONE.to_le_bytes()) {
        slot[12..].copy_from_slice(&[9, 9, 9, 9]);
    }
    let tokenizer = MappedTokenizer::open(Arc::new(changed)).unwrap();
    assert!(tokenizer.encode("abcabcabc", false).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_tables_give_tokens_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        pairs in any::<bool>(),
    ) {
        let mut bytes = if pairs { byte_pairs() } else { word_pieces() };
        let tables = Layout::read(&bytes).unwrap().settings.end;
        let length = bytes.len() - tables;
        for (place, byte) in changes {
            bytes[tables + place.index(length)] = byte;
        }
        use_all(bytes);
    }

    #[test]
    fn any_header_gives_tokens_or_an_error(numbers in any::<[u32; 7]>(), which in any::<[bool; 7]>(), small in any::<bool>()) {
        let bytes = with_header(&byte_pairs(), |header| {
            let places = [
                &mut header.settings,
                &mut header.tokens,
                &mut header.records,
                &mut header.text,
                &mut header.token_slots,
                &mut header.pair_slots,
                &mut header.longest,
            ];
            for ((place, number), change) in places.into_iter().zip(numbers).zip(which) {
                if change {
                    *place = if small { number % 512 } else { number };
                }
            }
        });
        use_all(bytes);
    }
}
