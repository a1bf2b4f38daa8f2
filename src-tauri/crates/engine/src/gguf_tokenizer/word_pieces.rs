//! BERT's WordPiece. llama.cpp marks where words start (`word` becomes `▁word`, `##piece` becomes `piece`) and leaves control
//! tokens as they are; older converters left everything in brackets.

use serde_json::json;

use super::{
    Unbuildable,
    json::{self, Parts, numbered, quoted},
    metadata::Metadata,
    vocabulary::{Kind, Vocabulary, added, refuse_doubled},
};

/// What marks the start of a word.
const WORD_START: char = '\u{2581}';
/// The ids that llama.cpp takes where a file names none: those of the first BERT.
const UNKNOWN: u32 = 100;
const CLASS: u32 = 101;
const SEPARATOR: u32 = 102;
/// One in so many pieces with a capital letter makes a vocabulary one that keeps them; one without has none at all.
const CAPITALS: usize = 100;

pub(super) fn tokenizer(metadata: &Metadata) -> Result<String, Unbuildable> {
    let vocabulary = Vocabulary::read(metadata)?;
    let pieces: Vec<(u32, String, Kind)> =
        vocabulary.used().map(|(id, text, kind)| (id, piece(text, kind), kind)).collect();
    refuse_doubled(&pieces)?;
    refuse_sentence_pieces(&pieces)?;
    let token = |key, id: Option<u32>| {
        let found = id.and_then(|id| pieces.binary_search_by_key(&id, |piece| piece.0).ok());
        let found = found.map(|place| (pieces[place].1.as_str(), pieces[place].0));
        found.ok_or_else(|| Unbuildable::key(key, "is missing, and the vocabulary has no token at the usual place"))
    };
    let named = vocabulary.named;
    let (unknown, _) = token("unknown_token_id", named.unknown.or(Some(UNKNOWN)))?;
    let before = token("cls_token_id", named.class.or(named.begin).or(Some(CLASS)))?;
    let after = token("seperator_token_id", named.separator.or(named.end).or(Some(SEPARATOR)))?;

    let lowercase = metadata.flag("normalizer.lowercase").unwrap_or_else(|| !keeps_capitals(&pieces));
    // Without a word of it, accents go where capitals go, as BERT's own tokenizer has it.
    let accents = metadata.flag("normalizer.strip_accents").filter(|&strip| strip != lowercase);
    let model = format!(
        "{{\"type\":\"WordPiece\",\"unk_token\":{},\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\
         \"vocab\":{}}}",
        quoted(unknown),
        numbered(pieces.iter().map(|(id, text, _)| (text.as_str(), *id)))
    );
    let parts = Parts {
        added: added(&pieces),
        padding: named
            .padding
            .and_then(|id| token("padding_token_id", Some(id)).ok())
            .map(|(text, id)| (id, text.into())),
        normalizer: json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": accents, "lowercase": lowercase}),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        post_processor: json::template(Some(before), Some(after), None, 1),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
    };
    Ok(parts.around(&model))
}

/// A piece as the original vocabulary has it.
fn piece(text: &str, kind: Kind) -> String {
    let word = text.strip_prefix(WORD_START).filter(|word| !word.is_empty());
    let is_bracketed = |text: &str| text.len() > 2 && text.starts_with('[') && text.ends_with(']');
    match word {
        // A token that stands around texts may be marked all the same, where the file does not call it a control token.
        Some(word) if kind != Kind::Control || is_bracketed(word) => word.to_owned(),
        _ if kind == Kind::Control || kind == Kind::Unknown || is_bracketed(text) => text.to_owned(),
        // The mark alone is the piece `##▁`, since no piece is empty.
        _ => format!("##{text}"),
    }
}

fn keeps_capitals(pieces: &[(u32, String, Kind)]) -> bool {
    let normal = || pieces.iter().filter(|(_, text, kind)| *kind == Kind::Normal && !text.starts_with('['));
    let capital = normal().filter(|(_, text, _)| text.contains(|letter: char| letter.is_ascii_uppercase())).count();
    capital * CAPITALS > normal().count()
}

/// multilingual-e5-small is a BERT with SentencePiece's vocabulary, which a converter takes for WordPiece: every word has the
/// mark twice then, and no text would be split as the model's author split it.
fn refuse_sentence_pieces(pieces: &[(u32, String, Kind)]) -> Result<(), Unbuildable> {
    let marked = pieces.iter().filter(|(_, text, _)| text.starts_with(WORD_START)).count();
    if marked * 10 > pieces.len() {
        return Err(Unbuildable::key("tokens", "are SentencePiece's, which the file calls WordPiece's"));
    }
    Ok(())
}
