//! The part of a passage to show: where the matching words are densest, cut between words, white space folded.

use std::collections::HashSet;
use std::ops::Range;

use embedbar_contract::Mark;

use crate::query::QueryWord;
use crate::words::words;

/// The most characters of a snippet.
pub(crate) const LONGEST: usize = 240;

/// How many characters stand before the first match, so that it is read in its context.
const LEAD: usize = 50;

/// How far a cut may move to fall between two words.
const SLACK: usize = 30;

/// A piece of a passage with its matching words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Snippet {
    pub(crate) text: String,
    pub(crate) marks: Vec<Mark>,
    /// Byte of the passage at which the first marked word begins.
    pub(crate) first_match: Option<usize>,
}

/// Text with its white space folded to single spaces, and where each character was.
struct Folded {
    characters: Vec<char>,
    /// Byte of the original for each character.
    origins: Vec<usize>,
}

/// A matching word, in characters of the folded text.
struct Match {
    range: Range<usize>,
    /// Which of the query's words it is.
    word: usize,
}

/// Cuts the snippet of `passage` for `wanted`.
pub(crate) fn snippet(passage: &str, wanted: &[&QueryWord]) -> Snippet {
    let folded = fold_space(passage);
    let matches = matches(&folded, wanted);
    let densest = densest(&matches);
    let window = window(&folded.characters, densest.map(|first| matches[first].range.start));
    let (cut_before, cut_after) = (window.start > 0, window.end < folded.characters.len());
    let mut text = String::new();
    if cut_before {
        text.push('…');
    }
    text.extend(&folded.characters[window.clone()]);
    if cut_after {
        text.push('…');
    }
    let shown: Vec<&Match> =
        matches.iter().filter(|it| it.range.start >= window.start && it.range.end <= window.end).collect();
    let shift = |at: usize| at - window.start + usize::from(cut_before);
    Snippet {
        text,
        marks: shown.iter().map(|it| Mark { start: shift(it.range.start), end: shift(it.range.end) }).collect(),
        first_match: shown.first().map(|it| folded.origins[it.range.start]),
    }
}

/// The words of `wanted` that `passage` holds, as they were typed.
pub(crate) fn matched(passage: &str, wanted: &[QueryWord]) -> Vec<String> {
    let mut found = vec![false; wanted.len()];
    for word in words(passage) {
        for (place, query_word) in wanted.iter().enumerate() {
            found[place] |= query_word.matches(&word.folded);
        }
    }
    wanted.iter().zip(found).filter(|(_, found)| *found).map(|(word, _)| word.shown.clone()).collect()
}

fn fold_space(passage: &str) -> Folded {
    let mut folded = Folded { characters: Vec::new(), origins: Vec::new() };
    for (at, character) in passage.char_indices() {
        // Control characters would be invisible at best.
        let space = character.is_whitespace() || character.is_control();
        if space && folded.characters.last().is_none_or(|last| *last == ' ') {
            continue;
        }
        folded.characters.push(if space { ' ' } else { character });
        folded.origins.push(at);
    }
    if folded.characters.last() == Some(&' ') {
        folded.characters.pop();
        folded.origins.pop();
    }
    folded
}

fn matches(folded: &Folded, wanted: &[&QueryWord]) -> Vec<Match> {
    let text: String = folded.characters.iter().collect();
    // Words come in order, so that their bytes become character counts in one walk.
    let mut starts = text.char_indices().map(|(byte, _)| byte).enumerate().peekable();
    let mut count_at = |byte: usize| {
        while starts.next_if(|(_, start)| *start < byte).is_some() {}
        starts.peek().map_or(folded.characters.len(), |(count, _)| *count)
    };
    words(&text)
        .filter_map(|word| {
            let which = wanted.iter().position(|query_word| query_word.matches(&word.folded))?;
            let start = count_at(word.range.start);
            Some(Match { range: start..count_at(word.range.end), word: which })
        })
        .collect()
}

/// The match from which a snippet's length holds the most different words, then the most words; the first of equals.
fn densest(matches: &[Match]) -> Option<usize> {
    let reach = LONGEST - LEAD;
    let worth = |first: usize| {
        let end = matches[first].range.start + reach;
        let held: Vec<usize> = matches[first..].iter().take_while(|it| it.range.end <= end).map(|it| it.word).collect();
        (held.iter().collect::<HashSet<_>>().len(), held.len())
    };
    (0..matches.len()).max_by_key(|first| (worth(*first), std::cmp::Reverse(*first)))
}

