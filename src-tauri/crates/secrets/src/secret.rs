//! A secret that does not show itself.

use std::fmt;

/// The most bytes of a secret.
pub(crate) const MOST: usize = 4096;

/// A token or the like: one line of text. It does not serialise, and its `Debug` shows nothing of it.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret out of sight; surrounding white space is not part of it. `None` for what is empty, more than a line, or
    /// longer than 4096 bytes.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let usable = !text.is_empty() && text.len() <= MOST && !text.contains(char::is_control);
        usable.then(|| Self(text.to_owned()))
    }

    /// The secret itself, to be sent where it belongs and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_line_and_never_shown() {
        let secret = Secret::new(" hf_abc\n").expect("a secret");
        assert_eq!((secret.reveal(), format!("{secret:?}").as_str()), ("hf_abc", "Secret(hidden)"));
        for bad in ["", " \n", "a\nb", "a\0b", &"x".repeat(MOST + 1)] {
            assert!(Secret::new(bad).is_none(), "{bad:?}");
        }
    }
}
