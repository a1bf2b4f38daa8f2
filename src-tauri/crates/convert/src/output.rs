//! A file that appears under its name only when it is complete.
//!
//! A [`Partial`] is written beside its target under a fixed hidden name and locked while it is. A conversion that is killed
//! leaves such a file behind without a lock: the next one to the same target takes it over, so debris never piles up. A
//! second conversion at the same time meets the lock and is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::{ConvertError, cache};

/// A file in the making. Dropped before [`Partial::commit`], it is removed and the target stays as it was.
#[derive(Debug)]
pub(crate) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    expected: u64,
    /// Bytes that were appended, and how many of them are on the disk for certain.
    appended: u64,
    settled: u64,
    committed: bool,
}

/// Bytes after which what was written is brought to the disk, so that the system never holds more of it than this.
const SETTLE_BYTES: u64 = 64 << 20;

impl Partial {
    /// Starts to write a file of `expected` bytes that is to become `target`.
    pub(crate) fn create(target: &Path, expected: u64) -> Result<Self, ConvertError> {
        let name = target.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or(ConvertError::BadTarget { path: target.to_path_buf(), problem: "it has no file name" })?;
        let path = target.with_file_name(format!(".{name}.partial"));
        let file = lock(&path, target)?;
        cache::bypass(&file);
        let target_path = target.to_path_buf();
        let partial = Self { target: target_path, path, file, expected, appended: 0, settled: 0, committed: false };
        partial.file.set_len(0).map_err(ConvertError::writing(target))?;
        check_space(target, expected)?;
        Ok(partial)
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        self.file.write_all(bytes).map_err(|source| self.failed(source))?;
        self.appended += bytes.len() as u64;
        let unsettled = self.appended - self.settled;
        if unsettled >= SETTLE_BYTES {
            self.file.sync_data().map_err(|source| self.failed(source))?;
            cache::forget(&self.file, self.settled, unsettled);
            self.settled = self.appended;
        }
        Ok(())
    }

    /// Replaces bytes that were written before.
    pub(crate) fn replace(&self, offset: u64, bytes: &[u8]) -> Result<(), ConvertError> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed(source))
    }

    /// Makes the bytes durable and gives the file back for reading.
    pub(crate) fn sync(&self) -> Result<(&File, &Path), ConvertError> {
        self.file.sync_all().map_err(|source| self.failed(source))?;
        Ok((&self.file, &self.path))
    }

    /// Puts the file, which must have been [synced](Self::sync), in the target's place.
    pub(crate) fn commit(mut self) -> Result<(), ConvertError> {
        fs::rename(&self.path, &self.target).map_err(|source| self.failed(source))?;
        self.committed = true;
        let folder = folder_of(&self.target);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(ConvertError::writing(folder))
    }

    fn failed(&self, source: std::io::Error) -> ConvertError {
        if source.kind() == ErrorKind::StorageFull {
            let free = free_bytes(folder_of(&self.target)).unwrap_or(0);
            return ConvertError::NoSpace { path: self.target.clone(), needed: self.expected, free };
        }
        ConvertError::writing(&self.target)(source)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.committed {
            // Still under our lock. If it cannot be removed, the next conversion takes it over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks the file at `path`.
fn lock(path: &Path, target: &Path) -> Result<File, ConvertError> {
    let writing = ConvertError::writing(target);
    loop {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(&writing)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ConvertError::Busy { path: target.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(writing(source)),
        }
        // Between opening and locking, the conversion that had the lock may have renamed the file to its target: then this
        // is a finished model, not ours to write to.
        let ours = file.metadata().map_err(&writing)?;
        match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (ours.dev(), ours.ino()) => return Ok(file),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(writing(error)),
        }
    }
}

/// Refuses to start what the disk has no room for.
fn check_space(target: &Path, needed: u64) -> Result<(), ConvertError> {
    let folder = folder_of(target);
    let free = free_bytes(folder).map_err(ConvertError::reading(folder))?;
    if free < needed {
        return Err(ConvertError::NoSpace { path: target.to_path_buf(), needed, free });
    }
    Ok(())
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The folder of a file, `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("it can be listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_committed_and_not_before() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("x.gguf");
        fs::write(&target, "old").expect("it can be written");
        let mut partial = Partial::create(&target, 3).expect("there is room");
        partial.append(b"n-w").expect("it can be written");
        partial.replace(1, b"e").expect("it can be written");
        assert_eq!(fs::read(&target).expect("it is there"), b"old");
        partial.sync().expect("it can be synced");
        partial.commit().expect("it can be renamed");
        assert_eq!(fs::read(&target).expect("it is there"), b"new");
        assert_eq!(names(folder.path()), ["x.gguf"]);
    }

    #[test]
    fn what_is_dropped_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut partial = Partial::create(&folder.path().join("x.gguf"), 3).expect("there is room");
        partial.append(b"new").expect("it can be written");
        drop(partial);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_second_writer_is_refused_while_the_first_one_lives() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("x.gguf");
        let first = Partial::create(&target, 1).expect("there is room");
        assert!(matches!(Partial::create(&target, 1), Err(ConvertError::Busy { path }) if path == target));
        drop(first);
        Partial::create(&target, 1).expect("it is free again");
    }

    #[test]
    fn a_disk_that_is_too_small_is_found_before_anything_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = Partial::create(&folder.path().join("x.gguf"), u64::MAX).expect_err("no disk has this room");
        assert!(matches!(error, ConvertError::NoSpace { needed: u64::MAX, .. }), "{error}");
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = Partial::create(&folder.path().join("none/x.gguf"), 1).expect_err("there is no such folder");
        assert!(matches!(&error, ConvertError::Missing { path } if path.ends_with("none")), "{error}");
    }
}
