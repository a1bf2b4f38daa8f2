//! A file or folder that appears under its name only when it is complete.
//!
//! It is written beside its target under a fixed hidden name and locked while it is. A conversion that is killed leaves such a
//! thing behind without a lock: the next one to the same target takes it over, and [`sweep`] clears a folder of them, so
//! debris never piles up. A second conversion at the same time meets the lock and is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::{ConvertError, cache};

/// What hidden names end in.
const SUFFIX: &str = ".partial";

/// Blocks that wait for the disk.
const WAITING: usize = 2;

/// Bytes after which what was written is brought to the disk, so that the system never holds more of it than this.
const SETTLE_BYTES: u64 = 64 << 20;

/// A file in the making. Dropped before [`Partial::commit`], it is removed and the target stays as it was.
#[derive(Debug)]
pub(crate) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    expected: u64,
    committed: bool,
}

impl Partial {
    /// Starts to write a file of `expected` bytes that is to become `target`.
    pub(crate) fn create(target: &Path, expected: u64) -> Result<Self, ConvertError> {
        let path = hidden(target)?;
        let file = lock(&path, target)?;
        cache::bypass(&file);
        let partial = Self { target: target.to_path_buf(), path, file, expected, committed: false };
        partial.file.set_len(0).map_err(ConvertError::writing(target))?;
        check_space(target, expected)?;
        Ok(partial)
    }

    /// Appends bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        self.file.write_all(bytes).map_err(|source| self.writer().failed(source))
    }

    /// For writing at any place.
    pub(crate) fn writer(&self) -> Writer<'_> {
        Writer { file: &self.file, target: &self.target, expected: self.expected }
    }

    /// Replaces bytes that were written before.
    pub(crate) fn replace(&self, offset: u64, bytes: &[u8]) -> Result<(), ConvertError> {
        self.writer().put(offset, bytes)
    }

    /// Makes the file that long; what was never written is zero.
    pub(crate) fn set_length(&self, length: u64) -> Result<(), ConvertError> {
        self.file.set_len(length).map_err(|source| self.writer().failed(source))
    }

    /// Makes the bytes durable and gives the file back for reading.
    pub(crate) fn sync(&self) -> Result<(&File, &Path), ConvertError> {
        self.file.sync_all().map_err(|source| self.writer().failed(source))?;
        Ok((&self.file, &self.path))
    }

    /// Where it is until it is complete.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has [`Self::commit`] give it another name in the same folder.
    pub(crate) fn rename_to(&mut self, target: PathBuf) {
        self.target = target;
    }

    /// Puts the file, which must have been [synced](Self::sync), in the target's place.
    pub(crate) fn commit(mut self) -> Result<(), ConvertError> {
        fs::rename(&self.path, &self.target).map_err(|source| self.writer().failed(source))?;
        self.committed = true;
        sync_folder(folder_of(&self.target))
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

/// A folder in the making. Dropped before [`Staged::commit`], it is removed and the target stays as it was.
#[derive(Debug)]
pub(crate) struct Staged {
    target: PathBuf,
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
    expected: u64,
    committed: bool,
}

impl Staged {
    /// Starts to fill a folder of `expected` bytes that is to become `target`.
    pub(crate) fn create(target: &Path, expected: u64) -> Result<Self, ConvertError> {
        let path = hidden(target)?;
        let writing = ConvertError::writing(target);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(writing(error)),
            _ => {}
        }
        let lock = File::open(&path).map_err(&writing)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ConvertError::Busy { path: target.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(writing(source)),
        }
        // The conversion that had the lock may have put the folder in its place meanwhile.
        if !is_at(&lock, &path).map_err(&writing)? {
            return Err(ConvertError::Busy { path: target.to_path_buf() });
        }
        let staged = Self { target: target.to_path_buf(), path, _lock: lock, expected, committed: false };
        // What a killed conversion has left.
        empty(&staged.path).map_err(&writing)?;
        check_space(target, expected)?;
        Ok(staged)
    }

    /// Where it is until it is complete.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has [`Self::commit`] give it another name in the same folder.
    pub(crate) fn rename_to(&mut self, target: PathBuf) {
        self.target = target;
    }

    /// A new file in it, for writing at any place; folders on the way are made.
    pub(crate) fn file(&self, name: &str) -> Result<File, ConvertError> {
        let path = self.place(name)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|source| self.failed(source))?;
        cache::bypass(&file);
        Ok(file)
    }

    /// Where a new file in it may be made by other means; folders on the way are made.
    pub(crate) fn place(&self, name: &str) -> Result<PathBuf, ConvertError> {
        let path = self.path.join(name);
        fs::create_dir_all(folder_of(&path)).map_err(|source| self.failed(source))?;
        Ok(path)
    }

    /// For writing to a file of it.
    pub(crate) fn writer<'a>(&'a self, file: &'a File) -> Writer<'a> {
        Writer { file, target: &self.target, expected: self.expected }
    }

    /// Puts the folder, whose files must be on the disk, in the target's place. What was there is removed afterwards.
    pub(crate) fn commit(mut self) -> Result<(), ConvertError> {
        sync_folders(&self.path)?;
        if self.target.exists() {
            // One step, so that there is a complete package at every moment; afterwards the old one has the hidden name.
            exchange(&self.path, &self.target).map_err(|source| self.failed(source))?;
            sync_folder(folder_of(&self.target))?;
            // If it cannot be removed, the next conversion does it.
            let _ = fs::remove_dir_all(&self.path);
        } else {
            fs::rename(&self.path, &self.target).map_err(|source| self.failed(source))?;
        }
        self.committed = true;
        sync_folder(folder_of(&self.target))
    }

    /// The error for what the system refused in it.
    pub(crate) fn failed(&self, source: std::io::Error) -> ConvertError {
        failed(&self.target, self.expected, source)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A file that is written at any place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    file: &'a File,
    target: &'a Path,
    expected: u64,
}

