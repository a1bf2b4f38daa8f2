//! Which `.env` is followed: one at a time, chosen by the user, remembered.
//!
//! What is not here: whether it may change anything ([`Trust`](crate::Trust)), and looking at it ([`Watch`](crate::Watch)).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SettingsError;
use crate::file::EnvFile;

/// The version that this program reads and writes.
const VERSION: u64 = 1;

/// The choice of the user.
#[derive(Debug)]
pub struct Followed {
    store: PathBuf,
    choice: Choice,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Choice {
    followed: Option<String>,
}

impl Followed {
    /// Opens the store, which need not be there yet: then no file is followed.
    pub fn open(store: impl Into<PathBuf>) -> Result<Self, SettingsError> {
        let store = store.into();
        let choice = embedbar_records::read(&store, VERSION)?.unwrap_or_default();
        Ok(Self { store, choice })
    }

    /// The file that is followed. It may be gone by now.
    pub fn path(&self) -> Option<&Path> {
        self.choice.followed.as_deref().map(Path::new)
    }

    /// Follows a file, or the `.env` in a folder, and no other from now on. It must be there and be readable.
    ///
    /// A link is remembered as a link, so that one that is pointed elsewhere is followed there.
    pub fn follow(&mut self, path: &Path) -> Result<EnvFile, SettingsError> {
        let file = EnvFile::at(path)?;
        let followed = file.path().to_str().map(str::to_owned);
        let Some(followed) = followed else { return Err(SettingsError::PathNotUtf8 { path: path.to_owned() }) };
        self.keep(Choice { followed: Some(followed) })?;
        Ok(file)
    }

    /// Follows no file any more.
    pub fn stop(&mut self) -> Result<(), SettingsError> {
        self.keep(Choice { followed: None })
    }

    /// Only what is on the disk holds.
    fn keep(&mut self, choice: Choice) -> Result<(), SettingsError> {
        embedbar_records::write(&self.store, VERSION, &choice)?;
        self.choice = choice;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use embedbar_records::RecordError;

    use super::*;

    #[test]
    fn one_file_is_followed_and_remembered() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("followed.json");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        for project in [&one, &other] {
            fs::create_dir(project).expect("it can be made");
            fs::write(project.join(".env"), "A=b\n").expect("it can be written");
        }
        let mut followed = Followed::open(&store).expect("it need not be there");
        assert_eq!(followed.path(), None);
        let file = followed.follow(&one).expect("the folder has one");
        assert_eq!(file.folder(), one);
        followed.follow(&other.join(".env")).expect("it is there");
        let mut followed = Followed::open(&store).expect("it was written");
        assert_eq!(followed.path(), Some(other.join(".env").as_path()));
        followed.stop().expect("it can be written");
        assert_eq!(Followed::open(&store).expect("it was written").path(), None);
    }

    #[test]
    fn what_is_not_there_is_not_followed_and_the_choice_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("settings.env");
        fs::write(&file, "A=b\n").expect("it can be written");
        let mut followed = Followed::open(folder.path().join("followed.json")).expect("it need not be there");
        followed.follow(&file).expect("it is there");
        for path in [folder.path().to_owned(), folder.path().join("gone"), PathBuf::from("/dev/null")] {
            followed.follow(&path).expect_err("it is no file");
            assert_eq!(followed.path(), Some(file.as_path()));
        }
    }

    #[test]
    fn a_link_is_remembered_as_a_link() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, link) = (folder.path().join("shared"), folder.path().join(".env"));
        fs::write(&file, "A=b\n").expect("it can be written");
        symlink(&file, &link).expect("it can be made");
        let mut followed = Followed::open(folder.path().join("followed.json")).expect("it need not be there");
        let read = followed.follow(folder.path()).expect("it is there");
        assert_eq!(followed.path(), Some(link.as_path()));
        assert_eq!(read.target(), file.canonicalize().expect("it is there"));
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("followed.json");
        fs::write(&store, r#"{"version": 7}"#).expect("it can be written");
        let error = Followed::open(&store).expect_err("it is newer");
        assert!(matches!(error, SettingsError::Record(RecordError::Newer { found: 7, .. })), "{error}");
    }
}
