//! What the hub's own variables say: where it is, who asks, where its cache is, and whether it may be asked at all.
//!
//! The names and their meaning are those of `huggingface_hub` 2. What is not here: the token file that its login command
//! writes, and the process environment itself, which the caller hands in as a closure.

use std::path::PathBuf;

use reqwest::Url;

use crate::{HubError, Token};

/// Where the hub is unless `HF_ENDPOINT` names a mirror.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// What the variables say.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The hub's address, without a slash at its end.
    pub endpoint: Url,
    /// Sent to the endpoint and to nobody else.
    pub token: Option<Token>,
    /// The shared cache: the folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// No request is made at all.
    pub offline: bool,
}

impl HubSettings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE` (or its old name `HUGGINGFACE_HUB_CACHE`), `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HOME`, `HF_HUB_OFFLINE` and `TRANSFORMERS_OFFLINE` through `variable`. An empty value is none.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let named = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let endpoint = named("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let endpoint = parse_endpoint(endpoint.trim())?;
        let token = match named("HF_TOKEN").or_else(|| named("HUGGING_FACE_HUB_TOKEN")) {
            Some(value) => Some(Token::new(&value).ok_or(HubError::TokenUnusable)?),
            None => None,
        };
        let home = PathBuf::from(named("HOME").unwrap_or_else(|| "/".to_owned()));
        // As Python does: a `~` at the start is the home folder.
        let folder = |value: String| match value.strip_prefix("~/") {
            Some(rest) => home.join(rest),
            None if value == "~" => home.clone(),
            None => PathBuf::from(value),
        };
        let cache = match named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE")) {
            Some(value) => folder(value),
            None => match (named("HF_HOME"), named("XDG_CACHE_HOME")) {
                (Some(value), _) => folder(value).join("hub"),
                (None, Some(value)) => folder(value).join("huggingface/hub"),
                (None, None) => home.join(".cache/huggingface/hub"),
            },
        };
        let offline = named("HF_HUB_OFFLINE").or_else(|| named("TRANSFORMERS_OFFLINE"));
        Ok(Self { endpoint, token, cache, offline: offline.is_some_and(|value| is_true(&value)) })
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
        ] {
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
        assert!(matches!(read(&[("HF_TOKEN", "a b")]), Err(HubError::TokenUnusable)));
    }
}
