//! What of an incomplete file is on the disk, so that a crash, a kill or a reboot costs the parts in flight and no more.
//!
//! A text file of lines, each with a checksum of itself, which only grows: a torn or damaged tail is recognised, and what
//! stands before it counts. A record promises nothing by itself: it carries the checksum of the bytes it speaks of, and
//! [`Journal::open`] reads them, so that data which never reached the disk is fetched again instead of trusted.
//!
//! What is not here: who fetches what, and the digest of the whole.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::Digest;

/// The first word of every journal, with the version of its form.
pub(crate) const FORM: &str = "embedbar-download-1";

/// How much is read at a time, in bytes.
const BLOCK: u64 = 1 << 20;

/// Bytes that are there: where, how many, and their CRC-32.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) length: u64,
    pub(crate) checksum: u32,
}

impl Extent {
    pub(crate) fn end(self) -> u64 {
        self.start + self.length
    }

    /// Are these bytes in the file as they were written?
    pub(crate) fn holds(self, file: &File) -> io::Result<bool> {
        let mut hasher = crc32fast::Hasher::new();
        let mut block = vec![0; BLOCK.min(self.length) as usize];
        let mut at = self.start;
        while at < self.end() {
            let part = &mut block[..BLOCK.min(self.end() - at) as usize];
            match file.read_exact_at(part, at) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                other => other?,
            }
            hasher.update(part);
            at += part.len() as u64;
        }
        Ok(hasher.finalize() == self.checksum)
    }
}

/// Extents by their start; they never overlap.
pub(crate) type Extents = BTreeMap<u64, Extent>;

/// Takes an extent in; one of the same place replaces the older, one that only overlaps is refused.
pub(crate) fn insert(extents: &mut Extents, extent: Extent) -> bool {
    let before = extents.range(..=extent.start).next_back().map(|(_, it)| *it);
    let same = before.is_some_and(|it| it.start == extent.start && it.length == extent.length);
    let touches_before = before.is_some_and(|it| it.end() > extent.start);
    let touches_after = extents.range(extent.start + 1..).next().is_some_and(|(start, _)| *start < extent.end());
    if extent.length == 0 || !same && (touches_before || touches_after) {
        return false;
    }
    extents.insert(extent.start, extent);
    true
}

/// The parts of a file of `size` bytes that no extent covers, in order.
pub(crate) fn gaps(extents: &Extents, size: u64) -> Vec<std::ops::Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for extent in extents.values() {
        if extent.start > at {
            gaps.push(at..extent.start);
        }
        at = extent.end();
    }
    if at < size {
        gaps.push(at..size);
    }
    gaps
}

/// The journal of one incomplete file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Where the journal of an incomplete file lies.
    pub(crate) fn beside(incomplete: &Path) -> PathBuf {
        let mut name = incomplete.as_os_str().to_owned();
        name.push(".journal");
        PathBuf::from(name)
    }

    /// Opens the journal of `data`, the incomplete file of `size` bytes, and says what is really there. A journal of another
    /// file or in another form counts for nothing.
    pub(crate) fn open(path: &Path, data: &File, size: u64, digest: Digest) -> io::Result<(Self, Extents)> {
        let written = match fs::read(path) {
            Ok(written) => parse(&written, size, digest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Extents::new(),
            Err(error) => return Err(error),
        };
        let mut extents = Extents::new();
        for extent in written.into_values() {
            if extent.holds(data)? {
                insert(&mut extents, extent);
            }
        }
        // Written anew: a torn tail must not stand before the next record.
        let fresh = path.with_extension("journal.new");
        let mut text = line(&header(size, digest));
        text.extend(extents.values().map(|extent| line(&record(*extent))));
        fs::write(&fresh, text)?;
        fs::rename(&fresh, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Self { path: path.to_owned(), file }, extents))
    }

    /// How many bytes of an incomplete file a journal speaks of, unchecked.
    pub(crate) fn recorded(incomplete: &Path, size: u64, digest: Digest) -> u64 {
        let there = fs::symlink_metadata(incomplete).is_ok_and(|found| found.is_file());
        let written = fs::read(Self::beside(incomplete)).unwrap_or_default();
        parse(&written, size, digest).values().filter(|_| there).map(|extent| extent.length).sum()
    }

    /// Writes down that bytes are there; they have been written before.
    pub(crate) fn append(&mut self, extent: Extent) -> io::Result<()> {
        self.file.write_all(line(&record(extent)).as_bytes())
    }

    /// A second handle, to be synced by somebody who does not hold the journal.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn header(size: u64, digest: Digest) -> String {
    format!("{FORM} {size} {digest}")
}

fn record(extent: Extent) -> String {
    format!("have {} {} {:08x}", extent.start, extent.length, extent.checksum)
}

/// A line with its checksum.
fn line(text: &str) -> String {
    format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
}

