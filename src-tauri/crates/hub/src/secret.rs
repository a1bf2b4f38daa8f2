//! The token that the hub wants to see, which nothing else may see.
//!
//! What is not here: where it is kept. It leaves this process in one place only, [`crate::client`], towards one origin.

use std::fmt;

/// A token of the hub. It does not serialise, and its `Debug` shows nothing of it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    /// Takes a token out of sight; surrounding white space is not part of it. `None` for one that could not stand in a
    /// request's header.
    pub fn new(value: &str) -> Option<Self> {
        let value = value.trim();
        let usable = !value.is_empty() && value.len() <= 4096 && value.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(value.to_owned()))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_and_never_breaks_a_header() {
        let token = Token::new(" hf_abc\n").expect("it is one");
        assert_eq!((format!("{token:?}").as_str(), token.reveal()), ("Token(secret)", "hf_abc"));
        for bad in ["", "  ", "a b", "a\r\nX: y", "é"] {
            assert!(Token::new(bad).is_none(), "{bad:?}");
        }
    }
}
