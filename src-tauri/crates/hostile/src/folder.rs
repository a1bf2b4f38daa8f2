//! Folders as bytes, so that a fuzzer can change them: `=== NAME`, a line's end and the content of each file.
//!
//! Names are taken as they come if they stay below the folder; what the system does not take (two files of one name, a file where a
//! folder is) is left out. Links and special files are not made here: the tests of `intake` have those.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

const MARK: &[u8] = b"=== ";
const NEXT: &[u8] = b"\n=== ";
/// More are no better than these.
const FILES: usize = 64;
const NAME: usize = 255;

/// Name and content of a file.
pub type Part<'bytes> = (&'bytes [u8], &'bytes [u8]);

/// The bytes of these files; a content with a line `=== ` in it becomes two.
pub fn joined(parts: &[Part<'_>]) -> Vec<u8> {
    let files: Vec<Vec<u8>> = parts.iter().map(|(name, content)| [MARK, name, b"\n", content].concat()).collect();
    files.join(&b"\n"[..])
}

/// The files that the bytes say.
fn parts(bytes: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = bytes.strip_prefix(MARK);
    while let Some(part) = rest.filter(|_| parts.len() < FILES) {
        let end = part.windows(NEXT.len()).position(|window| window == NEXT);
        let (part, next) = match end {
            Some(end) => (&part[..end], Some(&part[end + NEXT.len()..])),
            None => (part, None),
        };
        let line = part.iter().position(|byte| *byte == b'\n').unwrap_or(part.len());
        parts.push((&part[..line], part.get(line + 1..).unwrap_or_default()));
        rest = next;
    }
    parts
}

/// Writes what the bytes say into a folder.
pub(crate) fn write(bytes: &[u8], folder: &Path) {
    for (name, content) in parts(bytes) {
        let below = Path::new(OsStr::from_bytes(name));
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || name.len() > NAME || !plain {
            continue;
        }
        let path = folder.join(below);
        let made = path.parent().is_none_or(|parent| fs::create_dir_all(parent).is_ok());
        if made && !path.exists() {
            // A name that this system does not take.
            let _ = fs::write(&path, content);
        }
    }
}

/// A folder that is removed when it is dropped.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_what_its_bytes_say() {
        let bytes =
            joined(&[(b"a/b.json", b"{}\n"), (b"../c", b"out"), (b"/d", b"out"), (b"a", b"taken"), (b"e", b"")]);
        assert_eq!(parts(&bytes).len(), 5);
        let folder = scratch();
        write(&bytes, folder.path());
        assert_eq!(fs::read(folder.path().join("a/b.json")).expect("it is there"), b"{}\n");
        assert_eq!(fs::read(folder.path().join("e")).expect("it is there"), b"");
        assert_eq!(fs::read_dir(folder.path()).expect("it can be read").count(), 2);
        assert!(parts(b"").is_empty() && parts(b"== x").is_empty());
    }
}