/// The records of the longest prefix of whole, undamaged lines.
pub(crate) fn parse(written: &[u8], size: u64, digest: Digest) -> Extents {
    let mut extents = Extents::new();
    let mut lines = written.split_inclusive(|byte| *byte == b'\n').map_while(|line| {
        let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
        let (text, checksum) = line.rsplit_once(' ')?;
        (checksum == format!("{:08x}", crc32fast::hash(text.as_bytes()))).then_some(text)
    });
    if lines.next() != Some(&header(size, digest)) {
        return extents;
    }
    for text in lines {
        let mut words = text.split(' ');
        let (Some("have"), Some(start), Some(length), Some(checksum)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            break;
        };
        let (Ok(start), Ok(length), Ok(checksum)) =
            (start.parse::<u64>(), length.parse::<u64>(), u32::from_str_radix(checksum, 16))
        else {
            break;
        };
        if start.checked_add(length).is_none_or(|end| end > size) {
            break;
        }
        insert(&mut extents, Extent { start, length, checksum });
    }
    extents
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::tempdir;

    use super::*;

    const SIZE: u64 = 1000;
    const DIGEST: Digest = Digest::Sha256([7; 32]);

    /// A journal over records of neighbouring parts of these lengths.
    fn journal(lengths: &[u64]) -> (Vec<u8>, Vec<Extent>) {
        let mut text = line(&header(SIZE, DIGEST));
        let mut start = 0;
        let mut extents = Vec::new();
        for length in lengths {
            let extent = Extent { start, length: *length, checksum: (start * 31) as u32 };
            text.push_str(&line(&record(extent)));
            extents.push(extent);
            start += length;
        }
        (text.into_bytes(), extents)
    }

    proptest! {
        #[test]
        fn a_torn_tail_leaves_a_prefix(lengths in prop::collection::vec(1u64..60, 0..16), cut in 0.0f64..=1.0) {
            let (bytes, extents) = journal(&lengths);
            let cut = (bytes.len() as f64 * cut) as usize;
            let found: Vec<_> = parse(&bytes[..cut], SIZE, DIGEST).into_values().collect();
            let lines = bytes[..cut].split(|byte| *byte == b'\n').count() - 1;
            prop_assert_eq!(found, &extents[..lines.saturating_sub(1)]);
        }

        #[test]
        fn damage_leaves_what_stands_before_it(
            lengths in prop::collection::vec(1u64..60, 1..16),
            at in any::<prop::sample::Index>(),
            with in any::<u8>(),
        ) {
            let (mut bytes, extents) = journal(&lengths);
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != with);
            let line = bytes[..at].split(|byte| *byte == b'\n').count() - 1;
            bytes[at] = with;
            let found: Vec<_> = parse(&bytes, SIZE, DIGEST).into_values().collect();
            prop_assert_eq!(found, &extents[..line.saturating_sub(1)]);
        }

        #[test]
        fn garbage_never_overlaps_nor_leaves_the_file(parts in prop::collection::vec((0u64..1200, 0u64..300), 0..20)) {
            let mut text = line(&header(SIZE, DIGEST));
            for (start, length) in parts {
                text.push_str(&line(&record(Extent { start, length, checksum: 0 })));
            }
            let found = parse(text.as_bytes(), SIZE, DIGEST);
            let mut at = 0;
            for extent in found.values() {
                prop_assert!(extent.start >= at && extent.length > 0 && extent.end() <= SIZE);
                at = extent.end();
            }
            let missing: u64 = gaps(&found, SIZE).iter().map(|gap| gap.end - gap.start).sum();
            prop_assert_eq!(missing, SIZE - found.values().map(|it| it.length).sum::<u64>());
        }
    }

    #[test]
    fn a_journal_of_another_file_counts_for_nothing() {
        let (bytes, _) = journal(&[10]);
        assert!(parse(&bytes, SIZE + 1, DIGEST).is_empty());
        assert!(parse(&bytes, SIZE, Digest::Sha256([8; 32])).is_empty());
    }

    #[test]
    fn a_record_counts_only_where_the_file_holds_its_bytes() {
        let folder = tempdir().expect("a folder");
        let data = folder.path().join("data");
        fs::write(&data, b"abcdefgh").expect("written");
        let open = || Journal::open(&folder.path().join("data.journal"), &File::open(&data).expect("open"), 12, DIGEST);
        let (mut journal, found) = open().expect("a journal");
        assert!(found.is_empty());
        let extent =
            |start, bytes: &[u8]| Extent { start, length: bytes.len() as u64, checksum: crc32fast::hash(bytes) };
        for extent in [extent(0, b"abc"), extent(3, b"xyz"), extent(8, b"beyond")] {
            journal.append(extent).expect("appended");
        }
        drop(journal);
        let (_, found) = open().expect("a journal");
        assert_eq!(found.into_values().collect::<Vec<_>>(), [extent(0, b"abc")]);
    }
}
