//! `Manifest.json` of a Core ML package: which of its files are meant, and that every path it names is one below `Data/`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{FormatError, json, names};

/// Entries of a package at most; real ones have two or three.
const ITEMS: usize = 256;

/// What the manifest says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The model's path below `Data/`.
    pub model: String,
    /// The paths below `Data/` of all its parts, the model among them; files or folders, each once.
    pub items: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    file_format_version: String,
    root_model_identifier: String,
    item_info_entries: BTreeMap<String, RawItem>,
}

#[derive(Deserialize)]
struct RawItem {
    path: String,
}

/// Reads the text of a manifest.
pub fn read(bytes: &[u8]) -> Result<Manifest, FormatError> {
    let value = json::parse(bytes)?;
    let raw: Raw = serde_json::from_value(value).map_err(|error| FormatError::malformed(format!("{error}")))?;
    let numbers: Option<Vec<u64>> = raw.file_format_version.split('.').map(|part| part.parse().ok()).collect();
    if !numbers.is_some_and(|numbers| numbers.len() == 3 && numbers[..] <= [1, 0, 0][..]) {
        let version = names::shown(&raw.file_format_version);
        return Err(FormatError::malformed(format!("its format has the version `{version}`; `1.0.0` is known")));
    }
    if raw.item_info_entries.len() > ITEMS {
        return Err(FormatError::malformed(format!("it names `{}` parts", raw.item_info_entries.len())));
    }
    let mut items = Vec::new();
    let mut model = None;
    for (identifier, item) in raw.item_info_entries {
        names::check(&item.path).map_err(|problem| {
            FormatError::malformed(format!(
                "it names `{}`, which is no path in it: {problem}",
                names::shown(&item.path)
            ))
        })?;
        if identifier == raw.root_model_identifier {
            model = Some(item.path.clone());
        }
        items.push(item.path);
    }
    items.sort_unstable();
    items.dedup();
    let root = names::shown(&raw.root_model_identifier);
    let model = model.ok_or_else(|| FormatError::malformed(format!("it has no entry for its model `{root}`")))?;
    Ok(Manifest { model, items })
}

impl Manifest {
    /// Whether the file at `path` below `Data/` is one of the parts or in one.
    pub fn covers(&self, path: &str) -> bool {
        self.items
            .iter()
            .any(|item| path.strip_prefix(item.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(path: &str) -> String {
        format!(
            r#"{{"fileFormatVersion":"1.0.0","rootModelIdentifier":"m","itemInfoEntries":{{
            "m":{{"author":"a","name":"n","description":"","path":"c/model.mlmodel"}},
            "w":{{"author":"a","name":"n","description":"","path":"{path}"}}}}}}"#
        )
    }

    #[test]
    fn parts_and_their_contents_are_covered_and_nothing_beside_them() {
        let read = read(manifest("c/weights").as_bytes()).expect("a manifest");
        assert_eq!(read.model, "c/model.mlmodel");
        assert!(read.covers("c/model.mlmodel") && read.covers("c/weights/weight.bin"));
        assert!(!read.covers("c/weights2/weight.bin") && !read.covers("c") && !read.covers("c/x"));
    }

    #[test]
    fn paths_that_lead_out_and_other_formats_are_refused() {
        for path in ["../x", "/etc/passwd", "", "c/../../x", "c\\\\x", "C:x"] {
            let error = read(manifest(path).as_bytes()).expect_err(path).to_string();
            assert!(error.contains("no path in it"), "{path}: {error}");
        }
        let other =
            |from: &str, to: &str| read(manifest("c/w").replace(from, to).as_bytes()).expect_err(to).to_string();
        assert!(other("1.0.0", "1.0.1").contains("`1.0.1`"));
        assert!(other("1.0.0", "1.0").contains("`1.0`"));
        assert!(other(r#""m","item"#, r#""z","item"#).contains("`z`"));
        assert!(read(b"{}").is_err() && read(b"[]").is_err());
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_an_error_or_still_a_manifest_of_plain_paths(at in any::<usize>(), to in any::<u8>(), cut in any::<usize>()) {
            let mut bytes = manifest("c/weights").into_bytes();
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = to;
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Ok(manifest) = read(bytes) {
                    prop_assert!(manifest.items.iter().all(|item| names::check(item).is_ok()));
                }
            }
        }
    }
}
