//! Versioned JSON, for what Embedbar remembers: `{"version": 1, …}`.
//!
//! What is not here: what an older version looked like. Each program reads the versions that it knows, and whoever owns a record
//! gives the fields that came later a default.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::whole::{Draft, PRIVATE, Refused, Unread, read_whole};

/// More bytes are no record: none is read that has more, and none is written.
pub const MOST_BYTES: u64 = 16 << 20;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refused.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A newer Embedbar has written it.
    #[error("`{}` was written by a newer Embedbar (version {found}; this one knows {known})", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest one that this program knows.
        known: u64,
    },
    /// It is not what this program writes.
    #[error("`{}` is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl RecordError {
    /// Says that what was read cannot be.
    pub fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    /// The error in one sentence, with the system's reason where there is one.
    pub fn sentence(&self) -> String {
        match self {
            Self::Refused(refused) => format!("{refused}: {}", refused.source),
            _ => self.to_string(),
        }
    }

    /// What the reader can do, where nothing but `lost` goes with the file.
    pub fn hint(&self, lost: &str) -> String {
        match self {
            Self::Refused(_) => {
                "Check that it is yours, that its folder can be written to and that the disk is not full.".to_owned()
            }
            Self::Newer { .. } => "Start the newer Embedbar, or choose another folder with `--home DIR`.".to_owned(),
            Self::Damaged { .. } => format!("Delete it: nothing is lost but {lost}, and you are asked again."),
        }
    }
}

#[derive(Deserialize, Serialize)]
struct Versioned<Content> {
    version: u64,
    #[serde(flatten)]
    content: Content,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u64,
}

/// Reads a record, of which versions up to `known` can be read; `None` where there is none yet.
pub fn read<Content: DeserializeOwned>(path: &Path, known: u64) -> Result<Option<Content>, RecordError> {
    let bytes = match read_whole(path, MOST_BYTES) {
        Ok(whole) => whole.bytes,
        Err(Unread::Refused(refused)) if refused.source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(Unread::Refused(refused)) => return Err(refused.into()),
        Err(Unread::NotAFile { .. }) => {
            return Err(Refused::to("read", path)(io::Error::other("it is not a file")).into());
        }
        Err(Unread::TooLarge { most, .. }) => {
            return Err(RecordError::damaged(path, format!("more than {most} bytes")));
        }
    };
    // First the version alone: what follows it may have another form.
    let version: OnlyVersion =
        serde_json::from_slice(&bytes).map_err(|error| RecordError::damaged(path, error.to_string()))?;
    if version.version > known {
        return Err(RecordError::Newer { path: path.to_owned(), found: version.version, known });
    }
    let record: Versioned<Content> =
        serde_json::from_slice(&bytes).map_err(|error| RecordError::damaged(path, error.to_string()))?;
    Ok(Some(record.content))
}

