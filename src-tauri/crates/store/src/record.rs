//! What is written beside an installed model: where it came from, and what its self-test found.
//!
//! Both are versioned JSON files of their own, replaced whole. One that a newer Embedbar wrote, or that is damaged, is as
//! good as none: the model itself is what counts, and it can be tested again.

use std::fs;
use std::io;
use std::path::Path;

use embedbar_contract::{Card, ModelOrigin};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::StoreError;

const ORIGIN: &str = "origin.json";
const CARD: &str = "card.json";
const VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct Versioned<Content> {
    version: u32,
    #[serde(flatten)]
    content: Content,
}

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
    let bytes = fs::read(path).ok()?;
    let read: Versioned<Content> = serde_json::from_slice(&bytes).ok()?;
    (read.version <= VERSION).then_some(read.content)
}

fn write(path: &Path, content: &impl Serialize) -> Result<(), StoreError> {
    let written = serde_json::to_vec_pretty(&Versioned { version: VERSION, content }).map_err(io::Error::other);
    let mut json = written.map_err(StoreError::io("write", path))?;
    json.push(b'\n');
    let temporary = path.with_extension("json.new");
    fs::write(&temporary, json)
        .and_then(|()| fs::File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
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
