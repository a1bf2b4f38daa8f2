//! What the system keeps of a file in memory, and asking it not to.
//!
//! Such pages count as available, so dropping them frees nothing that a program could not have had anyway; it makes room at once
//! where the next thing is a large read. Only files that nobody has mapped let go. Elsewhere than on Linux the system decides
//! by itself, and nothing happens.
#![cfg_attr(target_os = "linux", allow(unsafe_code, reason = "mincore has no safe wrapper among our dependencies"))]

use std::path::Path;

/// Has the system drop what it keeps of the file at `path`, or of the files in that folder. Gives the bytes that it has dropped;
/// `None` where that cannot be asked.
pub fn drop_cached(path: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::drop_below(path);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;
    use std::path::Path;

    use rustix::fs::{Advice, fadvise};

    pub(super) fn drop_below(path: &Path) -> Option<u64> {
        if path.is_dir() {
            let entries = fs::read_dir(path).ok()?.flatten();
            // A link leads to something that is not ours.
            let own = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
            return Some(own.filter_map(|entry| drop_below(&entry.path())).sum());
        }
        let file = File::open(path).ok()?;
        let before = resident(&file)?;
        fadvise(&file, 0, None, Advice::DontNeed).ok()?;
        Some(before.saturating_sub(resident(&file)?))
    }

    /// Bytes of the file that are in memory.
    fn resident(file: &File) -> Option<u64> {
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        if length == 0 {
            return Some(0);
        }
        let page = rustix::param::page_size();
        let mut pages = vec![0_u8; length.div_ceil(page)];
        // SAFETY: the system chooses the place; nothing is read through the mapping, so that the file may change meanwhile.
        let address =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping has `length` bytes, and there is a byte for each of its pages.
        let asked = unsafe { libc::mincore(address, length, pages.as_mut_ptr()) };
        // SAFETY: it was mapped above with this length, and nothing points into it.
        unsafe { libc::munmap(address, length) };
        (asked == 0).then(|| pages.iter().filter(|&&page| page & 1 == 1).count() as u64 * page as u64)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_was_just_written_is_cached_and_can_be_dropped() {
            let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder on a disk");
            let path = folder.path().join("model");
            fs::write(&path, vec![7; 1 << 20]).expect("it can be written");
            let file = File::open(&path).expect("it is there");
            file.sync_all().expect("what is not on the disk yet stays in memory");
            assert_eq!(resident(&file), Some(1 << 20));
            let dropped = drop_below(folder.path()).expect("it can be asked");
            assert_eq!(dropped + resident(&file).expect("it can be asked"), 1 << 20);
        }
    }
}
