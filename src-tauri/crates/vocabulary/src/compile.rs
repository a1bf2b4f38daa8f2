//! From a `tokenizer.json` to the bytes of a compiled file. It reads all of the vocabulary, and takes as long as the library
//! takes to do so; `layout` says what the bytes mean.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::layout::{self, CHARACTERS, HEADER, Header, LONGEST, Layout, MOST_PROBES, NONE, Tables, WHOLE};
use crate::settings::{ModelSettings, Parts, WrittenSettings};
use crate::word_pieces::WordPieces;
use crate::{MappedTokenizer, VocabularyError, byte_pairs, hash};

/// A vocabulary has a table by id: ids may have gaps, but not more gaps than tokens.
const MOST_RECORDS_PER_TOKEN: usize = 2;
/// More tokens than any vocabulary has.
const MOST_TOKENS: usize = 1 << 24;
/// A word of more characters takes the library minutes; no tokenizer allows one.
const LONGEST_WORD: u64 = 10_000;

// The library refuses what it does not know as well; a misspelt part would be left out without a word.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerJson<'json> {
    version: Option<String>,
    #[serde(borrow)]
    model: &'json RawValue,
    #[serde(borrow)]
    truncation: Option<&'json RawValue>,
    #[serde(borrow)]
    padding: Option<&'json RawValue>,
    #[serde(borrow)]
    added_tokens: Option<&'json RawValue>,
    #[serde(borrow)]
    normalizer: Option<&'json RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'json RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'json RawValue>,
    #[serde(borrow)]
    decoder: Option<&'json RawValue>,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct WordPieceJson {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: u64,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
struct BytePairJson {
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    vocab: HashMap<String, u32>,
    merges: MergesJson,
}

/// Pairs, or lines of two words in older files.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergesJson {
    Pairs(Vec<(String, String)>),
    Lines(Vec<String>),
}

/// Compiles a `tokenizer.json`. A tokenizer without a compiled form is [`VocabularyError::Unsupported`].
pub fn compile(tokenizer_json: &[u8]) -> Result<Vec<u8>, VocabularyError> {
    let not_a_tokenizer = |source| VocabularyError::NotATokenizer { source };
    let whole: TokenizerJson = serde_json::from_slice(tokenizer_json).map_err(not_a_tokenizer)?;
    if let Some(version) = whole.version.filter(|version| version != "1.0") {
        return Err(VocabularyError::unsupported(format!("version `{version}`")));
    }
    let kind: ModelKind = serde_json::from_str(whole.model.get()).map_err(not_a_tokenizer)?;
    let (vocabulary, merges, model, always_whole) = match kind.name.as_deref() {
        Some("WordPiece") => {
            let json = serde_json::from_str(whole.model.get()).map_err(not_a_tokenizer)?;
            let (vocabulary, model) = word_piece(json)?;
            (vocabulary, Vec::new(), model, false)
        }
        Some("BPE") => {
            let json: BytePairJson = serde_json::from_str(whole.model.get()).map_err(not_a_tokenizer)?;
            let always_whole = json.ignore_merges == Some(true);
            let (vocabulary, merges) = byte_pair(json)?;
            (vocabulary, merges, ModelSettings::BytePair, always_whole)
        }
        name => return Err(VocabularyError::unsupported(format!("the model `{}`", name.unwrap_or("without a type")))),
    };
    let byte_pairs = model == ModelSettings::BytePair;
    let parts = Parts {
        truncation: whole.truncation,
        padding: whole.padding,
        added_tokens: whole.added_tokens,
        normalizer: whole.normalizer,
        pre_tokenizer: whole.pre_tokenizer,
        post_processor: whole.post_processor,
        decoder: whole.decoder,
    };
    let settings = serde_json::to_vec(&WrittenSettings { model, parts }).map_err(not_a_tokenizer)?;

    let mut bytes = written(&vocabulary, &merges, &settings)?;
    if byte_pairs {
        mark_whole_tokens(&mut bytes, always_whole)?;
    }
    // What the library refuses of the settings is found out now, not when the file is needed.
    let bytes = Arc::new(bytes);
    MappedTokenizer::open(Arc::<Vec<u8>>::clone(&bytes))?;
    Ok(Arc::unwrap_or_clone(bytes))
}

fn word_piece(json: WordPieceJson) -> Result<(Vocabulary, ModelSettings), VocabularyError> {
    let Some(&unknown) = json.vocab.get(&json.unk_token) else {
        let reason = format!("the token `{}` for unknown words is not in the vocabulary", json.unk_token);
        return Err(VocabularyError::unsupported(reason));
    };
    if json.max_input_chars_per_word > LONGEST_WORD {
        let reason = format!("words of `{}` characters", json.max_input_chars_per_word);
        return Err(VocabularyError::unsupported(reason));
    }
    let longest_word = json.max_input_chars_per_word as usize;
    let pieces = WordPieces { unknown, prefix: json.continuing_subword_prefix, longest_word };
    Ok((Vocabulary::new(json.vocab)?, ModelSettings::WordPiece(pieces)))
}

