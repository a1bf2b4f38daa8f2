//! How much of the disk files take: each counted once, however many names it has.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Deep enough for a package in a model's folder.
const DEPTH: usize = 6;

/// Bytes of several models, each file counted once: the blobs of the hub's cache have many names.
#[derive(Debug, Default)]
pub struct Tally {
    /// By device and number: its size, and whether it was first reached through a link.
    files: HashMap<(u64, u64), (u64, bool)>,
}

impl Tally {
    /// Adds a file, or all files of a folder. Links lead to their files, but not into folders.
    pub fn add(&mut self, path: &Path) {
        self.visit(path, DEPTH, false);
    }

    /// Adds what another tally has counted.
    pub fn merge(&mut self, other: &Self) {
        for (&file, &counted) in &other.files {
            self.files.entry(file).or_insert(counted);
        }
    }

    fn visit(&mut self, path: &Path, depth: usize, linked: bool) {
        let Ok(found) = fs::metadata(path) else { return };
        if !found.is_dir() {
            self.files.entry((found.dev(), found.ino())).or_insert((found.len(), linked));
            return;
        }
        if depth == 0 {
            return;
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if link && entry.path().is_dir() {
                continue;
            }
            self.visit(&entry.path(), depth - 1, linked || link);
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|(bytes, _)| bytes).sum()
    }

    /// Bytes of those that were not reached through a link.
    pub fn own_bytes(&self) -> u64 {
        self.files.values().filter(|(_, linked)| !linked).map(|(bytes, _)| bytes).sum()
    }
}

/// Bytes of a file, or of a folder with its models.
pub fn bytes_below(path: &Path) -> u64 {
    let mut tally = Tally::default();
    tally.add(path);
    tally.bytes()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_two_models_share_is_counted_once_and_what_lies_elsewhere_is_not_ours() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for (name, size) in [("cache/blob", 1000), ("models/a/own.json", 10), ("models/b/own.json", 20)] {
            fs::create_dir_all(at(name).parent().expect("it has one")).expect("it can be made");
            fs::write(at(name), vec![0; size]).expect("it can be written");
        }
        symlink(at("cache/blob"), at("models/a/model.safetensors")).expect("it can be made");
        symlink(at("cache/blob"), at("models/b/model.safetensors")).expect("it can be made");
        symlink(at("cache"), at("models/b/elsewhere")).expect("it can be made");
        fs::hard_link(at("models/a/own.json"), at("models/b/same.json")).expect("it can be made");
        let mut tally = Tally::default();
        tally.add(&at("models/a"));
        assert_eq!((tally.bytes(), tally.own_bytes()), (1010, 10));
        let mut other = Tally::default();
        other.add(&at("models/b"));
        tally.merge(&other);
        tally.add(&at("nowhere"));
        assert_eq!((tally.bytes(), tally.own_bytes()), (1030, 30));
    }
}
