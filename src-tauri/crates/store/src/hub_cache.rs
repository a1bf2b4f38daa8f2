//! Models that other programs have downloaded: the cache of the Hugging Face hub, read and never written.
//!
//! A model `owner/name` is the folder `models--owner--name`, whose `refs/main` holds the name of a folder in `snapshots`
//! (huggingface_hub, "Understand caching").

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The folder of a model that was downloaded before, by its id.
pub fn downloaded(id: &str) -> Result<PathBuf, StoreError> {
    find(id, &cache())
}

/// Whether a text has the form of an id, which is also that of a relative path of two names.
pub fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

fn find(id: &str, cache: &Path) -> Result<PathBuf, StoreError> {
    let missing = || StoreError::NotDownloaded { id: id.to_owned(), looked: cache.to_owned() };
    if !is_id(id) {
        return Err(StoreError::UnknownModel(id.to_owned()));
    }
    let folder = cache.join(format!("models--{}", id.replace('/', "--")));
    let revision = fs::read_to_string(folder.join("refs/main")).map_err(|_| missing())?;
    let revision = revision.trim();
    // It becomes part of a path.
    if revision.is_empty() || !revision.chars().all(|it| it.is_ascii_alphanumeric()) {
        return Err(missing());
    }
    let snapshot = folder.join("snapshots").join(revision);
    if snapshot.join("config.json").is_file() { Ok(snapshot) } else { Err(missing()) }
}

/// Where huggingface_hub keeps it: named by one of its variables, else in the home folder.
fn cache() -> PathBuf {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = named("HF_HUB_CACHE").or_else(|| named("HUGGINGFACE_HUB_CACHE")) {
        return cache;
    }
    let home = || named("HOME").unwrap_or_else(|| PathBuf::from("/"));
    let folder = named("HF_HOME")
        .or_else(|| named("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .unwrap_or_else(|| home().join(".cache/huggingface"));
    folder.join("hub")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_downloaded_model_is_found_by_its_id_and_nothing_leads_out_of_the_cache() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let model = cache.path().join("models--Qwen--Qwen3-Embedding-0.6B");
        let snapshot = model.join("snapshots/0123abc");
        fs::create_dir_all(&snapshot).expect("it can be made");
        fs::create_dir_all(model.join("refs")).expect("it can be made");
        fs::write(snapshot.join("config.json"), "{}").expect("it can be written");
        let found = || find("Qwen/Qwen3-Embedding-0.6B", cache.path());
        assert!(matches!(found(), Err(StoreError::NotDownloaded { .. })), "there is no revision yet");
        fs::write(model.join("refs/main"), "0123abc\n").expect("it can be written");
        assert_eq!(found().expect("it is there"), snapshot);
        fs::write(model.join("refs/main"), "../../..").expect("it can be written");
        assert!(matches!(found(), Err(StoreError::NotDownloaded { .. })));
        for id in ["../x", "a/../b", "/etc", "a", "a/b/c", "a/", "a\\b/c"] {
            assert!(matches!(find(id, cache.path()), Err(StoreError::UnknownModel(_))), "{id}");
        }
    }
}
