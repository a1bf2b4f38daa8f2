//! A file's bytes at a second place, for no room, where the filesystem can.
//!
//! A clone shares its blocks until one of the two is written to. What cannot be cloned is copied by [`place`](crate::place).

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes a clone of `file` at `path`, where nothing may be. What a failure leaves is removed.
#[cfg(target_vendor = "apple")]
pub(crate) fn clone(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, CloneFlags, fclonefileat};
    fclonefileat(file, CWD, path, CloneFlags::empty())?;
    Ok(())
}

/// Makes a clone of `file` at `path`, where nothing may be. What a failure leaves is removed.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn clone(file: &File, path: &Path) -> io::Result<()> {
    let clone = std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    rustix::fs::ioctl_ficlone(&clone, file).map_err(|error| {
        let _ = std::fs::remove_file(path);
        error.into()
    })
}
