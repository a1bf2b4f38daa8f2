//! From what a person typed to full-text expressions that are never a syntax error.
//!
//! Typed words are split at white space. Something in double quotes, and an identifier such as `foo_bar::baz`, is a phrase. The
//! last word may be unfinished and matches as a beginning. `AND`, `OR`, `NOT` and `NEAR` in capitals are dropped, as
//! people who know search operators type them; inside quotes they are words.

use crate::words::{Word, words};

/// More words than this are not searched: no passage is told apart by the thirty-third.
const MOST_WORDS: usize = 32;

/// A last word shorter than this is not extended: `a` would match half of the index.
const SHORTEST_BEGINNING: usize = 3;

/// A different word of the query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct QueryWord {
    /// As typed, in lower case.
    pub(crate) shown: String,
    /// As the index knows it.
    pub(crate) folded: String,
    /// Whether it stands for every word that begins with it.
    pub(crate) beginning: bool,
}

impl QueryWord {
    /// Whether the word of a text, folded, is this one.
    pub(crate) fn matches(&self, folded: &str) -> bool {
        if self.beginning { folded.starts_with(&self.folded) } else { folded == self.folded }
    }
}

/// Words that belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Unit {
    words: Vec<String>,
    beginning: bool,
}

/// A query, taken apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Query {
    /// Its different words, in the order typed.
    pub(crate) words: Vec<QueryWord>,
    units: Vec<Unit>,
}

impl Query {
    /// Takes `text` apart; a query without any letter or digit has no words.
    pub(crate) fn parse(text: &str) -> Self {
        let mut query = Self::default();
        let mut room = MOST_WORDS;
        for (piece, quoted) in pieces(text) {
            if !quoted && matches!(piece, "AND" | "OR" | "NOT" | "NEAR") {
                continue;
            }
            let found: Vec<Word<'_>> = words(piece).take(room).collect();
            room -= found.len();
            if found.is_empty() {
                continue;
            }
            for word in &found {
                query.remember(&piece[word.range.clone()], &word.folded);
            }
            let words = found.into_iter().map(|word| word.folded.into_owned()).collect();
            query.units.push(Unit { words, beginning: !quoted });
        }
        query.finish()
    }

    fn remember(&mut self, typed: &str, folded: &str) {
        if !self.words.iter().any(|word| word.folded == folded) {
            let (shown, folded) = (typed.to_lowercase(), folded.to_owned());
            self.words.push(QueryWord { shown, folded, beginning: false });
        }
    }

    fn finish(mut self) -> Self {
        let count = self.units.len();
        for (position, unit) in self.units.iter_mut().enumerate() {
            let last = unit.words.last().expect("a unit has words. This is a bug.");
            unit.beginning &= position + 1 == count && last.chars().count() >= SHORTEST_BEGINNING;
            if unit.beginning
                && let Some(word) = self.words.iter_mut().find(|word| word.folded == *last)
            {
                word.beginning = true;
            }
        }
        self
    }

    /// The expression that wants every unit in one passage; `None` if there are no words.
    pub(crate) fn all(&self) -> Option<String> {
        let units = self.units.iter().map(|unit| phrase(&unit.words, unit.beginning));
        expression(&units.collect::<Vec<_>>(), " AND ")
    }

    /// The expression that wants any of the words that `keep` approves; `None` if there are none, or if it would say the
    /// same as [`Query::all`].
    pub(crate) fn any(&self, keep: impl Fn(&QueryWord) -> bool) -> Option<String> {
        if self.words.len() < 2 {
            return None;
        }
        let words = self.words.iter().filter(|word| keep(word));
        let phrases: Vec<String> =
            words.map(|word| phrase(std::slice::from_ref(&word.folded), word.beginning)).collect();
        expression(&phrases, " OR ")
    }
}

fn phrase(words: &[String], beginning: bool) -> String {
    format!("\"{}\"{}", words.join(" "), if beginning { " *" } else { "" })
}

fn expression(phrases: &[String], operator: &str) -> Option<String> {
    (!phrases.is_empty()).then(|| phrases.join(operator))
}

/// The pieces of `text` between white space or inside double quotes, and whether they were quoted.
fn pieces(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    // Every second part is inside quotes; a quote that is never closed opens none.
    let parts: Vec<&str> = text.split('"').collect();
    for (position, part) in parts.iter().enumerate() {
        if position % 2 == 1 && position + 1 < parts.len() {
            pieces.push((*part, true));
        } else {
            pieces.extend(part.split_whitespace().map(|piece| (piece, false)));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_identifiers_and_quotes_become_phrases() {
        let query = Query::parse("how foo_bar::baz \"exact AND phrase\" Lo");
        assert_eq!(query.all().unwrap(), r#""how" AND "foo bar baz" AND "exact and phrase" AND "lo""#);
        assert_eq!(Query::parse("open fil").all().unwrap(), r#""open" AND "fil" *"#);
        assert_eq!(Query::parse("cats AND NOT dogs OR").all().unwrap(), r#""cats" AND "dogs" *"#);
        assert_eq!(Query::parse("open open files").any(|_| true).unwrap(), r#""open" OR "files" *"#);
        assert_eq!(Query::parse("open").any(|_| true), None);
        assert_eq!(Query::parse(" ?! \" ").all(), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_syntax_error(text in prop_oneof!["\\PC{0,60}", "[a-z\"*^:(){}+ \\-]{0,40}",
            "(AND|OR|NOT|NEAR|\"|\\(|\\)|\\*|col:|[a-z]{1,4}|\u{0}| ){0,80}"]) {
            let database = rusqlite::Connection::open_in_memory().unwrap();
            database.execute_batch("CREATE VIRTUAL TABLE words USING fts5(name, text, tokenize = 'ascii')").unwrap();
            let query = Query::parse(&text);
            for expression in [query.all(), query.any(|_| true)].into_iter().flatten() {
                let found: Result<i64, _> =
                    database.query_row("SELECT count(*) FROM words WHERE words MATCH ?1", [&expression], |row| row.get(0));
                prop_assert_eq!(found.map_err(|error| format!("{expression}: {error}")), Ok(0));
            }
        }
    }
}
