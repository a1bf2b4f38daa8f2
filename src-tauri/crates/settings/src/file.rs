//! Reading an `.env` file whole, and replacing it whole.
//!
//! Mode and links stay as they are. A write is refused where the content is no longer that which was read; between that last
//! look and the rename there are some microseconds that no portable call closes.
//!
//! What is not here: what the bytes mean, and how a file is replaced in one step (`embedbar-records`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use embedbar_records::{Draft, read_whole};
use sha2::{Digest as _, Sha256};

use crate::SettingsError;
use crate::document::Document;

/// More bytes than this are no settings.
pub const MOST_BYTES: u64 = 256 * 1024;

/// What a file contains, in 32 bytes.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8].iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// An `.env` file as it was at one moment.
#[derive(Clone, Debug)]
pub struct EnvFile {
    path: PathBuf,
    target: PathBuf,
    document: Document,
    hash: ContentHash,
    mode: u32,
}

impl EnvFile {
    /// Reads and parses it. A file that cannot be parsed as Python does it is read all the same
    /// ([`Document::breakage`]).
    pub fn read(path: impl AsRef<Path>) -> Result<Self, SettingsError> {
        let path = std::path::absolute(&path).map_err(SettingsError::io("find", path.as_ref()))?;
        let target = path.canonicalize().map_err(SettingsError::io("read", &path))?;
        let whole = read_whole(&target, MOST_BYTES)?;
        let hash = ContentHash::of(&whole.bytes);
        Ok(Self { path, target, document: Document::parse(whole.bytes), hash, mode: whole.mode })
    }

    /// Reads a file, or the `.env` in a folder.
    pub fn at(path: &Path) -> Result<Self, SettingsError> {
        if path.is_dir() { Self::read(path.join(".env")) } else { Self::read(path) }
    }

    /// The path by which it was read, made absolute. Links in it are not followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, behind all links.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// What relative paths in it resolve against: where it, or the link to it, lies.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// What it says.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// What it contained.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Its permission bits.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// Replaces its content, and its permission bits where they are given; refused where it is no longer what was read.
    ///
    /// The file behind a link is replaced, the link stays. Another name of the same file (a hard link) keeps the old content.
    pub fn write(&self, bytes: &[u8], mode: Option<u32>) -> Result<Self, SettingsError> {
        let unchanged = || {
            let target = self.path.canonicalize().map_err(SettingsError::io("read", &self.path))?;
            let now = read_whole(&target, MOST_BYTES)?;
            if target == self.target && ContentHash::of(&now.bytes) == self.hash {
                Ok(())
            } else {
                Err(SettingsError::Changed { path: self.path.clone() })
            }
        };
        let gone = |error| match error {
            SettingsError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                SettingsError::Changed { path: self.path.clone() }
            }
            other => other,
        };
        unchanged().map_err(gone)?;
        let draft = Draft::beside(&self.target, bytes, mode.unwrap_or(self.mode))?;
        unchanged().map_err(gone)?;
        draft.replace()?;
        Self::read(&self.path)
    }
}
