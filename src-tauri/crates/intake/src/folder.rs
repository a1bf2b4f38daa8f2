//! What lies in one folder: its files, its folders, and what is neither. Links to files are followed, because the cache of the
//! hub is made of them; links to folders are not, because they can lead round and round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::{IntakeError, files, licence, names};

/// Names in one folder at most.
const NAMES: usize = 10_000;
const LICENCE_BYTES: u64 = 1 << 20;

/// One folder, looked at once.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    /// Sizes of the regular files by name, through links.
    pub(crate) files: BTreeMap<String, u64>,
    /// Folders that are not links.
    pub(crate) folders: BTreeSet<String>,
    /// What is neither, and what it is.
    pub(crate) odd: BTreeMap<String, &'static str>,
}

impl Folder {
    /// Looks only for the given names in `path`: a folder of downloads is not listed for one of them.
    pub(crate) fn named(path: &Path, names: &[&str]) -> Result<Self, IntakeError> {
        let mut folder = Self::empty(path);
        for name in names {
            match fs::symlink_metadata(path.join(name)) {
                Ok(found) => folder.add((*name).to_owned(), found.file_type()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(IntakeError::reading(&path.join(name))(error)),
            }
        }
        Ok(folder)
    }

    fn empty(path: &Path) -> Self {
        Self { path: path.to_path_buf(), files: BTreeMap::new(), folders: BTreeSet::new(), odd: BTreeMap::new() }
    }

    /// Looks at `path`. Hidden names and what systems leave in folders are passed over, and so is what is not UTF-8.
    pub(crate) fn read(path: &Path) -> Result<Self, IntakeError> {
        Self::list(path, NAMES)
    }

    /// Looks at the folder of a file that was dropped, which may be one of many things there.
    pub(crate) fn around(path: &Path) -> Result<Self, IntakeError> {
        const MANY: usize = 200_000;
        Self::list(path, MANY)
    }

    fn list(path: &Path, most: usize) -> Result<Self, IntakeError> {
        let mut folder = Self::empty(path);
        for (count, entry) in fs::read_dir(path).map_err(IntakeError::reading(path))?.enumerate() {
            if count == most {
                return Err(IntakeError::NotAModel {
                    path: path.to_path_buf(),
                    what: format!("a folder of more than `{most}` files"),
                });
            }
            let entry = entry.map_err(IntakeError::reading(path))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if names::is_debris(&name) || names::check(&name).is_err() {
                continue;
            }
            let kind = entry.file_type().map_err(IntakeError::reading(path))?;
            folder.add(name, kind);
        }
        Ok(folder)
    }

    fn add(&mut self, name: String, kind: fs::FileType) {
        if kind.is_dir() {
            self.folders.insert(name);
            return;
        }
        let Ok(found) = fs::metadata(self.path.join(&name)) else {
            self.odd.insert(name, "a link to nothing");
            return;
        };
        match files::irregular(found.file_type()) {
            None => {
                self.files.insert(name, found.len());
            }
            Some("a folder") => {
                self.odd.insert(name, "a link to a folder");
            }
            Some(what) => {
                self.odd.insert(name, what);
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The path of a file that is needed; an error that says what is there instead.
    pub(crate) fn needed(&self, name: &str) -> Result<(PathBuf, u64), IntakeError> {
        if let Some(bytes) = self.files.get(name) {
            return Ok((self.path.join(name), *bytes));
        }
        match self.odd.get(name) {
            Some(&"a link to nothing") => Err(IntakeError::NotFound { path: self.path.join(name) }),
            Some(what) => Err(IntakeError::NotAFile { path: self.path.join(name), what }),
            None => Err(IntakeError::Missing { folder: self.path.clone(), file: name.to_owned(), instead: None }),
        }
    }

    /// Names of files with this extension.
    pub(crate) fn with_extension(&self, extension: &str) -> Vec<&str> {
        self.files.keys().filter(|name| names::extension(name) == extension).map(String::as_str).collect()
    }

    /// Files that say under which terms the model is.
    pub(crate) fn papers(&self) -> Vec<&str> {
        let is_paper = |name: &str| {
            let upper = name.to_ascii_uppercase();
            upper == "README.MD"
                || upper == "NOTICE"
                || (upper.starts_with("LICEN")
                    && ["", "MD", "TXT"].contains(&names::extension(&upper).to_uppercase().as_str()))
        };
        let small = self.files.iter().filter(|(name, bytes)| is_paper(name) && **bytes <= LICENCE_BYTES);
        small.map(|(name, _)| name.as_str()).collect()
    }

    /// What those files say.
    pub(crate) fn licence(&self) -> Option<String> {
        let text = |name: &str| {
            let bytes = files::read(&self.path.join(name), LICENCE_BYTES).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let papers = self.papers();
        let card = papers.iter().find(|name| name.eq_ignore_ascii_case("README.md"));
        card.and_then(|name| licence::of_card(&text(name)?)).or_else(|| {
            let mut licences = papers.iter().filter(|name| name.to_ascii_uppercase().starts_with("LICEN"));
            licences.find_map(|name| licence::of_text(&text(name)?))
        })
    }
}
