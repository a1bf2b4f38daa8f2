//! Which files of a folder are to be read.
//!
//! Rules: hidden files and folders are passed over; `.gitignore` and `.ignore` hold whether or not the folder is a git
//! repository; links are never followed, so that nothing outside the folder is read and no loop is walked. Rules that stand above
//! the folder hold only within the git repository that it is part of, and not if they would exclude the folder itself,
//! which the person has named. Package folders and caches (`node_modules`, whatever carries a `CACHEDIR.TAG`) are left out
//! with a reason, unless they are what was asked for.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use ignore::{DirEntry, WalkBuilder};

/// The beginning of a valid `CACHEDIR.TAG` file.
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// What tells a changed file from an unchanged one without reading it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) mtime_ns: i64,
}

impl Stat {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.modified().map_or(0, |modified| match modified.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        });
        Self { size: metadata.len(), mtime_ns }
    }
}

/// A file to consider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Candidate {
    /// UTF-8, or lossily so if `reason` says that it is not.
    pub(crate) path: String,
    pub(crate) stat: Stat,
    /// Set where it is clear already that it is not read.
    pub(crate) reason: Option<String>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<Candidate>,
    /// Folders and files that could not be looked at; what the index knows below them stays.
    pub(crate) unreadable: Vec<Candidate>,
    /// Those of the paths to watch for that were met.
    pub(crate) met: Vec<String>,
}

/// What to walk.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The indexed folder or file, whose rules hold.
    pub(crate) root: PathBuf,
    /// The part of it that is of interest: `root` or something below.
    pub(crate) target: PathBuf,
    /// A folder that is left out: where the index itself lives.
    pub(crate) own: PathBuf,
}

impl Route {
    /// Walks; `watched` are paths whose meeting is reported, `go_on` is asked before each entry.
    pub(crate) fn list(&self, watched: &[String], mut go_on: impl FnMut() -> bool) -> Option<Listing> {
        let mut listing = Listing::default();
        let left_out = Arc::new(Mutex::new(Vec::new()));
        for entry in self.builder(&left_out).build() {
            if !go_on() {
                return None;
            }
            match entry {
                Ok(entry) => self.take(&entry, watched, &mut listing),
                Err(error) => listing.unreadable.extend(unreadable(&error)),
            }
        }
        listing.files.append(&mut left_out.lock().unwrap_or_else(PoisonError::into_inner));
        Some(listing)
    }

    /// Whether the rules of `root` lead to `target` at all.
    pub(crate) fn reaches_target(&self) -> bool {
        let depth = self.target.components().count() - self.root.components().count();
        let mut builder = self.builder(&Arc::default());
        builder.max_depth(Some(depth)).build().flatten().any(|entry| entry.path() == self.target)
    }

    fn builder(&self, left_out: &Arc<Mutex<Vec<Candidate>>>) -> WalkBuilder {
        let mut builder = WalkBuilder::new(&self.root);
        let (route, left_out) = (self.clone(), Arc::clone(left_out));
        builder
            .require_git(false)
            .git_global(false)
            .follow_links(false)
            .parents(rules_above_hold(&self.root, &self.own))
            .sort_by_file_name(Ord::cmp)
            .filter_entry(move |entry| route.admits(entry, &left_out));
        builder
    }

    fn admits(&self, entry: &DirEntry, left_out: &Mutex<Vec<Candidate>>) -> bool {
        let path = entry.path();
        let on_the_way = self.target.starts_with(path) || path.starts_with(&self.target);
        if !on_the_way || path == self.own {
            return false;
        }
        if path == self.target || !entry.file_type().is_some_and(|kind| kind.is_dir()) {
            return true;
        }
        let Some(reason) = reason_for_folder(path) else { return true };
        let path = path.to_string_lossy().into_owned();
        let candidate = Candidate { path, stat: Stat::default(), reason: Some(reason.into()) };
        left_out.lock().unwrap_or_else(PoisonError::into_inner).push(candidate);
        false
    }

    fn take(&self, entry: &DirEntry, watched: &[String], listing: &mut Listing) {
        let path = entry.path();
        if !path.starts_with(&self.target) {
            return;
        }
        let text = path.to_str();
        if let Some(text) = text
            && watched.iter().any(|it| it == text)
        {
            listing.met.push(text.to_owned());
        }
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            return;
        }
        let shown = path.to_string_lossy().into_owned();
        match entry.metadata() {
            Ok(metadata) => {
                let reason = text.is_none().then(|| "its name is not UTF-8".to_owned()).or_else(|| evicted(&metadata));
                listing.files.push(Candidate { path: shown, stat: Stat::of(&metadata), reason });
            }
            // It vanished since the folder was read.
            Err(error) if kind_of(&error) == Some(io::ErrorKind::NotFound) => {}
            Err(error) => listing.unreadable.push(Candidate {
                path: shown,
                stat: Stat::default(),
                reason: Some(format!("cannot be read: {error}")),
            }),
        }
    }
}

fn rules_above_hold(root: &Path, own: &Path) -> bool {
    let Some(repository) = root.ancestors().find(|above| above.join(".git").exists()) else { return false };
    if repository == root {
        return false;
    }
    Route { root: repository.to_owned(), target: root.to_owned(), own: own.to_owned() }.reaches_target()
}

fn reason_for_folder(path: &Path) -> Option<&'static str> {
    match path.file_name()?.to_str()? {
        "node_modules" | "bower_components" => return Some("packages installed by a package manager"),
        "__pycache__" => return Some("a cache"),
        _ => {}
    }
    let (file, _) = crate::extract::open(&path.join("CACHEDIR.TAG")).ok()?;
    let mut beginning = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, CACHE_SIGNATURE.len() as u64), &mut beginning).ok()?;
    (beginning == CACHE_SIGNATURE).then_some("a cache, says its CACHEDIR.TAG")
}

/// Whether reading the file would download it first.
#[cfg(target_os = "macos")]
fn evicted(metadata: &Metadata) -> Option<String> {
    /// `SF_DATALESS` of `sys/stat.h`.
    const DATALESS: u32 = 0x4000_0000;
    (std::os::macos::fs::MetadataExt::st_flags(metadata) & DATALESS != 0)
        .then(|| "only in iCloud, not on this disk".to_owned())
}

#[cfg(not(target_os = "macos"))]
fn evicted(_: &Metadata) -> Option<String> {
    None
}

fn unreadable(error: &ignore::Error) -> Option<Candidate> {
    let path = path_of(error)?;
    if kind_of(error) == Some(io::ErrorKind::NotFound) {
        return None;
    }
    let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
    Some(Candidate {
        path: path.to_string_lossy().into_owned(),
        stat: Stat::default(),
        reason: Some(format!("cannot be read: {reason}")),
    })
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        _ => None,
    }
}

fn kind_of(error: &ignore::Error) -> Option<io::ErrorKind> {
    error.io_error().map(io::Error::kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_folder_is_reported_but_one_that_vanished_is_not() {
        let error = |kind| ignore::Error::WithDepth {
            depth: 2,
            err: Box::new(ignore::Error::WithPath {
                path: "/docs/private".into(),
                err: Box::new(ignore::Error::Io(io::Error::new(kind, "Permission denied"))),
            }),
        };
        let reported = unreadable(&error(io::ErrorKind::PermissionDenied)).unwrap();
        assert_eq!(reported.path, "/docs/private");
        assert_eq!(reported.reason.unwrap(), "cannot be read: Permission denied");
        assert_eq!(unreadable(&error(io::ErrorKind::NotFound)), None);
    }
}
