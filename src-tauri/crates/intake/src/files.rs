//! Opening files that somebody else made: never a pipe that waits, never a device, never more than a limit.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::IntakeError;

/// Opens a regular file, through symbolic links; its size is as long as it is now.
pub(crate) fn open(path: &Path) -> Result<(File, u64), IntakeError> {
    // Opening a pipe would wait for somebody to write to it, and looking first would be a race.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let descriptor = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| opening(path, error.into()))?;
    let file = File::from(descriptor);
    let metadata = file.metadata().map_err(IntakeError::reading(path))?;
    match irregular(metadata.file_type()) {
        None => Ok((file, metadata.len())),
        Some(what) => Err(IntakeError::NotAFile { path: path.to_path_buf(), what }),
    }
}

/// A socket cannot be opened at all; the reason is what it is.
fn opening(path: &Path, error: std::io::Error) -> IntakeError {
    match fs::metadata(path).ok().and_then(|found| irregular(found.file_type())) {
        Some(what) => IntakeError::NotAFile { path: path.to_path_buf(), what },
        None => IntakeError::reading(path)(error),
    }
}

/// What something is that is not a file.
pub(crate) fn irregular(kind: fs::FileType) -> Option<&'static str> {
    Some(if kind.is_file() {
        return None;
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    })
}

/// The bytes of a regular file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, IntakeError> {
    let (file, size) = open(path)?;
    if size > limit {
        return Err(IntakeError::damaged(path, format!("it has `{size}` bytes; at most `{limit}` are read")));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    // A file that grows meanwhile is not followed.
    file.take(limit).read_to_end(&mut bytes).map_err(IntakeError::reading(path))?;
    Ok(bytes)
}

/// The bytes that a program without privileges can still write where `folder` is.
pub(crate) fn free(folder: &Path) -> Result<u64, IntakeError> {
    let found = rustix::fs::statvfs(folder).map_err(|error| IntakeError::reading(folder)(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Refuses to write `needed` bytes where there is no room for them and a margin.
pub(crate) fn check_room(folder: &Path, needed: u64) -> Result<(), IntakeError> {
    const MARGIN: u64 = 256 << 20;
    let (needed, free) = (needed.saturating_add(MARGIN), free(folder)?);
    if needed > free { Err(IntakeError::NoSpace { folder: folder.to_path_buf(), needed, free }) } else { Ok(()) }
}
