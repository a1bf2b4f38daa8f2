//! One file's bytes in several places, for as little room as the filesystem allows.
//!
//! A clone shares its blocks until one of the two is written to; a link is the same file by another name. Both are fine for a
//! file that nobody writes to again: packages are replaced whole, so that neither can change under the other.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::job::Sharing;

/// How files in `folder` can share their bytes, found out by trying it there with a small one.
pub(crate) fn best(folder: &Path) -> io::Result<Sharing> {
    let [one, other] = ["one", "other"].map(|name| folder.join(format!(".share-{name}")));
    let mut file = File::create(&one)?;
    file.write_all(&[1; 4096])?;
    let found = if clone(&file, &other).is_ok() {
        Sharing::Cloned
    } else {
        // What a clone that failed has left.
        let _ = fs::remove_file(&other);
        if fs::hard_link(&one, &other).is_ok() { Sharing::Linked } else { Sharing::Copied }
    };
    let _ = fs::remove_file(&other);
    fs::remove_file(&one)?;
    Ok(found)
}

/// Makes a clone of `file` at `path`, where nothing may be.
#[cfg(target_vendor = "apple")]
pub(crate) fn clone(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, CloneFlags, fclonefileat};
    fclonefileat(file, CWD, path, CloneFlags::empty())?;
    File::open(path)?.sync_all()
}

/// Makes a clone of `file` at `path`, where nothing may be.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn clone(file: &File, path: &Path) -> io::Result<()> {
    let clone = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    rustix::fs::ioctl_ficlone(&clone, file)?;
    clone.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn finding_out_leaves_nothing_and_what_is_found_works() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let how = best(folder.path()).expect("it can be tried");
        assert_eq!(fs::read_dir(folder.path()).expect("it can be listed").count(), 0);
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::write(&one, "bytes").expect("it can be written");
        let inode = |path: &Path| fs::metadata(path).expect("it is there").ino();
        match how {
            Sharing::Cloned => {
                clone(&File::open(&one).expect("it is there"), &other).expect("it can be cloned");
                assert_ne!(inode(&one), inode(&other));
            }
            Sharing::Linked => {
                fs::hard_link(&one, &other).expect("it can be linked");
                assert_eq!(inode(&one), inode(&other));
            }
            Sharing::Copied => return,
        }
        assert_eq!(fs::read(&other).expect("it is there"), b"bytes");
    }
}
