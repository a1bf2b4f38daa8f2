//! What the hub says a file is: the SHA-256 of its content, or the name that git gives to it.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::HubError;
use crate::error::file;

/// How much is read at a time, in bytes.
const BLOCK: usize = 1 << 20;

/// The digest by which a file is verified; it is the file's ETag, and its name among the cache's blobs.
#[derive(Clone, Copy, Eq, PartialEq, Hash)]
pub enum Digest {
    /// Of the content: files in large storage.
    Sha256([u8; 32]),
    /// Of `blob {length}\0` and the content: files that git itself keeps.
    Git([u8; 20]),
}

impl Digest {
    /// Reads an ETag or an object's name: 64 or 40 hexadecimal digits, as they stand or as HTTP writes them.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches("W/").trim_matches('"');
        match text.len() {
            64 => bytes(text).map(Self::Sha256),
            40 => bytes(text).map(Self::Git),
            _ => None,
        }
    }

    /// Verifies a file that is on the disk.
    pub fn of_file(self, path: &Path) -> Result<Self, HubError> {
        let mut source = File::open(path).map_err(file("read", path))?;
        let size = source.metadata().map_err(file("read", path))?.len();
        let mut hasher = Hasher::new(self, size);
        let mut block = vec![0; BLOCK];
        loop {
            match source.read(&mut block).map_err(file("read", path))? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&block[..count]),
            }
        }
    }
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Git(bytes) => bytes,
        };
        formatter.write_str(&hex::encode(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Computes a digest of the same kind as a given one.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// For content of `size` bytes.
    pub(crate) fn new(kind: Digest, size: u64) -> Self {
        match kind {
            Digest::Sha256(_) => Self::Sha256(Sha256::new()),
            Digest::Git(_) => Self::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Git(hasher) => Digest::Git(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_of_sha256() {
        // `git hash-object` of a file that holds "hello\n", and its sha256sum.
        for (name, weak) in [
            ("ce013625030ba8dba906f756967f9e9ca394464a", true),
            ("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03", false),
        ] {
            let quoted = if weak { format!("W/\"{name}\"") } else { format!("\"{name}\"") };
            let digest = Digest::parse(&quoted).expect("a digest");
            let mut hasher = Hasher::new(digest, 6);
            hasher.update(b"hello\n");
            assert_eq!((hasher.finish(), digest.to_string().as_str()), (digest, name));
        }
        for bad in ["", "abc", &"g".repeat(64), &"é".repeat(20)] {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
    }
}
