//! Words that hold a sentence together and say nothing about its subject.
//!
//! A passage that shares only such words with a question does not answer it. How often a word occurs tells the same in a large
//! index, but not in a small one, where `to` may be rarer than `pump`. English only: other languages rely on the counts.

/// In lower case and in order.
const FUNCTION_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "but", "by", "can", "could", "did", "do", "does", "doing", "for", "from", "had", "has", "have",
    "having", "he", "her", "here", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "may",
    "me", "might", "must", "my", "no", "nor", "of", "on", "or", "our", "shall", "she", "should", "so", "some", "such",
    "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "too", "us",
    "very", "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with",
    "would", "you", "your",
];

/// Whether `folded` is one of them.
pub(crate) fn is_function_word(folded: &str) -> bool {
    FUNCTION_WORDS.binary_search(&folded).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_holds_no_subject() {
        assert!(FUNCTION_WORDS.is_sorted());
        assert!(is_function_word("to") && is_function_word("a") && is_function_word("your"));
        assert!(!is_function_word("tomato") && !is_function_word("") && !is_function_word("pump"));
    }
}
