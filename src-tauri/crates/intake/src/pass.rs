//! Reading files from their first byte to their last: their digests, how far it is, and its end by somebody else.
//!
//! What is not here: which files, and what else is done with their bytes.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::{IntakeError, Watch};

const BLOCK: usize = 1 << 20;

/// One pass over several files.
pub(crate) struct Pass<'a> {
    watch: &'a dyn Watch,
    done: u64,
    total: u64,
    block: Vec<u8>,
}

/// A file that is open, and what is known of it.
pub(crate) struct Source<'a> {
    pub(crate) file: File,
    /// Where it is, for errors.
    pub(crate) path: &'a Path,
    /// What it is called, for whoever watches.
    pub(crate) item: &'a str,
    /// The bytes that it should have.
    pub(crate) bytes: u64,
}

impl<'a> Pass<'a> {
    /// Over files of so many bytes together.
    pub(crate) fn over(total: u64, watch: &'a dyn Watch) -> Self {
        Self { watch, done: 0, total, block: vec![0; BLOCK] }
    }

    /// The bytes that are still to be read.
    pub(crate) fn left(&self) -> u64 {
        self.total.saturating_sub(self.done)
    }

    /// Reads all of a file; its SHA-256 in hexadecimal digits. `each` is given every block.
    pub(crate) fn read(
        &mut self,
        source: Source<'_>,
        phase: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), IntakeError>,
    ) -> Result<String, IntakeError> {
        let Source { file, path, item, bytes } = source;
        // One byte more than expected is enough to see that there are more.
        let mut file = file.take(bytes.saturating_add(1));
        let mut hasher = Sha256::new();
        let mut read = 0;
        loop {
            self.watch.progress(phase, item, self.done + read, self.total);
            if self.watch.cancelled() {
                return Err(IntakeError::Cancelled);
            }
            let count = file.read(&mut self.block).map_err(IntakeError::reading(path))?;
            if count == 0 {
                break;
            }
            read += count as u64;
            hasher.update(&self.block[..count]);
            each(&self.block[..count])?;
        }
        check_length(path, bytes, read)?;
        self.done += read;
        Ok(hex::encode(hasher.finalize()))
    }
}

/// Refuses a file that has another size than when it was looked at.
pub(crate) fn check_length(path: &Path, expected: u64, found: u64) -> Result<(), IntakeError> {
    if expected == found { Ok(()) } else { Err(IntakeError::Changed { path: path.to_path_buf(), expected, found }) }
}
