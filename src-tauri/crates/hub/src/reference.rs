//! What a person gives to name a model at the hub: an id, an id with a revision or a wish, or a link copied from a browser.
//!
//! What is not here: files on this machine, and the short names of our own catalogue; both are looked for before.

use std::fmt;

use reqwest::Url;

use crate::error::cleaned;
use crate::names::check_revision;
use crate::{FilePath, HubError, RepositoryId};

/// The names of the public hub.
const PUBLIC: &[&str] = &["huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co"];

/// First words of paths that lead to something else than a model.
const OTHERS: &[&str] = &[
    "api",
    "blog",
    "buckets",
    "chat",
    "collections",
    "datasets",
    "docs",
    "kernels",
    "learn",
    "models",
    "organizations",
    "papers",
    "posts",
    "settings",
    "spaces",
    "tasks",
];

/// The longest text that is looked at, in bytes.
const LONGEST: usize = 2048;

/// A model at the hub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    /// Of which repository.
    pub repository: RepositoryId,
    /// A branch, a tag or a commit, if one was named.
    pub revision: Option<String>,
    /// A file, a folder or a precision, for [`choose`](crate::choice::choose). Safe as a path.
    pub wish: Option<String>,
}

impl Reference {
    /// Reads `owner/name`, `owner/name@revision`, `owner/name:Q8_0`, `owner/name/file.gguf`, each also behind `hf.co/`, and
    /// links to the hub at `endpoint` or to the public one.
    pub fn parse(text: &str, endpoint: &Url) -> Result<Self, HubError> {
        let text = text.trim();
        let refused = |reason| HubError::Name { text: cleaned(text), reason };
        if text.len() > LONGEST {
            return Err(refused("it is too long for a model's name"));
        }
        let lower = text.to_lowercase();
        if lower.starts_with("https://") || lower.starts_with("http://") {
            let url = Url::parse(text).map_err(|_| refused("it is not an address"))?;
            if !url.username().is_empty() || url.password().is_some() {
                return Err(HubError::Name { text: "(hidden)".to_owned(), reason: "it contains a password" });
            }
            return Self::of_url(&url, endpoint, &refused);
        }
        if text.contains("://") {
            return Err(refused("only links with https:// lead to the hub"));
        }
        if let Some((host, _)) = lower.split_once('/')
            && (PUBLIC.contains(&host) || Some(host) == authority(endpoint).as_deref())
        {
            let url = Url::parse(&format!("https://{text}")).map_err(|_| refused("it is not an address"))?;
            return Self::of_path(url.path(), &refused);
        }
        Self::of_id(text, &refused)
    }

