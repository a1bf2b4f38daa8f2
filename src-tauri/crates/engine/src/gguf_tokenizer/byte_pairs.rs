//! Byte-level BPE as Qwen has it. Tokens and merges stand in the file as they are in `tokenizer.json`.

use std::{collections::HashSet, fmt::Write as _};

use serde_json::json;

use super::{
    Unbuildable,
    json::{Parts, numbered, quoted, short, template},
    metadata::Metadata,
    vocabulary::{Kind, Vocabulary, added, refuse_doubled},
};

/// The way of splitting that is called `qwen2`.
const QWEN_SPLIT: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/// What ends a text of Qwen's embedding models, and what ends a turn of a chat. Early files name the second and mean the first.
const END: &str = "<|endoftext|>";
const END_OF_TURN: &str = "<|im_end|>";

pub(super) fn tokenizer(metadata: &Metadata) -> Result<String, Unbuildable> {
    match metadata.text("pre") {
        Some("qwen2") => {}
        other => return Err(Unbuildable::PreTokenizer(short(other.unwrap_or("default")))),
    }
    let vocabulary = Vocabulary::read(metadata)?;
    let pieces: Vec<(u32, String, Kind)> =
        vocabulary.used().map(|(id, text, kind)| (id, text.to_owned(), kind)).collect();
    refuse_doubled(&pieces)?;
    let named = vocabulary.named;
    let token = |id: u32| (vocabulary.texts[id as usize], id);
    let wanted = |key, id: Option<u32>| match id {
        Some(id) if vocabulary.kind(id) != Kind::Unused => Ok(token(id)),
        _ => Err(Unbuildable::key(key, "is missing, and is to stand around every text")),
    };
    let before = match metadata.flag("add_bos_token") {
        Some(true) => Some(wanted("bos_token_id", named.begin)?),
        _ => None,
    };
    let after = match metadata.flag("add_eos_token") {
        Some(true) => {
            let end = wanted("eos_token_id", named.end)?;
            let meant = pieces.iter().find(|(_, text, _)| end.0 == END_OF_TURN && text == END);
            Some(meant.map_or(end, |(id, _, _)| token(*id)))
        }
        _ => None,
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let post_processor = if before.is_none() && after.is_none() {
        bytes.clone()
    } else {
        json!({"type": "Sequence", "processors": [bytes.clone(), template(before, after, None, 0)]})
    };
    let split = json!({"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": false});
    let model = format!(
        "{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,\
         \"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,\"vocab\":{},\
         \"merges\":{}}}",
        numbered(pieces.iter().map(|(id, text, _)| (text.as_str(), *id))),
        merges(metadata, &pieces)?
    );
    let padding = named.padding.filter(|&id| vocabulary.kind(id) != Kind::Unused);
    let parts = Parts {
        added: added(&pieces),
        padding: padding.map(|id| (id, token(id).0.to_owned())),
        // The converters leave it out; every Qwen has it.
        normalizer: json!({"type": "NFC"}),
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": [split, bytes.clone()]}),
        post_processor,
        decoder: bytes,
    };
    Ok(parts.around(&model))
}

/// The merges as pairs, each of two known tokens that make a third.
fn merges(metadata: &Metadata, pieces: &[(u32, String, Kind)]) -> Result<String, Unbuildable> {
    let Some(lines) = metadata.texts("merges")? else {
        return Err(Unbuildable::key("merges", "is missing"));
    };
    let known: HashSet<&str> = pieces.iter().map(|(_, text, _)| text.as_str()).collect();
    let mut list = String::from("[");
    let mut whole = String::new();
    for line in lines {
        let refused = || Unbuildable::Merge { merge: short(line) };
        // A token is never empty, so the first character belongs to the left one, whatever it is.
        let first = line.chars().next().map_or(0, char::len_utf8);
        let (left, right) = line.get(first..).and_then(|rest| rest.split_once(' ')).ok_or_else(refused)?;
        let left = &line[..first + left.len()];
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        if ![left, right, &whole].iter().all(|token| known.contains(token)) {
            return Err(refused());
        }
        if list.len() > 1 {
            list.push(',');
        }
        let _ = write!(list, "[{},{}]", quoted(left), quoted(right));
    }
    list.push(']');
    Ok(list)
}
