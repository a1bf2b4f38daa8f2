//! What is left of downloads that nobody went on with: incomplete files and their journals, with the room that they take.
//!
//! Only files that this crate made are looked at, and none that somebody is downloading. What is not here: what other
//! programs left (`hf cache prune` removes what Python did), and whole models.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::{INCOMPLETE, beside};
use crate::error::file;
use crate::journal::{self, Journal};
use crate::{HubError, Target};

/// How deep a plain folder is searched.
const DEPTH: usize = 8;

/// One download that was not finished.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leftover {
    /// The incomplete file.
    pub path: PathBuf,
    /// The digest of what it was to become; in a plain folder the first twelve digits of it.
    pub digest: String,
    /// The room that it takes on the disk, which was reserved whole when it began.
    pub bytes: u64,
    /// Since when nothing came.
    pub age: Duration,
    lock: PathBuf,
    /// In a plain folder the lock belongs to the file and goes with it.
    private: bool,
}

impl Leftover {
    /// Removes it, unless somebody downloads it just now; says whether it is gone.
    pub fn remove(&self) -> Result<bool, HubError> {
        let Some(lock) = hold(&self.lock)? else { return Ok(false) };
        let journal = Journal::beside(&self.path);
        // The journal last: a file without one would be nobody's.
        let mut paths = vec![self.path.clone(), journal.with_extension("journal.new"), journal];
        paths.extend(self.private.then(|| self.lock.clone()));
        for path in paths {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("remove", &path)(error)),
                _ => {}
            }
        }
        drop(lock);
        Ok(true)
    }
}

impl Target {
    /// The downloads to this place for which nothing came for so long and which nobody is busy with, the largest first. Which
    /// of them somebody still wants is for the caller to know.
    pub fn leftovers(&self, older: Duration) -> Vec<Leftover> {
        let mut found = Vec::new();
        match self {
            Self::Cache(cache) => {
                for repository in entries(cache.root()) {
                    let name = repository.file_name().unwrap_or_default().to_owned();
                    if !name.to_string_lossy().starts_with("models--") {
                        continue;
                    }
                    for path in entries(&repository.join("blobs")) {
                        if let Some(digest) = stem(&path, INCOMPLETE) {
                            let lock = cache.root().join(".locks").join(&name).join(format!("{digest}.lock"));
                            found.extend(leftover(path, digest, lock, false));
                        }
                    }
                }
            }
            Self::Folder(folder) => {
                let mut pending = vec![(folder.clone(), 0)];
                while let Some((folder, depth)) = pending.pop() {
                    for path in entries(&folder) {
                        if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
                            if depth < DEPTH {
                                pending.push((path, depth + 1));
                            }
                        } else if let Some((_, digest)) = stem(&path, ".incomplete").and_then(|stem| {
                            let (name, digest) = stem.rsplit_once('.')?;
                            Some((name.to_owned(), digest.to_owned()))
                        }) && digest.len() == 12
                        {
                            let lock = beside(&path, ".lock");
                            found.extend(leftover(path, digest, lock, true));
                        }
                    }
                }
            }
        }
        found.retain(|it| it.age >= older && !is_busy(&it.lock));
        found.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
        found
    }
}

/// A file with a journal of ours beside it.
fn leftover(path: PathBuf, digest: String, lock: PathBuf, private: bool) -> Option<Leftover> {
    let data = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
    let journal = Journal::beside(&path);
    let beside = fs::symlink_metadata(&journal).ok().filter(fs::Metadata::is_file)?;
    let mut start = Vec::new();
    File::open(&journal).and_then(|file| file.take(64).read_to_end(&mut start)).ok()?;
    let ours = digest.bytes().all(|it| it.is_ascii_hexdigit()) && start.starts_with(journal::FORM.as_bytes());
    let last = data.modified().ok()?.max(beside.modified().ok()?);
    // A clock that was set back makes nothing old.
    let age = SystemTime::now().duration_since(last).unwrap_or_default();
    let bytes = data.blocks().saturating_add(beside.blocks()).saturating_mul(512);
    ours.then_some(Leftover { path, digest, bytes, age, lock, private })
}

/// Whether somebody holds the lock; one that is not there nobody holds.
fn is_busy(path: &Path) -> bool {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(lock) => lock.try_lock().is_err(),
        // One that we may not open is somebody else's.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Takes the lock, as a download does; `None` if somebody holds it.
fn hold(path: &Path) -> Result<Option<File>, HubError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
    }
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let lock = lock.map_err(file("open the lock", path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(file("take the lock", path)(error)),
    }
}

fn stem(path: &Path, ending: &str) -> Option<String> {
    path.file_name()?.to_str()?.strip_suffix(ending).map(str::to_owned)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
