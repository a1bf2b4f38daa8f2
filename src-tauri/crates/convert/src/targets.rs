//! Which packages a conversion makes: for which lengths, and by which names.

use std::ffi::OsStr;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::output::folder_of;

/// Lengths of texts, each of them once, and at least one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Lengths {
    first: NonZeroUsize,
    further: Vec<NonZeroUsize>,
}

impl Lengths {
    /// The first length, whose package has the target's own name, and further ones. One that comes again counts once.
    pub fn new(first: NonZeroUsize, further: impl IntoIterator<Item = NonZeroUsize>) -> Self {
        let mut lengths = Self { first, further: Vec::new() };
        for length in further {
            if length != first && !lengths.further.contains(&length) {
                lengths.further.push(length);
            }
        }
        lengths
    }

    /// The first one.
    pub fn first(&self) -> NonZeroUsize {
        self.first
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = NonZeroUsize> {
        std::iter::once(self.first).chain(self.further.iter().copied())
    }

    /// The largest one.
    pub fn longest(&self) -> NonZeroUsize {
        self.iter().max().unwrap_or(self.first)
    }
}

impl From<NonZeroUsize> for Lengths {
    fn from(length: NonZeroUsize) -> Self {
        Self::new(length, [])
    }
}

/// Which of the packages of a conversion: `x.mlpackage`, `x-64.mlpackage` for a further length, and `x-2of3.mlpackage` or
/// `x-64-2of3.mlpackage` for a chunk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Which {
    /// `None` is the first length.
    pub(crate) length: Option<NonZeroUsize>,
    /// A chunk's number, counted from 1, and how many there are.
    pub(crate) chunk: Option<(usize, usize)>,
}

impl Which {
    /// Where it is to be when `target` was asked for.
    pub(crate) fn path(self, target: &Path) -> PathBuf {
        if self.length.is_none() && self.chunk.is_none() {
            return target.to_path_buf();
        }
        let name = target.file_stem().unwrap_or_default().to_string_lossy();
        let length = self.length.map_or_else(String::new, |length| format!("-{length}"));
        let chunk = self.chunk.map_or_else(String::new, |(number, of)| format!("-{number}of{of}"));
        target.with_file_name(format!("{name}{length}{chunk}.mlpackage"))
    }
}

/// Whether a file or folder has one of the names that a conversion to `target` may make: that of some [`Which`].
pub(crate) fn is_named_for(name: &OsStr, target: &Path) -> bool {
    if target.file_name() == Some(name) {
        return true;
    }
    let name = Path::new(name);
    let (Some(stem), Some(of)) = (name.file_stem().and_then(OsStr::to_str), target.file_stem().and_then(OsStr::to_str))
    else {
        return false;
    };
    let Some(rest) = stem.strip_prefix(of).and_then(|rest| rest.strip_prefix('-')) else { return false };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let chunk = |text: &str| text.split_once("of").is_some_and(|(at, count)| number(at) && number(count));
    let parts = rest.split_once('-');
    let named = number(rest) || chunk(rest) || parts.is_some_and(|(length, rest)| number(length) && chunk(rest));
    named && name.extension() == Some(OsStr::new("mlpackage"))
}

/// What lies beside `target` by a name that a conversion to it may make, and is not among what was `made`: packages of other
/// lengths or of another number of chunks, left by an earlier conversion. They are the user's, so nobody removes them.
pub fn left_over(target: &Path, made: &[PathBuf]) -> Vec<PathBuf> {
    let folder = folder_of(target);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named =
        entries.filter(|entry| is_named_for(&entry.file_name(), target)).map(|entry| folder.join(entry.file_name()));
    let mut found: Vec<PathBuf> =
        named.filter(|path| !made.iter().any(|made| made.file_name() == path.file_name())).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(length: usize) -> NonZeroUsize {
        NonZeroUsize::new(length).expect("it is not 0")
    }

    #[test]
    fn a_length_that_comes_again_counts_once() {
        let lengths = Lengths::new(length(64), [128, 64, 32, 128].map(length));
        assert_eq!(lengths.iter().map(NonZeroUsize::get).collect::<Vec<_>>(), [64, 128, 32]);
        assert_eq!((lengths.first().get(), lengths.longest().get()), (64, 128));
        assert_eq!(Lengths::from(length(9)).iter().collect::<Vec<_>>(), [length(9)]);
    }

    #[test]
    fn only_the_first_length_in_one_package_has_the_targets_own_name() {
        for (length_, chunk, name) in [
            (None, None, "some/x.y.mlpackage"),
            (Some(length(64)), None, "some/x.y-64.mlpackage"),
            (None, Some((2, 3)), "some/x.y-2of3.mlpackage"),
            (Some(length(64)), Some((1, 3)), "some/x.y-64-1of3.mlpackage"),
        ] {
            let path = Which { length: length_, chunk }.path(Path::new("some/x.y.mlpackage"));
            assert_eq!(path, Path::new(name));
            assert!(is_named_for(path.file_name().expect("a name"), Path::new("some/x.y.mlpackage")));
        }
    }

    #[test]
    fn packages_of_an_earlier_conversion_are_found() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["x-1of2.mlpackage", "x-2of2.mlpackage", "x-1of3.mlpackage", "x-64.mlpackage", "y-1of2.mlpackage"] {
            fs::create_dir(folder.path().join(name)).expect("it can be made");
        }
        let at = |name: &str| folder.path().join(name);
        let made = ["x-1of2.mlpackage", "x-2of2.mlpackage"].map(at);
        let left = left_over(&at("x.mlpackage"), &made);
        assert_eq!(left, ["x-1of3.mlpackage", "x-64.mlpackage"].map(at));
    }

    #[test]
    fn names_of_other_models_are_not_taken_for_a_conversions_own() {
        let target = Path::new("some/x.mlpackage");
        for name in [
            "x-large.mlpackage",
            "x-.mlpackage",
            "x-64-128.mlpackage",
            "x-1of.mlpackage",
            "x64.mlpackage",
            "x-64.gguf",
            "y.mlpackage",
        ] {
            assert!(!is_named_for(OsStr::new(name), target), "{name}");
        }
    }
}
