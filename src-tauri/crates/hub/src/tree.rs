//! The listing of a commit as `huggingface_hub` 2 keeps it beside the snapshots, `trees/<commit>.json`: by it that library
//! knows without a network whether a snapshot is whole, and so do we.
//!
//! It holds every file of the commit, wanted or not. What is not here: where the file lies, and whether its names may become
//! paths: whoever uses them checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Chosen, Digest, Entry, FilePath};

/// The only form that is known.
const FORM: u32 = 1;

/// Every file of a commit, by its path as the hub names it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tree {
    files: BTreeMap<String, Leaf>,
}

/// One file, with the words of the hub's listing.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub(crate) struct Leaf {
    pub(crate) size: u64,
    /// The name that git gives to the file, or to the pointer that stands for it.
    pub(crate) blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lfs_size: Option<u64>,
    /// Its name in the store for all repositories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) xet_hash: Option<String>,
}

impl Leaf {
    /// The file as it is downloaded; `None` where nothing of it could be verified.
    pub(crate) fn entry(&self, path: FilePath) -> Option<Entry> {
        let large = self.lfs_sha256.as_deref().zip(self.lfs_size);
        let (name, size) = large.unwrap_or((&self.blob_id, self.size));
        Some(Entry { path, size, digest: Digest::parse(name)? })
    }
}

#[derive(Deserialize)]
struct Document {
    format_version: u32,
    files: BTreeMap<String, Leaf>,
}

#[derive(Serialize)]
struct Written<'a> {
    format_version: u32,
    files: &'a BTreeMap<String, Leaf>,
}

impl Tree {
    pub(crate) fn insert(&mut self, path: String, leaf: Leaf) {
        self.files.insert(path, leaf);
    }

    /// Reads the file; another form, a name or a digest that cannot be: it counts for nothing.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(text).ok()?;
        let tree = Self { files: document.files };
        (document.format_version == FORM && tree.is_sound()).then_some(tree)
    }

    /// The file as the library writes it.
    pub(crate) fn text(&self) -> String {
        let document = Written { format_version: FORM, files: &self.files };
        // Text, numbers and names of fields: there is nothing in it that JSON does not know.
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }

    /// Whether all its names may be those of files here, and all its digests are digests.
    pub(crate) fn is_sound(&self) -> bool {
        self.files.iter().all(|(path, leaf)| {
            FilePath::new(path).is_ok_and(|path| leaf.entry(path).is_some())
                && leaf.xet_hash.as_deref().is_none_or(is_xet_hash)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn holds(&self, path: &FilePath) -> bool {
        self.files.contains_key(path.as_str())
    }

    /// The wanted files, in the order of their paths.
    pub(crate) fn entries(&self, chosen: &Chosen) -> Vec<Entry> {
        let wanted = self.files.iter().filter(|(path, _)| chosen.matches(path));
        wanted.filter_map(|(path, leaf)| leaf.entry(FilePath::new(path).ok()?)).collect()
    }

    /// The name of a file in the store for all repositories.
    pub(crate) fn xet_hash(&self, path: &FilePath) -> Option<&str> {
        self.files.get(path.as_str())?.xet_hash.as_deref().filter(|hash| is_xet_hash(hash))
    }
}

fn is_xet_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    // As `write_tree_cache` of huggingface_hub 2.4.0 wrote it.
    const PYTHON: &str = r#"{
 "format_version": 1,
 "files": {
  "config.json": {
   "size": 519,
   "blob_id": "ce013625030ba8dba906f756967f9e9ca394464a"
  },
  "model.safetensors": {
   "size": 134,
   "blob_id": "0123456789abcdef0123456789abcdef01234567",
   "lfs_sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
   "lfs_size": 1234,
   "xet_hash": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be04"
  }
 }
}"#;

    #[test]
    fn what_the_library_writes_is_read_and_written_again() {
        let tree = Tree::parse(PYTHON.as_bytes()).expect("a tree");
        let entries = tree.entries(&Chosen::new(["*.safetensors"]).expect("patterns"));
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].size, entries[0].digest.to_string().len()), (1234, 64));
        assert!(tree.xet_hash(&entries[0].path).is_some_and(|hash| hash.ends_with("be04")));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&tree.text()), value(PYTHON));
    }

    #[test]
    fn another_form_a_hostile_name_and_a_false_digest_count_for_nothing() {
        for (from, to) in [
            ("\"format_version\": 1", "\"format_version\": 2"),
            ("config.json", "../config.json"),
            ("ce013625", "zz013625"),
            ("be04", "be0"),
            ("\"size\": 519", "\"size\": -1"),
        ] {
            assert!(Tree::parse(PYTHON.replacen(from, to, 1).as_bytes()).is_none(), "{to}");
        }
    }
}
