//! The pre-tokeniser of a mapped tokenizer: the library's, but for that of Qwen's tokenizers.
//!
//! The library compiles two regular expressions for that one, the second only to leave it unused.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokenizers::pattern::Pattern;
use tokenizers::{Offsets, PreTokenizedString, PreTokenizer, PreTokenizerWrapper, Result, SplitDelimiterBehavior};

use crate::splitter;

/// A pre-tokeniser of the library, or one with the same results.
#[derive(Clone, Debug)]
pub struct MappedPreTokenizer(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Library(PreTokenizerWrapper),
    /// Words by [`splitter`], then a character for every byte.
    QwenWords,
}

impl<'json> Deserialize<'json> for MappedPreTokenizer {
    fn deserialize<Json: Deserializer<'json>>(json: Json) -> std::result::Result<Self, Json::Error> {
        let value = Value::deserialize(json)?;
        if is_qwen(&value) {
            return Ok(Self(Kind::QwenWords));
        }
        serde_json::from_value(value).map(|library| Self(Kind::Library(library))).map_err(Json::Error::custom)
    }
}

fn is_qwen(settings: &Value) -> bool {
    let Some([split, bytes]) = settings["pretokenizers"].as_array().map(Vec::as_slice) else {
        return false;
    };
    let expected = json!({
        "type": "Split",
        "pattern": {"Regex": splitter::PATTERN},
        "behavior": "Isolated",
        "invert": false
    });
    // `trim_offsets` counts in a post-processor only.
    settings["type"] == "Sequence"
        && *split == expected
        && bytes["type"] == "ByteLevel"
        && bytes["add_prefix_space"] == false
        && bytes["trim_offsets"].is_boolean()
        && bytes["use_regex"] == false
}

struct QwenWords;

impl Pattern for QwenWords {
    fn find_matches(&self, inside: &str) -> Result<Vec<(Offsets, bool)>> {
        let mut end = 0;
        let words = splitter::words(inside).map(|word| {
            let start = end;
            end += word.len();
            ((start, end), true)
        });
        Ok(words.collect())
    }
}

/// The character that stands for a byte: itself where it is printed, one from U+0100 on where not.
const BYTE_CHARACTERS: [char; 256] = byte_characters();

const fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    let (mut byte, mut unprinted) = (0_u8, 0);
    loop {
        characters[byte as usize] = match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => byte as char,
            _ => {
                unprinted += 1;
                char::from_u32(0xff + unprinted).expect("U+0100 to U+0143 are characters. This is a bug.")
            }
        };
        if byte == u8::MAX {
            return characters;
        }
        byte += 1;
    }
}

/// Is it a further byte of a character in UTF-8?
fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

impl PreTokenizer for MappedPreTokenizer {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> Result<()> {
        match &self.0 {
            Kind::Library(library) => library.pre_tokenize(text),
            Kind::QwenWords => {
                text.split(|_, part| part.split(QwenWords, SplitDelimiterBehavior::Isolated))?;
                text.normalize(|word| {
                    let bytes: Vec<(char, isize)> = word
                        .get()
                        .bytes()
                        // The first byte of a character takes its place; the others are insertions.
                        .map(|byte| (BYTE_CHARACTERS[usize::from(byte)], isize::from(is_continuation(byte))))
                        .collect();
                    word.transform(bytes, 0);
                    Ok(())
                })
            }
        }
    }
}
