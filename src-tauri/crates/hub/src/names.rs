//! Names that strangers give: ids, revisions, and paths of files, all of which become parts of paths and addresses here.
//!
//! What is not here: links on the disk. A checked path may still meet one; the writers look.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::HubError;
use crate::error::cleaned;

/// The id of a repository of models: `owner/name`, or the bare `name` of the oldest ones.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct RepositoryId(String);

impl RepositoryId {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its folder in the shared cache.
    pub fn folder(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl FromStr for RepositoryId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
                && !part.contains("..")
                && !part.contains("--")
                && part.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
        };
        if text.len() <= 193 && text.split('/').count() <= 2 && text.split('/').all(part) {
            return Ok(Self(text.to_owned()));
        }
        Err(HubError::Name { text: cleaned(text), reason: "an id has the form owner/name" })
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a text is the full name of a commit.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks the name of a branch, a tag or a commit: it becomes the path of a file below `refs`.
pub(crate) fn check_revision(text: &str) -> Result<(), HubError> {
    FilePath::new(text).map(|_| ())
}

/// The path of a file in a repository, safe to be joined to a folder on every system.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct FilePath(String);

/// Names that Windows gives to devices, with and without an extension.
const DEVICES: &[&str] = &["con", "prn", "aux", "nul", "conin$", "conout$", "clock$"];

impl FilePath {
    /// Checks a path: relative, of ordinary parts, no longer than file systems allow, no name that means something else on
    /// Windows.
    pub fn new(text: &str) -> Result<Self, HubError> {
        let refused = |reason| Err(HubError::Name { text: cleaned(text), reason });
        if text.is_empty() || text.len() > 1024 {
            return refused("a path has 1 to 1024 bytes");
        }
        if text.starts_with('/') {
            return refused("a path must be relative");
        }
        if text.chars().any(|it| it.is_control() || matches!(it, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')) {
            return refused("a path must not hold control characters, backslashes or any of : * ? \" < > |");
        }
        for part in text.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return refused("a path must not hold empty parts, `.` or `..`");
            }
            if part.len() > 200 {
                return refused("a name in a path must not be longer than 200 bytes");
            }
            if part.ends_with(['.', ' ']) || part.starts_with(' ') {
                return refused("a name must not start with a space, or end with a dot or a space");
            }
            let stem = part.split('.').next().unwrap_or(part).trim_end().to_lowercase();
            let numbered = |prefix: &str| {
                let rest = stem.strip_prefix(prefix).unwrap_or_default();
                rest.chars().count() == 1 && rest.chars().all(|it| it.is_ascii_digit() || "¹²³".contains(it))
            };
            if DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt") {
                return refused("a name must not be that of a device on Windows");
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was written: parts with `/` between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many folders it lies below its root.
    pub(crate) fn depth(&self) -> usize {
        self.0.matches('/').count()
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Which files are wanted: patterns such as `*.json` and `onnx/**`. A star stays within one folder. No pattern means every
/// file.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Chosen {
    /// Compiles patterns.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, HubError> {
        let mut builder = GlobSetBuilder::new();
        let patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        for pattern in &patterns {
            let refused = |_| HubError::Name { text: cleaned(pattern), reason: "it is not a pattern for files" };
            builder.add(GlobBuilder::new(pattern).literal_separator(true).build().map_err(refused)?);
        }
        let text = patterns.join(", ");
        let refused = |_| HubError::Name { text: cleaned(&text), reason: "these patterns are too many" };
        Ok(Self { set: builder.build().map_err(refused)?, patterns })
    }

    /// The patterns that are the plain names of files.
    pub(crate) fn names(&self) -> impl Iterator<Item = FilePath> {
        let plain = self.patterns.iter().filter(|pattern| !pattern.contains(['*', '?', '[', ']', '{', '}', '!', '\\']));
        plain.filter_map(|pattern| FilePath::new(pattern).ok())
    }

    /// Is this file wanted?
    pub fn wants(&self, path: &FilePath) -> bool {
        self.matches(path.as_str())
    }

    /// The same of a name that has not been checked.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.patterns.is_empty() || self.set.is_match(name)
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.patterns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_one_or_two_plain_names() {
        for good in ["Qwen/Qwen3-Embedding-0.6B", "gpt2", "a/b_c"] {
            assert!(good.parse::<RepositoryId>().is_ok(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a\\b", "a--b/c", "a b", "-a/b", "a/b?x", "a/é"] {
            assert!(bad.parse::<RepositoryId>().is_err(), "{bad}");
        }
        let id: RepositoryId = "owner/name".parse().expect("an id");
        assert_eq!(id.folder(), "models--owner--name");
    }

    #[test]
    fn hostile_paths_are_refused() {
        for good in ["config.json", "onnx/model.onnx", "a/b/c.d", ".gitattributes", "é.txt", "command.txt", "com10.txt"]
        {
            assert!(FilePath::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "C:/x",
            "C:x",
            "a\0b",
            "a\nb",
            "nul",
            "NUL.txt",
            "a/aux.json",
            "com1",
            "LPT9.x",
            "com².txt",
            "a.",
            "a ",
            " a",
            "a|b",
            "conin$",
            "con .txt",
        ] {
            assert!(FilePath::new(bad).is_err(), "{bad:?}");
        }
        assert!(FilePath::new(&"a".repeat(201)).is_err() && FilePath::new(&"a/".repeat(600)).is_err());
    }

    proptest! {
        #[test]
        fn a_checked_path_never_leaves_its_folder(text in "[a./\\\\:~\0 -]{0,12}|\\PC{0,12}") {
            if let Ok(path) = FilePath::new(&text) {
                let parts: Vec<_> = Path::new(path.as_str()).components().collect();
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(parts.len(), path.depth() + 1);
                let joined = Path::new("root").join(path.as_str());
                prop_assert_eq!(joined.strip_prefix("root"), Ok(Path::new(&text)));
            }
        }
    }

    #[test]
    fn patterns_choose_files_and_a_star_stays_in_its_folder() {
        let chosen = Chosen::new(["*.json", "1_Pooling/**"]).expect("patterns");
        let wants = |path| chosen.wants(&FilePath::new(path).expect("a path"));
        assert!(wants("config.json") && wants("1_Pooling/config.json"));
        assert!(!wants("onnx/config.json") && !wants("model.safetensors"));
        assert!(Chosen::new([]).expect("none").wants(&FilePath::new("x/y").expect("a path")));
        assert!(Chosen::new(["[a"]).is_err());
    }
}
