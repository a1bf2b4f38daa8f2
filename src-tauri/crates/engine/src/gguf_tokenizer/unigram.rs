//! SentencePiece's Unigram as XLM-R has it: scores, the compiled normalisation, words split at white space and marked.
//!
//! `remove_extra_whitespaces` is not believed: the converters fill it with a setting of another kind
//! (`clean_up_tokenization_spaces`) where they read `tokenizer.json`, and every XLM-R splits at white space.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{
    Unbuildable, charsmap,
    json::{Parts, quoted, template},
    metadata::Metadata,
    vocabulary::{Kind, Vocabulary, added, refuse_doubled},
};

/// What `<mask>` is called where a file has its id and not its name: the converters that read SentencePiece's own file do not
/// know it.
const MASK: &str = "<mask>";

pub(super) fn tokenizer(metadata: &Metadata) -> Result<String, Unbuildable> {
    if metadata.flag("add_space_prefix") == Some(false) {
        return Err(Unbuildable::key("add_space_prefix", "is `false`: words would have no mark"));
    }
    let mut vocabulary = Vocabulary::read(metadata)?;
    let count = vocabulary.texts.len();
    let mut scores = metadata.numbers("scores", count)?.ok_or_else(|| Unbuildable::key("scores", "is missing"))?;
    if let Some(mask) = vocabulary.named.mask.map(|id| id as usize)
        && vocabulary.kinds[mask] == Kind::Unused
        && !vocabulary.texts.contains(&MASK)
    {
        (vocabulary.texts[mask], vocabulary.kinds[mask]) = (MASK, Kind::Control);
        // As every control token has it; that of a row without a token would be the lowest of all.
        scores[mask] = 0.0;
    }
    let named = vocabulary.named;
    let unknown = vocabulary.kinds.iter().position(|&kind| kind == Kind::Unknown).and_then(|id| u32::try_from(id).ok());
    let unknown = named.unknown.or(unknown);
    let unknown = unknown.ok_or_else(|| Unbuildable::key("unknown_token_id", "is missing"))?;
    let pieces: Vec<(u32, String, Kind)> = vocabulary
        .used()
        .map(|(id, text, kind)| (id, text.to_owned(), if id == unknown { Kind::Control } else { kind }))
        .collect();
    refuse_doubled(&pieces)?;
    let token = |id: u32| (vocabulary.texts[id as usize], id);
    let around = |flag, key, id: Option<u32>| match (metadata.flag(flag), id) {
        (Some(false), _) | (None, None) => Ok(None),
        (_, Some(id)) if vocabulary.kind(id) != Kind::Unused => Ok(Some(token(id))),
        _ => Err(Unbuildable::key(key, "is missing, and is to stand around every text")),
    };
    let before = around("add_bos_token", "bos_token_id", named.begin.or(named.class))?;
    let after = around("add_eos_token", "eos_token_id", named.end.or(named.separator))?;
    let mut added = added(&pieces);
    if let Some(mask) = named.mask.and_then(|mask| added.iter_mut().find(|added| added.id == mask)) {
        mask.strips_left = true;
    }
    let marked = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true});
    let words = json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marked.clone()]});
    let model = format!(
        "{{\"type\":\"Unigram\",\"unk_id\":{unknown},\"byte_fallback\":false,\"vocab\":{}}}",
        scored(&vocabulary, &scores)
    );
    let padding = named.padding.filter(|&id| vocabulary.kind(id) != Kind::Unused);
    let parts = Parts {
        added,
        padding: padding.map(|id| (id, token(id).0.to_owned())),
        normalizer: normalizer(metadata)?,
        pre_tokenizer: words,
        post_processor: match (before, after) {
            (None, None) => Value::Null,
            _ => template(before, after, after, 0),
        },
        decoder: marked,
    };
    Ok(parts.around(&model))
}

fn normalizer(metadata: &Metadata) -> Result<Value, Unbuildable> {
    let Some(map) = metadata.bytes("precompiled_charsmap")? else { return Ok(Value::Null) };
    charsmap::check(map).map_err(|problem| Unbuildable::key("precompiled_charsmap", problem))?;
    Ok(json!({"type": "Precompiled", "precompiled_charsmap": BASE64_STANDARD.encode(map)}))
}

/// Pieces with their scores, in the order of their ids. A row without a token at the end is left out; one before others gets a
/// text that no tokenizer makes, and a score that changes nothing: the library takes that of unknown characters from the lowest.
fn scored(vocabulary: &Vocabulary, scores: &[f32]) -> String {
    let used = vocabulary.kinds.iter().rposition(|&kind| kind != Kind::Unused).map_or(0, |last| last + 1);
    let real = |place: &usize| vocabulary.kinds[*place] != Kind::Unused;
    let lowest = (0..used).filter(real).map(|place| scores[place]).fold(0.0, f32::min);
    let mut list = String::from("[");
    for (place, &score) in scores[..used].iter().enumerate() {
        if place > 0 {
            list.push(',');
        }
        let _ = if real(&place) {
            write!(list, "[{},{:?}]", quoted(vocabulary.texts[place]), f64::from(score))
        } else {
            write!(list, "[{},{:?}]", quoted(&format!("\0[PAD{place}]")), f64::from(lowest))
        };
    }
    list.push(']');
    list
}