impl Writer<'_> {
    /// Writes bytes at a place.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), ConvertError> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed(source))
    }

    /// Brings what was written to the disk and out of the file cache.
    fn settle(&self) -> Result<(), ConvertError> {
        self.file.sync_data().map_err(|source| self.failed(source))?;
        cache::forget_all(self.file);
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> ConvertError {
        failed(self.target, self.expected, source)
    }
}

/// Takes bytes for a writing thread.
pub(crate) struct Sink {
    /// Which of the thread's files it is for.
    file: usize,
    sender: SyncSender<(usize, u64, Vec<u8>)>,
}

impl Sink {
    /// Has `bytes` written at a place; waits while the disk is behind.
    pub(crate) fn put(&self, offset: u64, bytes: Vec<u8>) -> Result<(), Stopped> {
        self.sender.send((self.file, offset, bytes)).map_err(|_| Stopped)
    }
}

/// The writing thread has failed; its error is the one to tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopped;

impl From<Stopped> for ConvertError {
    fn from(_: Stopped) -> Self {
        Self::Cancelled { path: PathBuf::new() }
    }
}

/// Runs `work` beside a thread that writes what it puts into the sink, so that neither disk nor processor waits for the other.
pub(crate) fn writing<T>(
    writer: Writer<'_>,
    work: impl FnOnce(&Sink) -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    writing_all(&[writer], |sinks| work(&sinks[0]))
}

/// As [`writing`], for several files: there is a sink for each writer, and one thread writes to all of them.
pub(crate) fn writing_all<T>(
    writers: &[Writer<'_>],
    work: impl FnOnce(&[Sink]) -> Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<(usize, u64, Vec<u8>)>(WAITING);
        let thread = scope.spawn(move || {
            let mut unsettled = 0;
            for (file, offset, bytes) in receiver {
                writers[file].put(offset, &bytes)?;
                unsettled += bytes.len() as u64;
                if unsettled >= SETTLE_BYTES {
                    writers.iter().try_for_each(Writer::settle)?;
                    unsettled = 0;
                }
            }
            Ok(())
        });
        let sinks: Vec<Sink> = (0..writers.len()).map(|file| Sink { file, sender: sender.clone() }).collect();
        drop(sender);
        let outcome = work(&sinks);
        // The thread ends when nothing can come any more.
        drop(sinks);
        thread.join().expect("the writer does not panic. This is a bug.").and(outcome)
    })
}

/// Writes a small file that appears under its name whole or not at all.
pub fn place(path: &Path, bytes: &[u8]) -> Result<(), ConvertError> {
    let mut partial = Partial::create(path, bytes.len() as u64)?;
    partial.append(bytes)?;
    partial.sync()?;
    partial.commit()
}

/// Removes what killed conversions have left in `folder`. What is being written stays.
pub fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(SUFFIX)) {
            remove_debris(&entry.path());
        }
    }
}

/// Removes what a killed conversion to `target` has left, in a folder where other things may be somebody else's. What is being
/// written stays.
pub fn sweep_target(target: &Path) {
    if let Ok(path) = hidden(target) {
        remove_debris(&path);
    }
}

