//! Which files may change anything: those that somebody has approved, each with the variables that it then had.
//!
//! A file in a folder that came from elsewhere must not load models, name a server or start a download by lying there. It is
//! approved once, by its canonical path and the names that matter ([`Written::keys_that_matter`](crate::Written)); a value may
//! then change, another name asks again. What is not here: asking, and what an untrusted file would do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SettingsError;

/// The version that this program reads and writes.
const VERSION: u64 = 1;

/// Files that were approved.
#[derive(Debug)]
pub struct Trust {
    store: PathBuf,
    approved: Approved,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Approved {
    /// By canonical path.
    files: BTreeMap<String, BTreeSet<String>>,
}

/// Whether a file may change anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It was approved with all of these variables.
    Trusted,
    /// Nobody has approved it.
    New,
    /// It was approved, but not with these variables.
    KeysChanged {
        /// Those that were not there, in order.
        added: Vec<String>,
    },
}

impl Trust {
    /// Opens the store, which need not be there yet.
    pub fn open(store: impl Into<PathBuf>) -> Result<Self, SettingsError> {
        let store = store.into();
        let approved = embedbar_records::read(&store, VERSION)?.unwrap_or_default();
        Ok(Self { store, approved })
    }

    /// Whether a file with these variables may change anything. A file that is not there may not.
    pub fn verdict<Key: AsRef<str>>(&self, file: &Path, keys: impl IntoIterator<Item = Key>) -> Verdict {
        let Some(approved) = canonical(file).ok().and_then(|file| self.approved.files.get(&file)) else {
            return Verdict::New;
        };
        let keys: BTreeSet<String> = keys.into_iter().map(|key| key.as_ref().to_owned()).collect();
        let added: Vec<String> = keys.difference(approved).cloned().collect();
        if added.is_empty() { Verdict::Trusted } else { Verdict::KeysChanged { added } }
    }

    /// Approves a file with these variables, beside those with which it was approved before.
    pub fn approve<Key: AsRef<str>>(
        &mut self,
        file: &Path,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<(), SettingsError> {
        let file = canonical(file)?;
        let mut approved = self.approved.clone();
        approved.files.entry(file).or_default().extend(keys.into_iter().map(|key| key.as_ref().to_owned()));
        self.keep(approved)
    }

    /// Takes an approval back, also of a file that is gone. Whether there was one.
    pub fn revoke(&mut self, file: &Path) -> Result<bool, SettingsError> {
        let file = canonical(file).unwrap_or_else(|_| file.to_string_lossy().into_owned());
        let mut approved = self.approved.clone();
        let was_there = approved.files.remove(&file).is_some();
        if was_there {
            self.keep(approved)?;
        }
        Ok(was_there)
    }

    /// The files that were approved.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.approved.files.keys().map(Path::new)
    }

    /// Only what is on the disk holds.
    fn keep(&mut self, approved: Approved) -> Result<(), SettingsError> {
        embedbar_records::write(&self.store, VERSION, &approved)?;
        self.approved = approved;
        Ok(())
    }
}

fn canonical(file: &Path) -> Result<String, SettingsError> {
    let path = file.canonicalize().map_err(SettingsError::io("find", file))?;
    path.into_os_string().into_string().map_err(|path| SettingsError::PathNotUtf8 { path: path.into() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use embedbar_records::RecordError;

    use super::*;

    fn folder_with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            fs::write(folder.path().join(name), "A=b\n").expect("it can be written");
        }
        folder
    }

    #[test]
    fn a_file_is_asked_about_once_and_again_for_another_variable() {
        let folder = folder_with(&["env"]);
        let (file, store) = (folder.path().join("env"), folder.path().join("trust.json"));
        let mut trust = Trust::open(&store).expect("it need not be there");
        assert_eq!(trust.verdict(&file, ["B", "A"]), Verdict::New);
        trust.approve(&file, ["B", "A"]).expect("it can be written");
        let trust = Trust::open(&store).expect("it was written");
        assert_eq!(trust.verdict(&file, ["A", "B"]), Verdict::Trusted);
        assert_eq!(trust.verdict(&file, ["A"]), Verdict::Trusted);
        let added = vec!["C".to_owned(), "D".to_owned()];
        assert_eq!(trust.verdict(&file, ["D", "A", "C", "D"]), Verdict::KeysChanged { added });
        assert_eq!(fs::metadata(&store).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn trust_goes_with_the_file_and_not_with_the_link() {
        let folder = folder_with(&["one", "other"]);
        let (one, other, link) = (folder.path().join("one"), folder.path().join("other"), folder.path().join("link"));
        symlink(&one, &link).expect("it can be made");
        let mut trust = Trust::open(folder.path().join("trust.json")).expect("it need not be there");
        trust.approve(&link, ["A"]).expect("it can be written");
        assert_eq!(trust.verdict(&one, ["A"]), Verdict::Trusted);
        fs::remove_file(&link).expect("it is there");
        symlink(&other, &link).expect("it can be made");
        assert_eq!(trust.verdict(&link, ["A"]), Verdict::New);
        assert_eq!(trust.verdict(&folder.path().join("gone"), ["A"]), Verdict::New);
    }

    #[test]
    fn an_approval_can_be_taken_back_also_when_the_file_is_gone() {
        let folder = folder_with(&["env"]);
        let file = folder.path().canonicalize().expect("it is there").join("env");
        let mut trust = Trust::open(folder.path().join("trust.json")).expect("it need not be there");
        trust.approve(&file, ["A"]).expect("it can be written");
        fs::remove_file(&file).expect("it is there");
        assert_eq!(trust.files().collect::<Vec<_>>(), [file.as_path()]);
        assert!(trust.revoke(&file).expect("it can be written"));
        assert!(!trust.revoke(&file).expect("nothing to do"));
        assert_eq!(Trust::open(folder.path().join("trust.json")).expect("it is there").files().count(), 0);
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused_with_a_sentence_and_left_alone() {
        let folder = folder_with(&[]);
        let store = folder.path().join("trust.json");
        let newer = r#"{"version": 2, "files": "in another form"}"#;
        fs::write(&store, newer).expect("it can be written");
        let error = Trust::open(&store).expect_err("it is newer");
        assert!(matches!(error, SettingsError::Record(RecordError::Newer { found: 2, known: 1, .. })), "{error}");
        assert!(error.to_string().contains("was written by a newer Embedbar"), "{error}");
        assert_eq!(fs::read_to_string(&store).expect("it is there"), newer);
    }

    #[test]
    fn a_damaged_store_trusts_nothing() {
        let folder = folder_with(&[]);
        let store = folder.path().join("trust.json");
        for content in ["", "{", "[]", r#"{"version":1}"#, r#"{"version":1,"files":{"a":3}}"#, r#"{"files":{}}"#] {
            fs::write(&store, content).expect("it can be written");
            let error = Trust::open(&store).expect_err(content);
            assert!(matches!(error, SettingsError::Record(RecordError::Damaged { .. })), "{error}");
        }
    }
}