/// Puts a record, an object in JSON, into the place of the old one. Only its owner can read it.
pub fn write<Content: Serialize>(path: &Path, version: u64, content: &Content) -> Result<(), Refused> {
    let mut json = serde_json::to_vec_pretty(&Versioned { version, content })
        .map_err(io::Error::other)
        .map_err(Refused::to("write", path))?;
    json.push(b'\n');
    if json.len() as u64 > MOST_BYTES {
        let large = io::Error::new(io::ErrorKind::FileTooLarge, format!("it would have more than {MOST_BYTES} bytes"));
        return Err(Refused::to("write", path)(large));
    }
    Draft::beside(path, &json, PRIVATE)?.replace()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// What the records of this program are made of.
    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    struct Content {
        by_name: BTreeMap<String, Vec<u64>>,
        ratio: Option<f64>,
        stage: Stage,
        place: PathBuf,
    }

    #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
    #[serde(rename_all = "snake_case", tag = "at")]
    enum Stage {
        Chosen,
        Asked { when_ms: u64 },
    }

    fn content() -> impl Strategy<Value = Content> {
        let stage = prop_oneof![Just(Stage::Chosen), any::<u64>().prop_map(|when_ms| Stage::Asked { when_ms })];
        let by_name = prop::collection::btree_map(any::<String>(), prop::collection::vec(any::<u64>(), 0..4), 0..4);
        let ratio = prop::option::of(any::<i32>().prop_map(|it| f64::from(it) / 64.0));
        (by_name, ratio, stage, any::<String>()).prop_map(|(by_name, ratio, stage, place)| Content {
            by_name,
            ratio,
            stage,
            place: place.into(),
        })
    }

    fn sample() -> Content {
        Content {
            by_name: BTreeMap::from([("ü".to_owned(), vec![u64::MAX, 0])]),
            ratio: Some(0.5),
            stage: Stage::Asked { when_ms: 7 },
            place: "/a".into(),
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_is_json_with_its_version(content in content(), version in 0..=u64::MAX) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("record.json");
            write(&path, version, &content).expect("it can be written");
            prop_assert_eq!(read::<Content>(&path, version).expect("it is there"), Some(content.clone()));
            let mut plain: serde_json::Value =
                serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("it is JSON");
            let written = plain.as_object_mut().expect("an object").remove("version");
            prop_assert_eq!(written, Some(json!(version)));
            prop_assert_eq!(plain, serde_json::to_value(&content).expect("it is data"));
            if let Some(known) = version.checked_sub(1) {
                let error = read::<Content>(&path, known).expect_err("it is newer");
                prop_assert!(matches!(error, RecordError::Newer { found, .. } if found == version), "{}", error);
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("record.json");
            fs::write(&path, &bytes).expect("it can be written");
            let error = read::<Content>(&path, 1).expect_err("so much luck is none");
            prop_assert!(matches!(error, RecordError::Damaged { .. }), "{}", error);
            prop_assert_eq!(fs::read(&path).expect("it is left alone"), bytes);
        }
    }

    #[test]
    fn a_record_that_was_cut_off_anywhere_is_damaged_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        write(&path, 1, &sample()).expect("it can be written");
        let whole = fs::read(&path).expect("it is there");
        // The last byte is a newline, without which it is whole.
        for length in 0..whole.len() - 1 {
            fs::write(&path, &whole[..length]).expect("it can be written");
            let error = read::<Content>(&path, 1).expect_err("it is not whole");
            assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
            assert_eq!(fs::read(&path).expect("it is there"), whole[..length]);
        }
    }

    #[test]
    fn a_newer_record_in_another_form_is_refused_with_a_sentence_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        let newer = r#"{"by_name": "in another form", "version": 3}"#;
        fs::write(&path, newer).expect("it can be written");
        let error = read::<Content>(&path, 2).expect_err("it is newer");
        let sentence = format!("`{}` was written by a newer Embedbar (version 3; this one knows 2)", path.display());
        assert_eq!(error.sentence(), sentence);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), newer);
    }

    #[test]
    fn none_is_no_error_and_what_is_no_record_is_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        assert_eq!(read::<Content>(&path, 1).expect("it need not be there"), None);
        for other in ["", "[]", "[1]", "1", "{}", r#"{"version": -1}"#, r#"{"version": "1"}"#, r#"{"version": 1}"#] {
            fs::write(&path, other).expect("it can be written");
            let error = read::<Content>(&path, 1).expect_err(other);
            assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
        }
        fs::remove_file(&path).expect("it is there");
        fs::create_dir(&path).expect("it can be made");
        let error = read::<Content>(&path, 1).expect_err("it is a folder");
        assert_eq!(error.sentence(), format!("cannot read `{}`: it is not a file", path.display()));
    }

    #[test]
    fn only_its_owner_can_read_it_also_where_the_old_one_was_open() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        fs::write(&path, "{}").expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("it can be set");
        write(&path, 1, &sample()).expect("it can be written");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_too_large_is_neither_read_nor_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        write(&path, 1, &sample()).expect("it can be written");
        let huge = Content { place: "x".repeat(MOST_BYTES as usize).into(), ..sample() };
        let error = write(&path, 1, &huge).expect_err("it is too large");
        assert_eq!(error.source.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read::<Content>(&path, 1).expect("the old one is there"), Some(sample()));
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing else is left");
        fs::File::options().write(true).open(&path).expect("it is there").set_len(MOST_BYTES + 1).expect("it can grow");
        let error = read::<Content>(&path, 1).expect_err("it is too large");
        assert_eq!(error.to_string(), format!("`{}` is damaged: more than {MOST_BYTES} bytes", path.display()));
    }

    #[test]
    fn what_is_no_object_is_not_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        let error = write(&path, 1, &[1, 2]).expect_err("a version has no place in it");
        assert!(error.to_string().starts_with("cannot write `") && !path.exists(), "{error}");
    }
}
