//! The key that a server wants to see, which nothing else may see.
//!
//! What is not here: where it is sent, and the one form in which it leaves this process ([`Endpoint`](crate::Endpoint)).

use std::fmt;

use crate::EndpointError;

/// What is shown in its place.
pub(crate) const REDACTED: &str = "(secret)";

/// No server hands out longer ones; request headers have limits.
const MOST_BYTES: usize = 4096;

/// A key that no log, message or error shows. It does not serialise; who sends it somewhere asks for it by name:
/// [`Key::reveal`].
#[derive(Clone, Eq, PartialEq)]
pub struct Key(String);

impl Key {
    /// Takes a key out of sight. Refused where it could not stand in a header, or could not be recognised in what a server
    /// echoes: it is made of visible ASCII characters without quotes, angle brackets, ampersand and backslash.
    pub fn new(value: impl Into<String>) -> Result<Self, EndpointError> {
        let value = value.into();
        let plain = |byte: u8| byte.is_ascii_graphic() && !br#""'`<>&\"#.contains(&byte);
        if value.is_empty() || value.len() > MOST_BYTES || !value.bytes().all(plain) {
            return Err(EndpointError::KeyUnusable);
        }
        Ok(Self(value))
    }

    /// The key itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_in_no_form() {
        let key = Key::new("sk-hunter2").expect("it is one");
        for form in [format!("{key}"), format!("{key:?}"), format!("{key:#?}"), format!("{:?}", Some(&key))] {
            assert!(!form.contains("hunter2") && form.contains(REDACTED), "{form}");
        }
        assert_eq!(key.reveal(), "sk-hunter2");
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_no_key_and_is_not_shown_either() {
        for value in ["", "hunter2\n", "hunter 2", "hunter2\u{e9}", "a\r\nX-Other: hunter2", "hunter2\"", r"hunter2\"] {
            let error = Key::new(value).expect_err(value);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        Key::new("x".repeat(MOST_BYTES + 1)).expect_err("it is too long");
        for value in ["sk-proj-A_b.9~+/==", "id:secret", "hf_x"] {
            Key::new(value).expect(value);
        }
    }
}
