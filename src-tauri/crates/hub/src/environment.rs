//! What the hub's own variables say: where it is, who asks, where its cache is, and whether it may be asked at all.
//!
//! The names and their meaning are those of `huggingface_hub` 2, the token's file that its login command writes included.
//! What is not here: the process environment itself, which the caller hands in as a closure, and renewing a token.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use reqwest::Url;

use crate::error::file;
use crate::{HubError, Token};

/// Where the hub is unless `HF_ENDPOINT` names a mirror.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The most bytes of a file with a token that are read.
const MOST_TOKEN: u64 = 8192;

/// What the variables say.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The hub's address, without a slash at its end.
    pub endpoint: Url,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// Where that was found, or why none was looked for.
    pub token_place: TokenPlace,
    /// The shared cache: the folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// No request is made at all.
    pub offline: bool,
}

/// Where a token was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TokenPlace {
    /// Neither a variable nor a file has one.
    Nowhere,
    /// `HF_TOKEN`, or its old name `HUGGING_FACE_HUB_TOKEN`.
    Environment,
    /// The file of the hub's login command.
    File(PathBuf),
    /// `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set: what a person did not give for this very purpose is not sent.
    Forbidden,
}

impl HubSettings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_CACHE` (or its old name
    /// `HUGGINGFACE_HUB_CACHE`), `HF_HOME`, `XDG_CACHE_HOME`, `HOME`, `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE` through
    /// `variable`, and the token's file. An empty value is none.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let named = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let endpoint = named("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = parse_endpoint(endpoint.trim())?;
        let user = named("HOME").unwrap_or_else(|| "/".to_owned());
        // As Python does: a `~` at the start is the home folder, and then variables are what they are.
        let folder = |value: &str| {
            let value = match value.strip_prefix('~') {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    format!("{}{rest}", user.trim_end_matches('/'))
                }
                _ => value.to_owned(),
            };
            expand(&value, &variable)
        };
        let home = match (named("HF_HOME"), named("XDG_CACHE_HOME")) {
            (Some(value), _) => folder(&value),
            (None, Some(value)) => folder(&format!("{value}/huggingface")),
            (None, None) => folder("~/.cache/huggingface"),
        };
        let cache = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE"));
        let cache = folder(&cache.unwrap_or_else(|| format!("{home}/hub")));
        let token_file = folder(&named("HF_TOKEN_PATH").unwrap_or_else(|| format!("{home}/token")));
        let (token, token_place) = if named("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
            (None, TokenPlace::Forbidden)
        } else if let Some(value) = named("HF_TOKEN").or_else(|| named("HUGGING_FACE_HUB_TOKEN")) {
            let unusable = || HubError::TokenUnusable { place: "HF_TOKEN".to_owned() };
            (Some(Token::new(&value).ok_or_else(unusable)?), TokenPlace::Environment)
        } else {
            let path = PathBuf::from(token_file);
            match token_of_file(&path)? {
                Some(token) => (Some(token), TokenPlace::File(path)),
                None => (None, TokenPlace::Nowhere),
            }
        };
        let offline = named("HF_HUB_OFFLINE").or_else(|| named("TRANSFORMERS_OFFLINE"));
        let offline = offline.is_some_and(|value| is_true(&value));
        Ok(Self { endpoint, token, token_place, cache: PathBuf::from(cache), offline })
    }
}

/// `$NAME` and `${NAME}`, where such a variable is set; everything else stands as it was written.
fn expand(text: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let plain = after.find(|it: char| !it.is_ascii_alphanumeric() && it != '_').unwrap_or(after.len());
        let (name, length) = braced.map_or((&after[..plain], plain + 1), |(name, _)| (name, name.len() + 3));
        let written = &rest[at..at + length];
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded.push_str(&value),
            None => expanded.push_str(written),
        }
        rest = &rest[at + length..];
    }
    expanded + rest
}

/// The token that the login command wrote, if it did.
fn token_of_file(path: &Path) -> Result<Option<Token>, HubError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_TOKEN).read_to_string(&mut text));
    match read {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(file("read the token in", path)(error)),
        Ok(_) if text.trim().is_empty() => Ok(None),
        Ok(_) => {
            let unusable = || HubError::TokenUnusable { place: format!("`{}`", path.display()) };
            Token::new(&text).map(Some).ok_or_else(unusable)
        }
    }
}

fn parse_endpoint(text: &str) -> Result<Url, HubError> {
    let refused = |reason: &'static str| HubError::Endpoint { endpoint: text.to_owned(), reason };
    let url = Url::parse(text.trim_end_matches('/')).map_err(|_| refused("it is not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused("it must start with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(HubError::Endpoint { endpoint: "(hidden)".to_owned(), reason: "it contains a password" });
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must not contain ? or #"));
    }
    Ok(url)
}

/// As `huggingface_hub` has it.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubSettings, HubError> {
        let value = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        HubSettings::from_lookup(value)
    }

    #[test]
    fn without_variables_it_is_the_public_hub_and_the_home_folder() {
        let settings = read(&[("HOME", "/users/ann")]).expect("settings");
        assert_eq!(settings.token_place, TokenPlace::Nowhere);
        assert_eq!(settings.endpoint.as_str().trim_end_matches('/'), DEFAULT_ENDPOINT);
        assert_eq!(settings.cache, Path::new("/users/ann/.cache/huggingface/hub"));
        assert!(settings.token.is_none() && !settings.offline);
    }

    #[test]
    fn the_cache_is_found_in_the_order_of_the_library() {
        let mut variables = vec![("HOME", "/users/ann"), ("XDG_CACHE_HOME", "/x")];
        for (added, expected) in [
            (("HF_HOME", "~/hf"), "/users/ann/hf/hub"),
            (("HUGGINGFACE_HUB_CACHE", "/old"), "/old"),
            (("HF_HUB_CACHE", "/new"), "/new"),
            (("HF_HUB_CACHE", "${HOME}/$XDG_CACHE_HOME/$NOT_SET/$/${X/a$"), "/users/ann//x/$NOT_SET/$/${X/a$"),
        ] {
            variables.retain(|(name, _)| *name != added.0);
            variables.push(added);
            assert_eq!(read(&variables).expect("settings").cache, Path::new(expected));
        }
    }

    #[test]
    fn what_counts_as_true_is_what_the_library_counts() {
        for (value, expected) in [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("2", false)]
        {
            assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).expect("settings").offline, expected, "{value}");
        }
        assert!(read(&[("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")]).expect("settings").offline);
        assert!(!read(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]).expect("settings").offline);
    }

    #[test]
    fn endpoints_and_tokens_that_cannot_be_are_refused() {
        for bad in ["huggingface", "ftp://a/b", "https://a?b", "https://me:secret@host"] {
            let error = read(&[("HF_ENDPOINT", bad)]).expect_err(bad).to_string();
            assert!(error.contains("HF_ENDPOINT") && !error.contains("secret"), "{error}");
        }
        let error = read(&[("HF_TOKEN", "a b")]).expect_err("it holds a space").to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("a b"), "{error}");
    }

    #[test]
    fn the_token_of_the_login_command_comes_after_the_variable_unless_it_is_forbidden() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().to_str().expect("a name");
        std::fs::write(folder.path().join("token"), "hf_file\n").expect("written");
        std::fs::write(folder.path().join("other"), "hf_other").expect("written");
        let other = format!("{home}/other");
        let file = |name: &str| TokenPlace::File(folder.path().join(name));
        let mut variables = vec![("HF_HOME", home)];
        for (added, token, place) in [
            (("X", ""), Some("hf_file"), file("token")),
            (("HF_TOKEN_PATH", other.as_str()), Some("hf_other"), file("other")),
            (("HF_TOKEN", "  "), Some("hf_other"), file("other")),
            (("HUGGING_FACE_HUB_TOKEN", "hf_old"), Some("hf_old"), TokenPlace::Environment),
            (("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), None, TokenPlace::Forbidden),
        ] {
            variables.push(added);
            let settings = read(&variables).expect("settings");
            assert_eq!((settings.token.as_ref().map(Token::reveal), settings.token_place), (token, place));
        }
        std::fs::write(folder.path().join("token"), "two words").expect("written");
        let error = read(&[("HF_HOME", home)]).expect_err("it holds a space").to_string();
        assert!(error.contains("token") && !error.contains("two words"), "{error}");
    }
}