    /// The revision, or the branch that repositories have.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    fn of_url(url: &Url, endpoint: &Url, refused: &impl Fn(&'static str) -> HubError) -> Result<Self, HubError> {
        let host = authority(url);
        if host == authority(endpoint) {
            // A mirror may live below a path.
            let base = endpoint.path().trim_end_matches('/');
            let path = url.path().strip_prefix(base).filter(|path| path.is_empty() || path.starts_with('/'));
            return Self::of_path(path.ok_or_else(|| refused("it leads to another part of that host"))?, refused);
        }
        if host.is_some_and(|host| PUBLIC.contains(&host.as_str())) {
            return Self::of_path(url.path(), refused);
        }
        Err(refused("it leads to another host than the hub"))
    }

    /// A path of the hub's pages, with escapes.
    fn of_path(path: &str, refused: &impl Fn(&'static str) -> HubError) -> Result<Self, HubError> {
        let parts: Option<Vec<String>> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
        let parts = parts.ok_or_else(|| refused("its escapes are not text"))?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["datasets", _, ..] => Err(refused("it is a dataset, not a model")),
            ["spaces", _, ..] => Err(refused("it is a space, not a model")),
            [] => Err(refused("it leads to the hub, but to no model")),
            [first, ..] if OTHERS.contains(first) => Err(refused("it leads to no model")),
            [owner, name, kind @ ("tree" | "blob" | "resolve" | "raw" | "commit"), rest @ ..] => {
                let (revision, rest) = revision_of(rest);
                if revision.is_empty() || *kind == "commit" && !rest.is_empty() {
                    return Err(refused("the link ends too early, or too late"));
                }
                let wish = Some(rest.join("/")).filter(|path| !path.is_empty());
                Self::checked(&format!("{owner}/{name}"), Some(revision), wish, refused)
            }
            [_, _, "discussions" | "commits" | "settings" | "edit" | "upload", ..] => {
                Err(refused("it leads to a page about the model, not to the model"))
            }
            _ => Self::of_id(&parts.join("/"), refused),
        }
    }

    /// `owner/name[/path][@revision][:wish]`.
    fn of_id(text: &str, refused: &impl Fn(&'static str) -> HubError) -> Result<Self, HubError> {
        let (rest, wish) = match text.split_once(':') {
            Some((rest, wish)) => (rest, Some(wish)),
            None => (text, None),
        };
        let (rest, revision) = match rest.split_once('@') {
            Some((rest, revision)) => (rest, Some(revision.to_owned())),
            None => (rest, None),
        };
        let mut parts = rest.splitn(3, '/');
        let id = [parts.next(), parts.next()].into_iter().flatten().collect::<Vec<_>>().join("/");
        let path = parts.next();
        if rest.starts_with("datasets/") || rest.starts_with("spaces/") {
            return Err(refused("it is a dataset or a space, not a model"));
        }
        let wish = match (path, wish) {
            (Some(_), Some(_)) => return Err(refused("it names a file and a precision; one is enough")),
            (path, wish) => path.or(wish).map(|wish| wish.trim_end_matches('/').to_owned()),
        };
        Self::checked(&id, revision, wish, refused)
    }

    fn checked(
        id: &str,
        revision: Option<String>,
        wish: Option<String>,
        refused: &impl Fn(&'static str) -> HubError,
    ) -> Result<Self, HubError> {
        let owner = id.split('/').next().unwrap_or_default().to_lowercase();
        if PUBLIC.contains(&owner.as_str()) {
            // Written out it would be read as a link to another model.
            return Err(refused("the hub's own name owns no model"));
        }
        let repository = id.parse().map_err(|_| refused("a model's name has the form owner/name"))?;
        if let Some(revision) = &revision {
            check_revision(revision)?;
        }
        if let Some(wish) = &wish {
            FilePath::new(wish)?;
        }
        Ok(Self { repository, revision, wish })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.repository)?;
        if let Some(revision) = &self.revision {
            write!(formatter, "@{revision}")?;
        }
        match &self.wish {
            Some(wish) => write!(formatter, ":{wish}"),
            None => Ok(()),
        }
    }
}

