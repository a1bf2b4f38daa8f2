//! What a word is, decided once: for the index, for queries and for the marks in a snippet.
//!
//! A word is a run of letters and digits, folded to lower case without accents (`Café` is `cafe`). Chinese characters and
//! Japanese kana are words of one character each, because these scripts put no space between words; a query of several is
//! searched as a phrase. SQLite's own tokenizers are not used for this: marks could not be made to agree with them.

use std::borrow::Cow;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A word of a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Word<'text> {
    /// Its bytes in the text.
    pub(crate) range: Range<usize>,
    /// What it is compared by: never empty, letters and digits only.
    pub(crate) folded: Cow<'text, str>,
}

/// The words of `text` in their order.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut characters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = characters.find(|(_, character)| character.is_alphanumeric())?;
        let mut end = start + first.len_utf8();
        if !stands_alone(first) {
            while let Some((at, next)) = characters
                .next_if(|(_, next)| (next.is_alphanumeric() && !stands_alone(*next)) || is_combining_mark(*next))
            {
                end = at + next.len_utf8();
            }
        }
        Some(Word { range: start..end, folded: fold(&text[start..end]) })
    })
}

/// The words of `text`, folded and set apart by single spaces, as the full-text table takes them.
pub(crate) fn joined(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in words(text) {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(&word.folded);
    }
    joined
}

fn fold(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(word.to_ascii_lowercase());
        }
        return Cow::Borrowed(word);
    }
    // Decomposition can yield marks, spaces and brackets (`㈠`), which would be no part of a word.
    let folded: String =
        word.nfkd().flat_map(char::to_lowercase).filter(|it| it.is_alphanumeric() && !is_combining_mark(*it)).collect();
    if folded.is_empty() { Cow::Borrowed(word) } else { Cow::Owned(folded) }
}

fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x3040..=0x30FF        // hiragana, katakana
        | 0x3400..=0x4DBF      // Han, extension A
        | 0x4E00..=0x9FFF      // Han
        | 0xF900..=0xFAFF      // Han, compatibility
        | 0x2_0000..=0x3_FFFF  // Han, further extensions
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identifiers_accents_and_chinese_become_words() {
        assert_eq!(joined("foo_bar::baz(Café, 12px)"), "foo bar baz cafe 12px");
        assert_eq!(joined("內存壓力 im Größenwahn"), "內 存 壓 力 im großenwahn");
        assert_eq!(joined("e\u{301}te\u{301}"), "ete");
        assert_eq!(joined("— … !"), "");
    }

    proptest! {
        #[test]
        fn words_are_letters_and_digits_in_order_inside_the_text(text in "\\PC*") {
            let mut last = 0;
            for word in words(&text) {
                prop_assert!(word.range.start >= last && word.range.end > word.range.start);
                prop_assert!(text.get(word.range.clone()).is_some());
                prop_assert!(!word.folded.is_empty());
                prop_assert!(word.folded.bytes().all(|byte| !byte.is_ascii() || byte.is_ascii_alphanumeric()));
                last = word.range.end;
            }
        }
    }
}
