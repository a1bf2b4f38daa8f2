//! `tokenizer.json`, looked at before the tokenizer's library is: how large it is, how deep, how many tokens it has, and that
//! none of its rules makes a long text of a short one or a long search of a pattern. Whether it fits the model is for the
//! engine to say.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{FormatError, json};

/// The largest file that is read; that of multilingual models has 17 MB.
pub const MAX_BYTES: u64 = 64 << 20;
const VOCABULARY: u64 = 4_000_000;
const MERGES: u64 = 8_000_000;
const ADDED: usize = 200_000;
/// Bytes of one regular expression; Qwen's has 120.
const PATTERN: usize = 4096;
/// How much longer the rules may make a text: replacing a space takes three bytes for one.
const GROWTH: u64 = 4096;
/// Tokens to which a text may be padded.
const PADDING: u64 = 1 << 20;

/// What it says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokenizer {
    /// `WordPiece`, `BPE`, `Unigram`; older files leave it out.
    pub model: Option<String>,
    /// Tokens, the added ones not counted.
    pub vocabulary: u64,
    /// One more than the largest number of a token.
    pub ids: u64,
}

#[derive(Deserialize)]
struct Raw<'a> {
    model: RawModel,
    #[serde(default)]
    added_tokens: Option<Vec<Added>>,
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow, default)]
    padding: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawModel {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    vocab: Vocabulary,
    #[serde(default)]
    merges: Option<Counted>,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

/// Checks the text of a `tokenizer.json`.
pub fn read(bytes: &[u8]) -> Result<Tokenizer, FormatError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(FormatError::malformed(format!("it has `{}` bytes; at most `{MAX_BYTES}` are read", bytes.len())));
    }
    json::check_depth(bytes)?;
    let raw: Raw<'_> = serde_json::from_slice(bytes)
        .map_err(|error| FormatError::malformed(format!("it is not the description of a tokenizer: {error}")))?;
    let added = raw.added_tokens.unwrap_or_default();
    if added.len() > ADDED {
        return Err(FormatError::malformed(format!("it adds `{}` tokens", added.len())));
    }
    if let Some(added) = added.iter().find(|added| added.id >= VOCABULARY) {
        return Err(FormatError::malformed(format!("a token has the number `{}`", added.id)));
    }
    if raw.model.merges.is_some_and(|merges| merges.0 > MERGES) {
        return Err(FormatError::malformed(format!("it has more than `{MERGES}` merges")));
    }
    for part in [raw.pre_tokenizer, raw.post_processor, raw.decoder] {
        check_patterns(&rules(part)?)?;
    }
    let normalizer = rules(raw.normalizer)?;
    check_patterns(&normalizer)?;
    if growth(&normalizer) > GROWTH {
        return Err(FormatError::malformed(format!("its normaliser makes a text more than `{GROWTH}` times as long")));
    }
    check_padding(&rules(raw.padding)?)?;
    let ids = added.iter().map(|added| added.id + 1).fold(raw.model.vocab.ids, u64::max);
    Ok(Tokenizer { model: raw.model.kind.as_deref().map(crate::names::shown), vocabulary: raw.model.vocab.tokens, ids })
}

/// A part that holds rules. The largest real one has half a megabyte, and what is parsed takes many times its text.
fn rules(part: Option<&RawValue>) -> Result<Value, FormatError> {
    let Some(part) = part else { return Ok(Value::Null) };
    if part.get().len() as u64 > json::LIMIT {
        return Err(FormatError::malformed(format!("its rules have `{}` bytes", part.get().len())));
    }
    serde_json::from_str(part.get()).map_err(|error| FormatError::malformed(format!("its rules are not JSON: {error}")))
}

/// Regular expressions stand under `Regex`, wherever a rule has one.
fn check_patterns(value: &Value) -> Result<(), FormatError> {
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(pattern) if name == "Regex" && pattern.len() > PATTERN => {
                Err(FormatError::malformed(format!("a pattern of it has `{}` bytes", pattern.len())))
            }
            value => check_patterns(value),
        }),
        Value::Array(values) => values.iter().try_for_each(check_patterns),
        _ => Ok(()),
    }
}

/// How many times as long the replacements can make a text, all of them in turn.
fn growth(value: &Value) -> u64 {
    match value {
        Value::Object(fields) => {
            let content = fields.get("content").and_then(Value::as_str).map_or(0, str::len) as u64;
            let pattern =
                fields.get("pattern").and_then(|it| it.get("String")).and_then(Value::as_str).map_or(1, str::len);
            let own = content.div_ceil((pattern as u64).max(1)).max(1);
            fields.values().map(growth).fold(own, u64::saturating_mul)
        }
        Value::Array(values) => values.iter().map(growth).fold(1, u64::saturating_mul),
        _ => 1,
    }
}