/// The revision at the start of a link's rest, and what stands behind it. Requests to pull have names of three parts.
fn revision_of<'a>(rest: &'a [&'a str]) -> (String, &'a [&'a str]) {
    let length = match rest {
        ["refs", "pr" | "convert", _, ..] => 3,
        [] => 0,
        _ => 1,
    };
    (rest[..length].join("/"), &rest[length..])
}

/// The host, with a port that is not the usual one.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// A part of a path without its escapes; nothing where these are not UTF-8.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DEFAULT_ENDPOINT;

    fn parse(text: &str) -> Result<Reference, HubError> {
        Reference::parse(text, &Url::parse(DEFAULT_ENDPOINT).expect("an address"))
    }

    #[test]
    fn ids_and_links_say_repository_revision_and_wish() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (text, id, revision, wish) in [
            ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-0.6B", None, None),
            (" o/n@v1.5 ", "o/n", Some("v1.5"), None),
            ("o/n@refs/pr/3", "o/n", Some("refs/pr/3"), None),
            ("o/n:Q8_0", "o/n", None, Some("Q8_0")),
            ("o/n@main:Q8_0", "o/n", Some("main"), Some("Q8_0")),
            ("o/n/m-Q8_0.gguf", "o/n", None, Some("m-Q8_0.gguf")),
            ("o/n/fp16/", "o/n", None, Some("fp16")),
            ("gpt2", "gpt2", None, None),
            ("hf.co/o/n:Q4_K_M", "o/n", None, Some("Q4_K_M")),
            ("HuggingFace.co/O/n", "O/n", None, None),
            ("https://huggingface.co/o/n", "o/n", None, None),
            ("https://huggingface.co/o/n/?not-for-all-audiences=true#readme", "o/n", None, None),
            ("https://huggingface.co/o/n/tree/main", "o/n", Some("main"), None),
            ("https://hf.co/o/n/tree/main/fp16", "o/n", Some("main"), Some("fp16")),
            (
                "https://huggingface.co/o/n/resolve/main/a%20b/m.gguf?download=true",
                "o/n",
                Some("main"),
                Some("a b/m.gguf"),
            ),
            ("https://huggingface.co/o/n/blob/refs%2Fpr%2F1/m.gguf", "o/n", Some("refs/pr/1"), Some("m.gguf")),
            ("https://huggingface.co/o/n/tree/refs/pr/1", "o/n", Some("refs/pr/1"), None),
            (&format!("https://huggingface.co/o/n/commit/{commit}"), "o/n", Some(commit), None),
        ] {
            let found = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let (found_id, found_revision) = (found.repository.as_str(), found.revision.as_deref());
            assert_eq!((found_id, found_revision, found.wish.as_deref()), (id, revision, wish), "{text}");
            assert_eq!(parse(&found.to_string()).expect("its own form"), found);
        }
    }

    #[test]
    fn what_is_no_model_is_refused_with_a_sentence() {
        for (text, why) in [
            ("", "owner/name"),
            ("../x", "owner/name"),
            ("hf.co/hf.co/o/n", "owns no model"),
            ("https://huggingface.co/HF.co/o", "owns no model"),
            ("/etc/passwd", "owner/name"),
            ("https://example.com/o/n", "another host"),
            ("https://huggingface.co.example.com/o/n", "another host"),
            ("https://huggingface.co:8443/o/n", "another host"),
            ("https://me:secret@huggingface.co/o/n", "password"),
            ("ftp://huggingface.co/o/n", "https"),
            ("file:///etc/passwd", "https"),
            ("https://huggingface.co/datasets/o/n", "dataset"),
            ("https://huggingface.co/spaces/o/n", "space"),
            ("datasets/o/n", "dataset"),
            ("https://huggingface.co/", "no model"),
            ("https://huggingface.co/models?search=x", "no model"),
            ("https://huggingface.co/o/n/discussions/1", "page about"),
            ("https://huggingface.co/o/n/tree", "too early"),
            ("https://huggingface.co/o/n/blob/main/..%2fx", ".."),
            ("https://huggingface.co/o/%ff", "not text"),
            ("o/n@../x", ".."),
            ("o/n:../x", ".."),
            ("o/n/f.gguf:Q8_0", "one is enough"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn a_mirror_is_the_hub_too() {
        let mirror = Url::parse("http://127.0.0.1:8080/hub").expect("an address");
        for text in ["http://127.0.0.1:8080/hub/o/n/tree/v1", "https://huggingface.co/o/n/tree/v1"] {
            let found = Reference::parse(text, &mirror).expect(text);
            assert_eq!((found.repository.as_str(), found.revision()), ("o/n", "v1"));
        }
        for text in ["http://127.0.0.1:8080/other/o/n", "http://127.0.0.1:8081/hub/o/n", "http://127.0.0.1:8080/hubble"]
        {
            assert!(Reference::parse(text, &mirror).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_out_is_safe(text in "(https?://(huggingface|hf)\\.co/)?[a-z./@:%0-9-]{0,40}|\\PC{0,30}") {
            if let Ok(found) = parse(&text) {
                prop_assert!(found.revision.is_none_or(|revision| FilePath::new(&revision).is_ok()));
                prop_assert!(found.wish.is_none_or(|wish| FilePath::new(&wish).is_ok()));
            }
        }
    }
}
