//! One owner per home: an advisory lock on a file that the system releases when the owner's process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::{Home, StoreError};

/// Proof that this program owns the home; given up when dropped.
#[derive(Debug)]
pub struct Ownership {
    _file: File,
}

impl Ownership {
    /// Takes the home; `None` where another program owns it.
    pub fn take(home: &Home) -> Result<Option<Self>, StoreError> {
        let path = home.owner_lock();
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // For people who wonder who it is; programs ask the lock.
                fs::write(&path, format!("{}\n", std::process::id())).map_err(StoreError::io("write", &path))?;
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::open(Some(folder.path().into())).expect("it can be made");
        let first = Ownership::take(&home).expect("it can be locked").expect("it is free");
        assert!(Ownership::take(&home).expect("it can be asked").is_none());
        drop(first);
        assert!(Ownership::take(&home).expect("it can be locked").is_some());
    }
}
