//! `Manifest.json`: which file of a package is the model, and that nothing it names lies outside the package. What the
//! files say is not looked at here.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::MilError;

/// Real manifests have 600 bytes.
const MANIFEST_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    file_format_version: String,
    root_model_identifier: String,
    item_info_entries: BTreeMap<String, Item>,
}

#[derive(Deserialize)]
struct Item {
    path: String,
    name: String,
    author: String,
    description: String,
}

/// A package's files: all of them are regular files or folders within it.
#[derive(Debug)]
pub(crate) struct Layout {
    /// `Data/`, without symbolic links in its path.
    pub(crate) data: PathBuf,
    /// The model.
    pub(crate) model: PathBuf,
}

/// Reads the manifest of the package in `folder` and finds the model.
pub(crate) fn read(folder: &Path) -> Result<Layout, MilError> {
    if !fs::metadata(folder).map_err(MilError::reading(folder))?.is_dir() {
        return Err(MilError::not_a_package(folder, "it is a file"));
    }
    let path = folder.join("Manifest.json");
    let text = read_bounded(&path, MANIFEST_BYTES)?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| MilError::corrupt(&path, format!("{error}")))?;
    check_version(&manifest.file_format_version).map_err(|problem| MilError::corrupt(&path, problem))?;
    let data = folder.join("Data");
    let data = fs::canonicalize(&data).map_err(MilError::reading(&data))?;
    let root = fs::canonicalize(folder).map_err(MilError::reading(folder))?;
    if !data.starts_with(&root) {
        return Err(MilError::not_a_package(folder, "`Data` is a link to a place outside it"));
    }
    let mut model = None;
    for (identifier, item) in &manifest.item_info_entries {
        for (field, text) in [("name", &item.name), ("author", &item.author)] {
            if text.is_empty() {
                return Err(MilError::corrupt(&path, format!("the entry `{identifier}` has an empty `{field}`")));
            }
        }
        let _ = &item.description;
        let found = within(&data, Path::new(&item.path))?;
        if *identifier == manifest.root_model_identifier {
            model = Some(found);
        }
    }
    let model = model.ok_or_else(|| {
        let problem = format!("it has no entry for its root model `{}`", manifest.root_model_identifier);
        MilError::corrupt(&path, problem)
    })?;
    Ok(Layout { data, model })
}

/// `relative` below `data`, which is canonical: the real path of something that is there and not outside.
pub(crate) fn within(data: &Path, relative: &Path) -> Result<PathBuf, MilError> {
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || relative.as_os_str().is_empty() {
        return Err(MilError::not_a_package(
            data,
            format!("it names `{}`, which is no path within it", relative.display()),
        ));
    }
    let path = data.join(relative);
    let real = fs::canonicalize(&path).map_err(MilError::reading(&path))?;
    if !real.starts_with(data) {
        let problem = format!("`{}` is a link to a place outside it", relative.display());
        return Err(MilError::not_a_package(data, problem));
    }
    Ok(real)
}

/// The bytes of a regular file of at most `limit` bytes.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, MilError> {
    let file = open_regular(path)?;
    let size = file.metadata().map_err(MilError::reading(path))?.len();
    if size > limit {
        return Err(MilError::corrupt(path, format!("it has `{size}` bytes; at most `{limit}` are read")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows meanwhile is not followed.
    file.take(limit).read_to_end(&mut bytes).map_err(MilError::reading(path))?;
    Ok(bytes)
}

/// Opens a regular file: opening a pipe would wait for somebody to write to it.
pub(crate) fn open_regular(path: &Path) -> Result<fs::File, MilError> {
    if !fs::metadata(path).map_err(MilError::reading(path))?.is_file() {
        return Err(MilError::corrupt(path, "it is not a file"));
    }
    fs::File::open(path).map_err(MilError::reading(path))
}

/// Three numbers, at most 1.0.0.
fn check_version(version: &str) -> Result<(), String> {
    let numbers: Option<Vec<u64>> = version.split('.').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some(numbers @ [_, _, _]) if *numbers <= [1, 0, 0][..] => Ok(()),
        _ => Err(format!("its format has the version `{version}`; `1.0.0` is the newest that is known")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    fn manifest(path: &str) -> String {
        format!(
            r#"{{"fileFormatVersion":"1.0.0","rootModelIdentifier":"m","itemInfoEntries":{{"m":
            {{"author":"a","name":"n","description":"","path":"{path}"}}}}}}"#
        )
    }

    fn package(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(folder.path().join("Data/inner")).expect("a folder");
        fs::write(folder.path().join("Manifest.json"), manifest).expect("a manifest");
        fs::write(folder.path().join("Data/inner/model.mlmodel"), "").expect("a model");
        folder
    }

    #[test]
    fn a_model_within_data_is_found() {
        let folder = package(&manifest("inner/model.mlmodel"));
        let layout = read(folder.path()).expect("a package");
        assert!(layout.model.starts_with(&layout.data));
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["../Manifest.json", "inner/../../Manifest.json", "/etc/passwd", "", ".", "inner/./../x"] {
            let folder = package(&manifest(path));
            let error = read(folder.path()).expect_err(path);
            assert!(matches!(error, MilError::NotAPackage { .. }), "{path}: {error}");
        }
        let folder = package(&manifest("inner/link"));
        symlink("/etc/hosts", folder.path().join("Data/inner/link")).expect("a link");
        assert!(matches!(read(folder.path()), Err(MilError::NotAPackage { .. })));
    }

    #[test]
    fn newer_formats_missing_roots_and_missing_files_are_named() {
        let error = |text: &str| read(package(text).path()).expect_err("no package").to_string();
        assert!(error(&manifest("inner/model.mlmodel").replace("1.0.0", "1.0.1")).contains("`1.0.1`"));
        assert!(error(&manifest("inner/model.mlmodel").replace("1.0.0", "1.0")).contains("`1.0`"));
        assert!(error(&manifest("inner/model.mlmodel").replace(r#":"m""#, r#":"x""#)).contains("root model `x`"));
        assert!(error(&manifest("inner/none")).contains("there is no"));
        assert!(error("{}").contains("fileFormatVersion"));
    }

    proptest! {
        #[test]
        fn any_manifest_is_a_layout_or_an_error(text in prop_oneof![".{0,200}", "\\{(\"[a-zA-Z]{0,20}\":[0-9\"{}]{0,4},?){0,4}\\}"]) {
            let folder = package(&text);
            prop_assert!(read(folder.path()).is_err());
        }

        #[test]
        fn any_path_stays_within_or_is_an_error(path in "[a-z./~\\PC]{0,24}") {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let data = fs::canonicalize(folder.path()).expect("it is there");
            if let Ok(found) = within(&data, Path::new(&path)) {
                prop_assert!(found.starts_with(&data));
            }
        }
    }
}