fn byte_pair(json: BytePairJson) -> Result<(Vocabulary, Vec<MergeRule>), VocabularyError> {
    let filled = |option: &Option<String>| option.as_ref().is_some_and(|text| !text.is_empty());
    let options = [
        ("dropout", json.dropout.is_some_and(|dropout| dropout != 0.0)),
        ("unk_token", json.unk_token.is_some()),
        ("continuing_subword_prefix", filled(&json.continuing_subword_prefix)),
        ("end_of_word_suffix", filled(&json.end_of_word_suffix)),
        ("byte_fallback", json.byte_fallback == Some(true)),
    ];
    if let Some((option, _)) = options.iter().find(|(_, used)| *used) {
        return Err(VocabularyError::unsupported(format!("BPE with `{option}`")));
    }
    let pairs = match json.merges {
        MergesJson::Pairs(pairs) => pairs,
        MergesJson::Lines(lines) => lines
            .iter()
            .filter(|line| !line.starts_with("#version"))
            .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                [left, right] => Ok((left.to_owned(), right.to_owned())),
                _ => Err(VocabularyError::unsupported(format!("the merge `{line}` is not of two tokens"))),
            })
            .collect::<Result<_, _>>()?,
    };
    let mut rules = HashMap::with_capacity(pairs.len());
    for (rank, (left, right)) in (0..NONE).zip(&pairs) {
        let merged = format!("{left}{right}");
        let ids = [left, right, &merged].map(|token| json.vocab.get(token).copied());
        let [Some(left), Some(right), Some(merged)] = ids else {
            let reason = format!("the merge to `{merged}` is not of tokens of the vocabulary");
            return Err(VocabularyError::unsupported(reason));
        };
        // Of a pair that is there twice the last one counts, as in the library.
        rules.insert((left, right), (rank, merged));
    }
    let mut rules: Vec<MergeRule> =
        rules.into_iter().map(|((left, right), (rank, merged))| MergeRule { left, right, rank, merged }).collect();
    rules.sort_unstable_by_key(|rule| rule.rank);
    Ok((Vocabulary::new(json.vocab)?, rules))
}

struct MergeRule {
    left: u32,
    right: u32,
    rank: u32,
    merged: u32,
}

/// The tokens in the order of their ids.
struct Vocabulary {
    tokens: Vec<(u32, String)>,
    largest: u32,
    longest: usize,
}

impl Vocabulary {
    fn new(vocabulary: HashMap<String, u32>) -> Result<Self, VocabularyError> {
        let unsupported = |reason: String| Err(VocabularyError::unsupported(reason));
        let mut tokens: Vec<(u32, String)> = vocabulary.into_iter().map(|(text, id)| (id, text)).collect();
        tokens.sort_unstable();
        let Some(&(largest, _)) = tokens.last() else {
            return unsupported("a vocabulary without tokens".to_owned());
        };
        if tokens.len() > MOST_TOKENS || largest as usize >= tokens.len() * MOST_RECORDS_PER_TOKEN {
            return unsupported(format!("`{}` tokens with ids up to `{largest}`", tokens.len()));
        }
        if let Some(two) = tokens.windows(2).find(|two| two[0].0 == two[1].0) {
            return unsupported(format!("the tokens `{}` and `{}` have the same id", two[0].1, two[1].1));
        }
        let longest = tokens.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
        if longest > LONGEST as usize {
            return unsupported(format!("a token of `{longest}` bytes"));
        }
        Ok(Self { tokens, largest, longest })
    }

    fn text_length(&self) -> usize {
        self.tokens.iter().map(|(_, text)| text.len()).sum()
    }
}