/// Removes what has a hidden name and is not being written. What cannot be removed now is tried again next time.
fn remove_debris(path: &Path) {
    // A link is not ours: nothing is removed through it.
    let Ok(kind) = fs::symlink_metadata(path).map(|found| found.file_type()) else { return };
    if !kind.is_dir() && !kind.is_file() {
        return;
    }
    // Locked until it is removed, so that no conversion begins to write to it meanwhile.
    let Ok(file) = File::open(path) else { return };
    if file.try_lock().is_ok() {
        let _ = if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

/// The hidden name beside a target.
fn hidden(target: &Path) -> Result<PathBuf, ConvertError> {
    let name = target.file_name().and_then(|name| name.to_str());
    let name = name.ok_or(ConvertError::BadTarget { path: target.to_path_buf(), problem: "it has no file name" })?;
    Ok(target.with_file_name(format!(".{name}{SUFFIX}")))
}

fn failed(target: &Path, expected: u64, source: std::io::Error) -> ConvertError {
    if source.kind() == ErrorKind::StorageFull {
        let free = free_bytes(folder_of(target)).unwrap_or(0);
        return ConvertError::NoSpace { path: target.to_path_buf(), needed: expected, free };
    }
    ConvertError::writing(target)(source)
}

/// Makes two names change places in one step.
fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?;
    Ok(())
}

/// Removes everything in a folder.
fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), ConvertError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(ConvertError::writing(folder))
}

/// Syncs a folder and those in it.
fn sync_folders(folder: &Path) -> Result<(), ConvertError> {
    for entry in fs::read_dir(folder).map_err(ConvertError::reading(folder))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path())?;
        }
    }
    sync_folder(folder)
}

/// Whether the file that is open is the one at `path`.
fn is_at(file: &File, path: &Path) -> std::io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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
        if is_at(&file, path).map_err(&writing)? {
            return Ok(file);
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

    fn staged(target: &Path, text: &str) -> Staged {
        let staged = Staged::create(target, 3).expect("there is room");
        let file = staged.file("Data/deep/x.bin").expect("it can be made");
        staged.writer(&file).put(0, text.as_bytes()).expect("it can be written");
        staged
    }

    #[test]
    fn a_folder_appears_when_it_is_committed_and_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("x.mlpackage");
        for text in ["one", "two"] {
            let staged = staged(&target, text);
            let before = fs::read(target.join("Data/deep/x.bin")).ok();
            assert_eq!(before.as_deref(), (text == "two").then_some(&b"one"[..]));
            assert!(matches!(Staged::create(&target, 3), Err(ConvertError::Busy { .. })));
            staged.commit().expect("it can be put in place");
            assert_eq!(fs::read(target.join("Data/deep/x.bin")).expect("it is there"), text.as_bytes());
            assert_eq!(names(folder.path()), ["x.mlpackage"]);
        }
        drop(staged(&target, "three"));
        assert_eq!(names(folder.path()), ["x.mlpackage"], "what is dropped leaves nothing behind");
        assert_eq!(fs::read(target.join("Data/deep/x.bin")).expect("it is there"), b"two");
    }

    #[test]
    fn what_a_killed_conversion_left_is_taken_over_or_swept_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let debris = folder.path().join(".x.mlpackage.partial");
        fs::create_dir_all(debris.join("Data")).expect("it can be made");
        fs::write(debris.join("Data/half.bin"), "half").expect("it can be written");
        staged(&folder.path().join("x.mlpackage"), "new").commit().expect("it can be put in place");
        assert!(!folder.path().join("x.mlpackage/Data/half.bin").exists());

        fs::create_dir_all(folder.path().join(".y.mlpackage.partial/Data")).expect("it can be made");
        fs::write(folder.path().join(".z.gguf.partial"), "half").expect("it can be written");
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        fs::write(elsewhere.path().join("precious"), "mine").expect("it can be written");
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join(".w.partial")).expect("it can be made");
        let writing = staged(&folder.path().join("v.mlpackage"), "new");
        sweep(folder.path());
        assert_eq!(names(folder.path()), [".v.mlpackage.partial", ".w.partial", "x.mlpackage"]);
        assert!(elsewhere.path().join("precious").exists());
        drop(writing);
        assert_eq!(names(folder.path()), [".w.partial", "x.mlpackage"]);
    }

    #[test]
    fn what_a_killed_conversion_left_beside_one_target_goes_and_what_others_have_there_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [".y.gguf.partial", ".somebody-elses.partial"] {
            fs::write(folder.path().join(name), "half").expect("it can be written");
        }
        let target = folder.path().join("y.gguf");
        let writing = Partial::create(&target, 3).expect("it is taken over");
        sweep_target(&target);
        assert_eq!(names(folder.path()), [".somebody-elses.partial", ".y.gguf.partial"], "it is being written");
        drop(writing);
        fs::write(folder.path().join(".y.gguf.partial"), "half").expect("it can be written");
        sweep_target(&target);
        assert_eq!(names(folder.path()), [".somebody-elses.partial"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = Partial::create(&folder.path().join("none/x.gguf"), 1).expect_err("there is no such folder");
        assert!(matches!(&error, ConvertError::Missing { path } if path.ends_with("none")), "{error}");
    }
}
