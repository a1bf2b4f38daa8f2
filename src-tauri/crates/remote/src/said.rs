//! What a server says, made fit to be shown: short, on one line, without the key.
//!
//! A server that refuses a key often repeats it, and a text from the network may hold characters that rewrite a terminal.
//! What is not here: deciding what an answer means.

use std::fmt;

use serde::Deserialize;

use crate::key::{Key, REDACTED};

/// The most characters of it that are shown.
const MOST_CHARACTERS: usize = 200;

/// A server's own words, cleaned; empty where it had none.
///
/// Shows as nothing or as `; it says: …`, to stand at the end of a sentence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Said(String);

impl Said {
    /// The words.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Said {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(formatter, "; it says: `{}`", self.0) }
    }
}

/// Cleans what comes from the other side of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cleaner<'endpoint> {
    key: Option<&'endpoint Key>,
}

/// The forms in which servers wrap a message.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wrapped {
    Nested { error: Nested },
    Text { error: String },
    Message { message: String },
    Detail { detail: String },
}

#[derive(Deserialize)]
struct Nested {
    message: String,
}

impl<'endpoint> Cleaner<'endpoint> {
    /// For a connection on which this key was sent.
    pub(crate) fn new(key: Option<&'endpoint Key>) -> Self {
        Self { key }
    }

    /// The message in the body of an answer.
    pub(crate) fn said(self, body: &[u8]) -> Said {
        let text = match serde_json::from_slice::<Wrapped>(body) {
            Ok(
                Wrapped::Nested { error: Nested { message } }
                | Wrapped::Text { error: message }
                | Wrapped::Message { message }
                | Wrapped::Detail { detail: message },
            ) => message,
            // Written again, so that the key stands in it as it is and not with escapes.
            Err(_) => match serde_json::from_slice::<serde_json::Value>(body) {
                Ok(value) => value.to_string(),
                Err(_) => String::from_utf8_lossy(body).into_owned(),
            },
        };
        Said(self.text(&text))
    }

    /// A text on one line, shortened, without the key and without what is not meant to be read.
    pub(crate) fn text(self, text: &str) -> String {
        // A backslash is part of an escape; without it the key is recognised behind one too (`\/`).
        let readable = text.chars().filter(|&character| character.is_whitespace() || !is_invisible(character));
        let readable: String = readable
            .filter(|&it| it != '\\')
            .map(|character| if character == '`' { '\'' } else { character })
            .collect();
        let line = readable.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = self.without_key(&line);
        match line.char_indices().nth(MOST_CHARACTERS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }

    fn without_key(self, text: &str) -> String {
        let Some(key) = self.key.map(|key| key.reveal().as_bytes()) else { return text.to_owned() };
        let mut kept = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            // A key is ASCII, so that a match ends between characters. Some servers repeat it in lower case.
            if rest.as_bytes().get(..key.len()).is_some_and(|start| start.eq_ignore_ascii_case(key)) {
                kept.push_str(REDACTED);
                rest = &rest[key.len()..];
            } else {
                kept.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        kept
    }
}

/// Control characters, and those that hide or turn round what stands beside them.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_message_is_found_in_the_forms_that_servers_use() {
        for body in [
            r#"{"error":{"message":"no such model","type":"x","code":null}}"#,
            r#"{"error":"no such model"}"#,
            r#"{"object":"error","message":"no such model"}"#,
            r#"{"detail":"no such model"}"#,
            "no such model",
            "  no such\r\n\tmodel ",
        ] {
            assert_eq!(Cleaner::default().said(body.as_bytes()).as_str(), "no such model", "{body}");
        }
        assert_eq!(Cleaner::default().said(br#"{"detail":[1]}"#).as_str(), r#"{"detail":[1]}"#);
        assert_eq!(Cleaner::default().said(b"").to_string(), "");
        assert_eq!(Cleaner::default().said(b"no").to_string(), "; it says: `no`");
    }

    #[test]
    fn what_rewrites_a_terminal_or_closes_a_quotation_is_left_out() {
        let shown = Cleaner::default().text("a\u{1b}[31m\u{202e}`b\u{7}\u{200b}`\u{2028}c");
        assert_eq!(shown, "a[31m'b' c");
    }

    #[test]
    fn the_key_is_recognised_behind_escapes_and_in_lower_case() {
        let key = Key::new("SK-a/b+c=").expect("it is one");
        let cleaner = Cleaner::new(Some(&key));
        for text in ["SK-a/b+c=", r"SK-a\/b+c=", "sk-A/B+C=", "S\u{0}K-a/b\u{200b}+c="] {
            assert_eq!(cleaner.text(&format!("<{text}>{text}")), "<(secret)>(secret)");
        }
        assert_eq!(cleaner.said(br#"{"seen":"SK-a\/b+c="}"#).as_str(), r#"{"seen":"(secret)"}"#);
    }

    proptest! {
        #[test]
        fn no_text_is_long_or_shows_the_key(before in ".{0,250}", after in ".{0,50}") {
            let key = Key::new("sk-hunter2").expect("it is one");
            let shown = Cleaner::new(Some(&key)).text(&format!("{before}sk-hunter2{after}"));
            prop_assert!(!shown.contains("hunter2"), "{}", shown);
            prop_assert!(shown.chars().count() <= MOST_CHARACTERS + 1);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