/// All of the file, without marks at the tokens that stay whole.
fn written(vocabulary: &Vocabulary, merges: &[MergeRule], settings: &[u8]) -> Result<Vec<u8>, VocabularyError> {
    let tokens = vocabulary.tokens.iter().map(|(id, text)| {
        let hash = hash::of_bytes(text.as_bytes());
        (hash, [hash as u32, *id])
    });
    let token_slots = slots(&tokens, [NONE; 2], |slot| slot[1] == NONE)?;
    let pairs = merges.iter().map(|rule| {
        let MergeRule { left, right, rank, merged } = *rule;
        (hash::of_pair(left, right), [left, right, rank, merged])
    });
    let pair_slots = slots(&pairs, [NONE; 4], |slot| slot[2] == NONE)?;

    let too_large = || VocabularyError::unsupported("it is larger than a compiled file can be");
    let header = Header {
        settings: u32::try_from(settings.len()).map_err(|_| too_large())?,
        tokens: vocabulary.tokens.len() as u32,
        records: vocabulary.largest + 1,
        text: u32::try_from(vocabulary.text_length()).map_err(|_| too_large())?,
        token_slots: token_slots.len() as u32,
        pair_slots: pair_slots.len() as u32,
        longest: vocabulary.longest as u32,
    };
    let layout = Layout::of(header).ok_or_else(too_large)?;

    let mut characters = vec![NONE; CHARACTERS as usize];
    let mut records = vec![[0, NONE]; header.records as usize];
    let mut text = Vec::with_capacity(vocabulary.text_length());
    for (id, token) in &vocabulary.tokens {
        records[*id as usize] = [text.len() as u32, token.len() as u32];
        text.extend_from_slice(token.as_bytes());
        let mut only = token.chars();
        if let (Some(character), None) = (only.next(), only.next())
            && let Some(place) = characters.get_mut(character as usize)
        {
            *place = *id;
        }
    }

    let mut bytes = vec![0; layout.text.end];
    bytes[..HEADER].copy_from_slice(&header.sealed(settings));
    bytes[layout.settings].copy_from_slice(settings);
    put(&mut bytes[layout.characters], characters.iter());
    put(&mut bytes[layout.token_slots], token_slots.iter().flatten());
    put(&mut bytes[layout.pair_slots], pair_slots.iter().flatten());
    put(&mut bytes[layout.records], records.iter().flatten());
    bytes[layout.text].copy_from_slice(&text);
    Ok(bytes)
}

fn put<'number>(place: &mut [u8], numbers: impl Iterator<Item = &'number u32>) {
    for (place, number) in place.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// A table of `entries` by their hashes, large enough that every one is found within [`MOST_PROBES`].
fn slots<const NUMBERS: usize>(
    entries: &(impl ExactSizeIterator<Item = (u64, [u32; NUMBERS])> + Clone),
    empty: [u32; NUMBERS],
    is_empty: impl Fn(&[u32; NUMBERS]) -> bool,
) -> Result<Vec<[u32; NUMBERS]>, VocabularyError> {
    // A half more than the entries: with fuller tables more is looked at that is not there.
    let smallest = (entries.len() * 3 / 2).next_power_of_two();
    'larger: for count in [smallest, smallest * 2, smallest * 4] {
        let mut slots = vec![empty; count];
        for (hash, entry) in entries.clone() {
            let first = layout::first_slot(count, hash);
            let mut places = (0..MOST_PROBES.min(count)).map(|step| (first + step) & (count - 1));
            match places.find(|place| is_empty(&slots[*place])) {
                Some(place) => slots[place] = entry,
                None => continue 'larger,
            }
        }
        return Ok(slots);
    }
    Err(VocabularyError::unsupported("its tokens collide more often than chance has it"))
}

/// Marks the tokens whose text alone becomes just them: those need no merging. With `always` they all do.
fn mark_whole_tokens(bytes: &mut [u8], always: bool) -> Result<(), VocabularyError> {
    let layout = Layout::read(bytes)?;
    let tables = layout.tables(bytes);
    let whole: Vec<u32> =
        tables.all().filter(|(id, text)| always || is_whole(&tables, *id, text)).map(|(id, _)| id).collect();
    let records = &mut bytes[layout.records].as_chunks_mut::<8>().0;
    for id in whole {
        let length = &mut records[id as usize][4..];
        let marked = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) | WHOLE;
        length.copy_from_slice(&marked.to_le_bytes());
    }
    Ok(())
}

fn is_whole(tables: &Tables<'_>, id: u32, text: &str) -> bool {
    let mut ids = Vec::new();
    byte_pairs::encode(tables, text, |id, _| ids.push(id));
    ids == [id]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_holds_every_entry_where_it_is_looked_for() {
        let entries = (0..1000_u32).map(|number| (hash::of_pair(number, number), [number, 0]));
        let slots = slots(&entries, [NONE; 2], |slot| slot[0] == NONE).unwrap();
        assert_eq!(slots.len(), 2048);
        assert_eq!(slots.iter().filter(|slot| slot[0] != NONE).count(), 1000);
    }

    #[test]
    fn entries_with_one_hash_are_refused_once_they_are_more_than_are_looked_at() {
        let table = |count: u32| slots(&(0..count).map(|number| (7 << 32, [number])), [NONE], |slot| slot[0] == NONE);
        assert!(table(MOST_PROBES as u32).is_ok());
        assert!(matches!(table(MOST_PROBES as u32 + 1), Err(VocabularyError::Unsupported { .. })));
    }
}
