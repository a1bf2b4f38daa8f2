//! Keeps a conversion out of the system's file cache: the machine is short of memory, that is why the model is converted.
//!
//! What was read or written once is not needed again. All of this is advice; a system that does not take it is only fuller.

use std::fs::File;

/// Lets go of the cached pages of a range. Pages that were written must be on the disk already.
pub(crate) fn forget(file: &File, offset: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    if let Some(length) = std::num::NonZeroU64::new(bytes) {
        let _ = rustix::fs::fadvise(file, offset, Some(length), rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, bytes);
}

/// Lets go of all of a file's cached pages that are on the disk.
pub(crate) fn forget_all(file: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Asks that what is read from or written to this file is not cached, on systems that decide it by file.
pub(crate) fn bypass(file: &File) {
    #[cfg(target_vendor = "apple")]
    let _ = rustix::fs::fcntl_nocache(file, true);
    #[cfg(not(target_vendor = "apple"))]
    let _ = file;
}
