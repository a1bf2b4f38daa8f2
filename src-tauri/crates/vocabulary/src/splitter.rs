//! The words of Qwen's tokenizers: what its regular expression finds, found by hand. Compiling that expression takes longer
//! than a worker has for its first answer, and running it longer than everything else. It knows this one expression.

use crate::characters::{Kind, kind};

/// The expression that [`words`] does.
pub(crate) const PATTERN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The words of `text`, end to end: every character is in one.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (word, after) = rest.split_at(length(rest, first));
        rest = after;
        Some(word)
    })
}

/// Bytes of the word that `text` starts with; `first` is its first character. The alternatives in the order in which the
/// expression tries them.
fn length(text: &str, first: char) -> usize {
    let after_first = &text[first.len_utf8()..];
    if first == '\''
        && let Some(length) = contraction(after_first)
    {
        return first.len_utf8() + length;
    }
    let first_kind = kind(first);
    match first_kind {
        Kind::Letter => return first.len_utf8() + while_kind(after_first, Kind::Letter),
        Kind::Number => return first.len_utf8(),
        Kind::Space | Kind::Other => {}
    }
    let letters = while_kind(after_first, Kind::Letter);
    if letters > 0 && !is_line_end(first) {
        return first.len_utf8() + letters;
    }
    if first_kind == Kind::Other || first == ' ' {
        let others = while_kind(after_first, Kind::Other);
        if first_kind == Kind::Other || others > 0 {
            let end = first.len_utf8() + others;
            return end + while_true(&text[end..], is_line_end);
        }
    }
    space(text)
}

/// Bytes of the white space that `text` starts with, as far as it is a word of its own: up to the last end of a line, or all
/// of it at the end of the text, or all but the character before the next word.
fn space(text: &str) -> usize {
    let run = &text[..while_kind(text, Kind::Space)];
    if let Some(last) = run.rfind(is_line_end) {
        return last + 1;
    }
    match run.char_indices().next_back() {
        Some((last, _)) if last > 0 && run.len() < text.len() => last,
        _ => run.len(),
    }
}

/// Bytes of what may follow an apostrophe in one word with it.
fn contraction(text: &str) -> Option<usize> {
    let mut characters = text.chars();
    let first = characters.next()?;
    let second = characters.next();
    match first {
        // The long s is an s to an expression that ignores case.
        's' | 'S' | '\u{17f}' | 't' | 'T' | 'm' | 'M' | 'd' | 'D' => Some(first.len_utf8()),
        'r' | 'R' | 'v' | 'V' => matches!(second, Some('e' | 'E')).then_some(2),
        'l' | 'L' => matches!(second, Some('l' | 'L')).then_some(2),
        _ => None,
    }
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

fn while_kind(text: &str, wanted: Kind) -> usize {
    while_true(text, |character| kind(character) == wanted)
}

fn while_true(text: &str, wanted: impl Fn(char) -> bool) -> usize {
    text.find(|character| !wanted(character)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

    use super::*;

    fn expression() -> Split {
        Split::new(SplitPattern::Regex(PATTERN.to_owned()), SplitDelimiterBehavior::Isolated, false).unwrap()
    }

    fn by_expression(expression: &Split, text: &str) -> Vec<String> {
        let mut split = PreTokenizedString::from(text);
        expression.pre_tokenize(&mut split).unwrap();
        let words = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.into_iter().map(|(word, _, _)| word.to_owned()).collect()
    }

    fn assert_same(expression: &Split, text: &str) {
        assert_eq!(words(text).collect::<Vec<_>>(), by_expression(expression, text), "{text:?}");
    }

    #[test]
    fn every_alternative_is_that_of_the_expression() {
        let expression = expression();
        let texts = [
            "it's IT'S we'RE we'r 'l 'll 'LLama 'ſ 'K don''t 'é ''s",
            "a  b   c\t\td \u{a0}e\u{3000}f  ",
            "a \n b\r\n\r\n  c \n",
            "  \n  x\n\n  ",
            " . .. !\n\n ?\r\nword ...word -word\n",
            "x1234 ½Ⅷ² 12.5",
            "\u{301}combining a\u{301}b \u{301}",
            "中文，没有空格。日本語テスト",
            "\n\na\tb\t c",
            " ",
            "\n",
            "\r",
            "'",
        ];
        for text in texts {
            assert_same(&expression, text);
        }
    }

    #[test]
    fn every_character_is_what_it_is_to_the_expression() {
        let expression = expression();
        // Between two letters, and between white space: all kinds are told apart by one of both.
        for character in '\0'..=char::MAX {
            assert_same(&expression, &format!("a{character}a  {character} '{character}"));
        }
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_expression(text in "[a-cA-C0-2'sStTrReEvVlLmMdDſ .,!\\r\\n\\t\u{a0}\u{301}é中½]{0,40}") {
            assert_same(&expression(), &text);
        }

        #[test]
        fn words_of_any_text_are_those_of_the_expression(text in any::<String>()) {
            assert_same(&expression(), &text);
        }
    }
}