/// The characters to show, an ellipsis at either end allowed for.
fn window(characters: &[char], first_match: Option<usize>) -> Range<usize> {
    if characters.len() <= LONGEST {
        return 0..characters.len();
    }
    let room = LONGEST - 2;
    let wanted = first_match.map_or(0, |first| first.saturating_sub(LEAD));
    // A match near the end leaves room for more of what is before it.
    let wanted = wanted.min(characters.len() - room);
    let start = match wanted {
        0 => 0,
        _ => (wanted..(wanted + SLACK).min(first_match.unwrap_or(wanted)))
            .find(|at| characters[*at - 1] == ' ')
            .unwrap_or(wanted),
    };
    let most = (start + room).min(characters.len());
    let end = if most == characters.len() {
        most
    } else {
        (most - SLACK..most).rev().find(|at| characters[*at] == ' ').unwrap_or(most)
    };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use crate::words::words;
    use proptest::prelude::*;

    fn cut(passage: &str, query: &str) -> (Snippet, Vec<String>) {
        let query = Query::parse(query);
        let snippet = snippet(passage, &query.words.iter().collect::<Vec<_>>());
        let characters: Vec<char> = snippet.text.chars().collect();
        let marked = snippet.marks.iter().map(|mark| characters[mark.start..mark.end].iter().collect()).collect();
        (snippet, marked)
    }

    #[test]
    fn the_snippet_is_cut_where_the_words_are_densest() {
        let filler = "nothing of note is said here and it goes on. ".repeat(12);
        let passage = format!("Memory first. {filler}\nWhen memory\n  pressure rises, swap begins. {filler}");
        let (snippet, marked) = cut(&passage, "swap memory press");
        assert_eq!(marked, ["memory", "pressure", "swap"]);
        assert!(snippet.text.starts_with('…') && snippet.text.ends_with('…'), "{}", snippet.text);
        assert!(snippet.text.contains("When memory pressure rises"), "{}", snippet.text);
        assert_eq!(&passage[snippet.first_match.unwrap()..][..6], "memory");
    }

    #[test]
    fn without_a_match_the_beginning_is_shown() {
        let (snippet, marked) = cut(&"word ".repeat(100), "absent");
        assert!(snippet.text.starts_with("word word") && snippet.text.ends_with("word…"));
        assert!(marked.is_empty() && snippet.first_match.is_none());
    }

    #[test]
    fn a_passage_without_a_space_is_cut_all_the_same() {
        let (snippet, marked) = cut(&format!("{} needle {}", "x".repeat(400), "y".repeat(400)), "needle");
        assert_eq!(snippet.text.chars().count(), LONGEST);
        assert_eq!(marked, ["needle"]);
    }

    proptest! {
        #[test]
        fn marks_lie_inside_the_snippet_on_words_of_the_query(
            passage in prop_oneof!["(\\PC{0,8}[ \n]){0,80}", "([a-dÀé中]{1,4}[ \n\t_.]{1,3}){0,200}"],
            query in prop_oneof!["\\PC{0,20}", "[a-dÀé中]{1,4}( [a-d]{1,3}){0,3}"],
        ) {
            let parsed = Query::parse(&query);
            let (snippet, marked) = cut(&passage, &query);
            let length = snippet.text.chars().count();
            prop_assert!(length <= LONGEST);
            let mut last = 0;
            for (mark, marked) in snippet.marks.iter().zip(&marked) {
                prop_assert!(mark.start >= last && mark.start < mark.end && mark.end <= length);
                last = mark.end;
                let folded = words(marked).next().unwrap().folded.into_owned();
                prop_assert!(parsed.words.iter().any(|word| folded.starts_with(&word.folded)), "{marked}");
            }
            let holds = words(&passage).any(|word| parsed.words.iter().any(|it| it.matches(&word.folded)));
            prop_assert_eq!(holds, !snippet.marks.is_empty());
            prop_assert_eq!(holds, !matched(&passage, &parsed.words).is_empty());
            let bare = snippet.text.trim_matches('…');
            let original: String = fold_space(&passage).characters.into_iter().collect();
            prop_assert!(original.contains(bare.trim_matches('…')));
        }
    }
}
