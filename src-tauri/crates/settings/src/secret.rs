//! Values that are never shown.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::variables::{self, Kind};

/// What is shown in the place of a secret.
const REDACTED: &str = "(secret)";

/// A value that no log, message or reply shows. Who sends it somewhere asks for it by name: [`Secret::reveal`].
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Takes a value out of sight.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// Whether the value of a variable is to be kept out of sight: because it is declared so or because its name says so.
pub fn is_secret(name: &str) -> bool {
    if let Some(variable) = variables::find(name) {
        return matches!(variable.kind, Kind::Secret);
    }
    let name = name.to_ascii_uppercase();
    let parts =
        ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "CREDENTIAL", "CREDENTIALS", "AUTH", "DSN", "APIKEY"];
    // A name of several words; an address often has a password in it.
    name.split(|character: char| !character.is_ascii_alphanumeric()).any(|word| parts.contains(&word))
        || ["DATABASE_URL", "REDIS_URL", "MONGODB_URI"].contains(&name.as_str())
}

/// The value of a variable as it may be shown.
pub fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    if is_secret(name) { REDACTED } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_shown_in_no_form() {
        let secret = Secret::new("hunter2");
        let forms = [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}")];
        for form in forms.into_iter().chain(serde_json::to_string(&secret)) {
            assert!(!form.contains("hunter2"), "{form}");
        }
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn names_tell_what_is_secret() {
        for name in [
            "HF_TOKEN",
            "PAPR_MEMORY_API_KEY",
            "OPENAI_API_KEY",
            "db_password",
            "AWS_SECRET_ACCESS_KEY",
            "DATABASE_URL",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["TOKENIZERS_PARALLELISM", "PAPR_ENABLE_COREML", "KEYBOARD", "MONKEY"] {
            assert!(!is_secret(name), "{name}");
        }
        assert_eq!(shown("HF_TOKEN", "hf_x"), "(secret)");
        assert_eq!(shown("PAPR_COREML_VARIANT", "int8"), "int8");
    }
}
