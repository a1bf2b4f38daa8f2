//! WordPiece encoding of one word: the longest token that it starts with, then the longest that continues it, and so on.
//! It knows neither what a word is nor how it was normalised.

use std::ops::Range;

use crate::hash;
use crate::layout::Tables;

/// The options of a WordPiece model.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub(crate) struct WordPieces {
    /// What a word becomes that is too long, or not made of tokens.
    pub(crate) unknown: u32,
    /// What tokens start with that continue a word.
    pub(crate) prefix: String,
    /// The most characters of a word.
    pub(crate) longest_word: usize,
}

impl WordPieces {
    /// The tokens of `word` and where in it they are.
    pub(crate) fn encode(&self, tables: &Tables<'_>, word: &str) -> Vec<(u32, Range<usize>)> {
        if word.is_empty() {
            return Vec::new();
        }
        let unknown = || vec![(self.unknown, 0..word.len())];
        // Only words with more bytes can have more characters.
        if word.len() > self.longest_word && word.chars().count() > self.longest_word {
            return unknown();
        }
        let continued = hash::extended(hash::START, self.prefix.as_bytes());
        let mut found = Vec::new();
        let mut ends = Vec::with_capacity(word.len().min(tables.longest));
        let mut start = 0;
        while start < word.len() {
            let (prefix, mut state) =
                if start == 0 { (&[][..], hash::START) } else { (self.prefix.as_bytes(), continued) };
            // No token is longer than the longest one, so a long word takes no longer per byte than a short one.
            let longest = tables.longest.saturating_sub(prefix.len());
            ends.clear();
            for character in word[start..].chars() {
                let end = ends.last().map_or(start, |(end, _)| *end) + character.len_utf8();
                if end - start > longest {
                    break;
                }
                state = hash::extended(state, character.encode_utf8(&mut [0; 4]).as_bytes());
                ends.push((end, state));
            }
            let piece = ends.iter().rev().find_map(|(end, state)| {
                let piece = &word.as_bytes()[start..*end];
                let token = tables.find(hash::finished(*state), |text| text.strip_prefix(prefix) == Some(piece))?;
                Some((token.id, start..*end))
            });
            let Some(piece) = piece else {
                return unknown();
            };
            start = piece.1.end;
            found.push(piece);
        }
        found
    }
}
