//! Read-only mappings of weight files. The only place of this crate's own with `unsafe`.
#![allow(unsafe_code, reason = "mapping a file and dropping its resident pages are calls into the system")]

use std::{
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use crate::EngineError;

/// A weight file mapped into memory. Its pages belong to the system's cache: they are read on demand and can be dropped.
///
/// The file must not change while it is mapped; the store never writes to an installed model, it renames a finished one
/// into place.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    map: Mmap,
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Mapped {
    /// Maps the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let reading = |source| EngineError::reading(path, source);
        let file = File::open(path).map_err(reading)?;
        let metadata = file.metadata().map_err(reading)?;
        if !metadata.is_file() {
            return Err(EngineError::corrupt(path, "it is not a file"));
        }
        if metadata.len() == 0 {
            return Err(EngineError::corrupt(path, "it is empty"));
        }
        // SAFETY: the mapping is read-only and private to this value; that nobody changes an installed model's file is
        // the store's promise (see the type's documentation).
        let map = unsafe { Mmap::map(&file) }.map_err(reading)?;
        Ok(Self { path: path.to_path_buf(), map })
    }

    /// Maps the program and the weights of the Core ML package at `path`, those of them that it has.
    pub(crate) fn of_package(path: &Path) -> Result<Vec<Self>, EngineError> {
        let data = path.join("Data").join("com.apple.CoreML");
        let paths = ["model.mlmodel", "weights/weight.bin"].map(|name| data.join(name));
        paths.iter().filter(|path| path.exists()).map(|path| Self::open(path)).collect()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets the system take back the pages of `range` after they have been copied, so that a copied weight is not
    /// resident twice. Reading them again is correct and reads the file again.
    pub(crate) fn release(&self, range: &Range<usize>) {
        #[cfg(unix)]
        {
            // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the same bytes.
            let released = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            if let Err(error) = released {
                tracing::debug!(path = %self.path.display(), %error, "pages were not released");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
