//! What Core ML has compiled for us and will never use again.
//!
//! Core ML keeps what it made of a model for one build of macOS, below the caches of the process that loaded it:
//! `~/Library/Caches/NAME/com.apple.e5rt.e5bundlecache/BUILD`. After an update of the system everything is compiled again into a
//! folder of the new build, and nobody removes the old one: gigabytes for a large model. The present build's folder is what makes
//! a load fast and holds no memory, so it stays. Never run on a Mac.

use std::path::{Path, PathBuf};

/// Names under which the system keeps caches of ours: the headless program, which is the worker, and the app.
const OURS: [&str; 3] = ["embedbar", "embedbar-desktop", "dev.embedbar.desktop"];

/// The folders of other builds than `build` below `caches`, ours and nobody else's.
pub(crate) fn of_other_builds(caches: &Path, build: &str) -> Vec<PathBuf> {
    let bundles = OURS.iter().map(|name| caches.join(name).join("com.apple.e5rt.e5bundlecache"));
    let builds = bundles.filter_map(|bundle| bundle.read_dir().ok()).flatten().flatten();
    builds
        // A link leads to something that is not ours.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name != build && is_build(name)))
        .map(|entry| entry.path())
        .collect()
}

/// Whether this is how Apple numbers builds, as in `24G84` or `25A5316i`; anything else is not known and stays.
fn is_build(name: &str) -> bool {
    let (digits, rest) = name.split_at(name.bytes().take_while(u8::is_ascii_digit).count());
    let mut rest = rest.bytes();
    let train = rest.next().is_some_and(|byte| byte.is_ascii_uppercase());
    !digits.is_empty() && train && rest.len() > 0 && rest.all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_our_folders_of_other_builds_are_found() {
        let caches = tempfile::tempdir().expect("a temporary folder");
        let bundle = |name: &str| caches.path().join(name).join("com.apple.e5rt.e5bundlecache");
        for (name, build) in [
            ("embedbar", "24G84"),
            ("embedbar", "24F74"),
            ("embedbar", "notes"),
            ("dev.embedbar.desktop", "25A5316i"),
            ("com.example.other", "24F74"),
        ] {
            fs::create_dir_all(bundle(name).join(build)).expect("it can be made");
        }
        fs::write(bundle("embedbar").join("23A344"), "a file").expect("it can be written");
        std::os::unix::fs::symlink(caches.path(), bundle("embedbar").join("22A380")).expect("it can be made");
        let mut found = of_other_builds(caches.path(), "24G84");
        found.sort();
        assert_eq!(found, [bundle("dev.embedbar.desktop").join("25A5316i"), bundle("embedbar").join("24F74")]);
        assert!(of_other_builds(&caches.path().join("nothing"), "24G84").is_empty());
    }
}