fn check_padding(padding: &Value) -> Result<(), FormatError> {
    let fixed = padding.get("strategy").and_then(|strategy| strategy.get("Fixed"));
    for length in [fixed, padding.get("pad_to_multiple_of")].into_iter().flatten() {
        if !length.is_null() && length.as_u64().is_none_or(|length| length > PADDING) {
            return Err(FormatError::malformed(format!(
                "it pads texts to `{}` tokens",
                crate::names::shown(&length.to_string())
            )));
        }
    }
    Ok(())
}

/// Tokens by their numbers, as an object; or with their scores, as a list. Counted, not kept.
struct Vocabulary {
    tokens: u64,
    ids: u64,
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("tokens")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut found = Vocabulary { tokens: 0, ids: 0 };
        while let Some((_, id)) = map.next_entry::<IgnoredAny, u64>()? {
            if id >= VOCABULARY || found.tokens == VOCABULARY {
                return Err(A::Error::custom(format_args!("a token has the number `{id}`")));
            }
            found = Vocabulary { tokens: found.tokens + 1, ids: found.ids.max(id + 1) };
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vocabulary, A::Error> {
        let Counted(tokens) = CountedVisitor.visit_seq(seq)?;
        if tokens > VOCABULARY {
            return Err(A::Error::custom(format_args!("it has `{tokens}` tokens")));
        }
        Ok(Vocabulary { tokens, ids: tokens })
    }
}

/// The length of a list.
struct Counted(u64);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CountedVisitor)
    }
}

struct CountedVisitor;

impl<'de> Visitor<'de> for CountedVisitor {
    type Value = Counted;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Counted, A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(Counted(count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = r#"{"version":"1.0","truncation":null,"padding":{"strategy":{"Fixed":128},"pad_to_multiple_of":null},
        "added_tokens":[{"id":7,"content":"[X]","special":true}],
        "normalizer":{"type":"Sequence","normalizers":[{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]},
        "pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\s+"}},"post_processor":null,"decoder":null,
        "model":{"type":"WordPiece","vocab":{"a":0,"b":1,"c":4}}}"#;

    #[test]
    fn tokens_and_numbers_are_counted() {
        let found = read(SAMPLE.as_bytes()).expect("a tokenizer");
        assert_eq!(found, Tokenizer { model: Some("WordPiece".to_owned()), vocabulary: 3, ids: 8 });
        let unigram = r#"{"model":{"type":"Unigram","unk_id":0,"vocab":[["a",-1.5],["b",-2]]}}"#;
        assert_eq!(read(unigram.as_bytes()).expect("a tokenizer").vocabulary, 2);
        let bpe = r#"{"model":{"vocab":{"a":0},"merges":["a b",["a","b"]]}}"#;
        assert_eq!(read(bpe.as_bytes()).expect("a tokenizer").model, None);
    }

    #[test]
    fn bombs_are_refused_with_the_reason() {
        let replace = r#"{"type":"Replace","pattern":{"String":"a"},"content":"aaaaaaaa"}"#;
        let doubling = format!(r#"{{"type":"Sequence","normalizers":[{}]}}"#, [replace; 5].join(","));
        let normaliser =
            r#"{"type":"Sequence","normalizers":[{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}"#;
        let cases = [
            (SAMPLE.replace("\"c\":4", "\"c\":4000000"), "number"),
            (SAMPLE.replace("\"c\":4", "\"c\":-4"), "not the description"),
            (SAMPLE.replace("\"id\":7", "\"id\":99999999999"), "number"),
            (SAMPLE.replace("128", "1048577"), "pads"),
            (SAMPLE.replace("128", "1e300"), "pads"),
            (SAMPLE.replace(r#""pad_to_multiple_of":null"#, r#""pad_to_multiple_of":1099511627776"#), "pads"),
            (SAMPLE.replace("\\\\s+", &"(a+)+".repeat(1000)), "pattern"),
            (SAMPLE.replace(normaliser, &doubling), "times as long"),
            (
                SAMPLE.replace("null,\"decoder\"", &format!("{}1{},\"decoder\"", "[".repeat(80), "]".repeat(80))),
                "nested",
            ),
            (SAMPLE.replace("null,\"decoder\"", &format!("[{}1],\"decoder\"", "1,".repeat(2 << 20))), "its rules have"),
            ("{}".to_owned(), "not the description"),
            (r#"{"model":{"vocab":7}}"#.to_owned(), "not the description"),
        ];
        for (text, part) in cases {
            let error = read(text.as_bytes()).expect_err(part).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(read(&vec![b' '; MAX_BYTES as usize + 1]).is_err());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_still_small(at in any::<usize>(), to in any::<u8>(), cut in any::<usize>()) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = to;
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Ok(found) = read(bytes) {
                    prop_assert!(found.ids <= VOCABULARY && found.vocabulary <= VOCABULARY);
                }
            }
        }
    }
}
