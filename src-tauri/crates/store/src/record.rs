//! What is written beside an installed model: where it came from, and what its self-test found.
//!
//! Both are records of their own (`embedbar-records`). One that a newer Embedbar wrote, or that is damaged, is as
//! good as none: the model itself is what counts, and it can be tested again.

use std::path::Path;

use embedbar_contract::{Card, ModelOrigin};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;

const ORIGIN: &str = "origin.json";
const CARD: &str = "card.json";
const VERSION: u64 = 1;

/// Where the model in `folder` came from; `None` where that is not known.
pub fn read_origin(folder: &Path) -> Option<ModelOrigin> {
    read(&folder.join(ORIGIN))
}

/// Writes where the model in `folder` came from.
pub fn write_origin(folder: &Path, origin: &ModelOrigin) -> Result<(), StoreError> {
    write(&folder.join(ORIGIN), origin)
}

/// What the self-test of the model in `folder` found; `None` where there was none.
pub fn read_card(folder: &Path) -> Option<Card> {
    read(&folder.join(CARD))
}

/// Writes what the self-test of the model in `folder` found.
pub fn write_card(folder: &Path, card: &Card) -> Result<(), StoreError> {
    write(&folder.join(CARD), card)
}

fn read<Content: DeserializeOwned>(path: &Path) -> Option<Content> {
    embedbar_records::read(path, VERSION).ok().flatten()
}

fn write(path: &Path, content: &impl Serialize) -> Result<(), StoreError> {
    Ok(embedbar_records::write(path, VERSION, content)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use embedbar_contract::{ModelKind, OriginFile, Placing};

    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_one_that_is_not_understood_is_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(read_origin(folder.path()), None);
        let origin = ModelOrigin {
            source: "owner/name".into(),
            commit: Some("0".repeat(40)),
            licence: None,
            kind: ModelKind::Gguf,
            placed: Placing::Copied,
            installed_at: 7,
            files: vec![OriginFile { path: "x.gguf".into(), bytes: 3, sha256: "ab".into() }],
        };
        write_origin(folder.path(), &origin).expect("it can be written");
        assert_eq!(read_origin(folder.path()), Some(origin));
        let path = folder.path().join(ORIGIN);
        let newer = fs::read_to_string(&path).expect("it is there").replace("\"version\": 1", "\"version\": 2");
        fs::write(&path, newer).expect("it can be written");
        assert_eq!(read_origin(folder.path()), None);
    }
}
