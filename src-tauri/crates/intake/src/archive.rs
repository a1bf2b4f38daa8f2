//! Zip archives: what one holds, and its files written below a new folder of ours.
//!
//! Nothing an archive says is believed: names lead nowhere but below the folder, links and special files are refused, sizes are
//! counted while bytes come out, and only files of the kinds that a model has are unpacked at all. Archives in an archive stay
//! closed.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;
use std::rc::Rc;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::{IntakeError, Watch, files, names};

/// Entries at most; a model has dozens.
pub const MAX_ENTRIES: usize = 10_000;
/// Of everything unpacked, in bytes; the largest embedding models have 16 GB.
pub const MAX_BYTES: u64 = 64 << 30;
/// Weights hardly shrink, settings shrink tenfold; up to [`SMALL`] bytes anything may.
const MAX_RATIO: u64 = 100;
const SMALL: u64 = 64 << 20;
/// Bytes that may be read to find the list of entries.
const DIRECTORY: u64 = 8 << 20;
const BLOCK: usize = 1 << 20;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveProblem {
    /// It cannot be read as a zip archive.
    #[error("it is no zip archive, or a damaged one: {0}")]
    Damaged(String),
    /// The system refused to read it.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// More entries than a model has.
    #[error("it has `{count}` entries; at most `{MAX_ENTRIES}` are unpacked")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A name that is no path below a folder.
    #[error("it has an entry called `{entry}`: {problem}")]
    Name {
        /// The name, cleaned.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A symbolic link.
    #[error("its entry `{entry}` is a symbolic link")]
    Link {
        /// Its name.
        entry: String,
    },
    /// A device, a pipe, a socket.
    #[error("its entry `{entry}` is neither a file nor a folder")]
    Special {
        /// Its name.
        entry: String,
    },
    /// Two entries that are one file, on a disk that takes `A` for `a` at least.
    #[error("two of its entries are called `{entry}`")]
    Twice {
        /// The name.
        entry: String,
    },
    /// A password would be needed.
    #[error("its entry `{entry}` is encrypted")]
    Encrypted {
        /// Its name.
        entry: String,
    },
    /// A compression that is not read.
    #[error("its entry `{entry}` is compressed by the method `{method}`, which is not read")]
    Method {
        /// Its name.
        entry: String,
        /// The method.
        method: String,
    },
    /// Entries that share bytes, as bombs have them.
    #[error("its entries overlap")]
    Overlap,
    /// Far larger unpacked than packed.
    #[error("`{entry}` would have `{bytes}` bytes unpacked and has `{packed}` packed, as no model has")]
    Bomb {
        /// An entry, or the whole.
        entry: String,
        /// As declared, or as counted so far.
        bytes: u64,
        /// In the archive.
        packed: u64,
    },
    /// More than any model.
    #[error("it would have `{bytes}` bytes unpacked; at most `{MAX_BYTES}` are unpacked")]
    TooLarge {
        /// As declared.
        bytes: u64,
    },
    /// The declared size of an entry was not the truth.
    #[error("its entry `{entry}` has more or fewer bytes than the `{declared}` that it declares")]
    Lied {
        /// Its name.
        entry: String,
        /// What it declared.
        declared: u64,
    },
}

/// What an archive holds.
#[derive(Debug)]
pub struct Listing {
    /// The files to unpack, in the archive's order.
    pub wanted: Vec<Entry>,
    /// The names of the others; what systems leave in archives is not among them.
    pub left_out: Vec<String>,
    /// The declared sizes of `wanted`, summed up.
    pub bytes: u64,
}

/// A file in an archive.
#[derive(Debug)]
pub struct Entry {
    /// Its number in the archive.
    pub index: usize,
    /// A path below a folder, checked.
    pub name: String,
    /// Its declared size.
    pub bytes: u64,
}

/// Whether a file of this name is unpacked: only what [`recognise`](crate::recognise) may take.
fn is_wanted(name: &str) -> bool {
    let (folders, file) = name.rsplit_once('/').unwrap_or(("", name));
    match names::extension(file).as_str() {
        "safetensors" | "gguf" | "json" | "md" | "mlmodel" | "mil" | "net" | "shape" | "weights" => true,
        // Elsewhere a `.bin` is a pickle.
        "bin" => {
            let in_package = |part: &str| part == "Data" || part.ends_with(".mlpackage") || part.ends_with(".mlmodelc");
            file == "coremldata.bin" || folders.split('/').any(|part| in_package(part) || part == "weights")
        }
        "" | "txt" => file.to_ascii_uppercase().starts_with("LICEN"),
        _ => false,
    }
}

/// Reads the list of entries and checks all of them, also those that are not wanted.
pub fn list<R: Read + Seek>(source: R) -> Result<Listing, ArchiveProblem> {
    open(source).map(|(_, listing)| listing)
}

fn open<R: Read + Seek>(source: R) -> Result<(ZipArchive<Metered<R>>, Listing), ArchiveProblem> {
    let allowance = Rc::new(Cell::new(Some(DIRECTORY)));
    let source = Metered { source, allowance: Rc::clone(&allowance) };
    let mut archive = ZipArchive::new(source).map_err(|error| problem(error, "the whole"))?;
    if archive.len() > MAX_ENTRIES {
        return Err(ArchiveProblem::TooMany { count: archive.len() });
    }
    if archive.has_duplicate_names() {
        return Err(ArchiveProblem::Twice { entry: "the same".to_owned() });
    }
    if archive.has_overlapping_entries().map_err(|error| problem(error, "the whole"))? {
        return Err(ArchiveProblem::Overlap);
    }
    allowance.set(None);
    let mut listing = Listing { wanted: Vec::new(), left_out: Vec::new(), bytes: 0 };
    let (mut seen, mut packed) = (HashSet::new(), 0_u64);
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(|error| problem(error, "one"))?;
        let raw = names::shown(&String::from_utf8_lossy(entry.name_raw()));
        let name = entry.name().map_err(|error| problem(error, &raw))?.into_owned();
        let path = name.strip_suffix('/').unwrap_or(&name).to_owned();
        if let Err(problem) = names::check(&path) {
            return Err(ArchiveProblem::Name { entry: names::shown(&name), problem });
        }
        if !seen.insert(path.to_lowercase()) {
            return Err(ArchiveProblem::Twice { entry: path });
        }
        if entry.is_symlink() {
            return Err(ArchiveProblem::Link { entry: path });
        }
        let kind = entry.unix_mode().unwrap_or(0) & 0o170_000;
        if ![0, 0o100_000, 0o040_000].contains(&kind) || (kind == 0o040_000 && !name.ends_with('/')) {
            return Err(ArchiveProblem::Special { entry: path });
        }
        if entry.encrypted() {
            return Err(ArchiveProblem::Encrypted { entry: path });
        }
        if name.ends_with('/') || names::is_debris(&path) {
            continue;
        }
        if !is_wanted(&path) {
            listing.left_out.push(path);
            continue;
        }
        let method = entry.compression();
        if ![CompressionMethod::Stored, CompressionMethod::Deflated].contains(&method) {
            return Err(ArchiveProblem::Method { entry: path, method: names::shown(&method.to_string()) });
        }
        let (bytes, in_archive) = (entry.size(), entry.compressed_size());
        check_ratio(&path, bytes, in_archive)?;
        packed = packed.saturating_add(in_archive);
        listing.bytes = listing.bytes.saturating_add(bytes);
        listing.wanted.push(Entry { index, name: path, bytes });
    }
    if listing.bytes > MAX_BYTES {
        return Err(ArchiveProblem::TooLarge { bytes: listing.bytes });
    }
    check_ratio("the whole", listing.bytes, packed)?;
    Ok((archive, listing))
}

fn check_ratio(entry: &str, bytes: u64, packed: u64) -> Result<(), ArchiveProblem> {
    if bytes > SMALL && bytes / MAX_RATIO > packed {
        return Err(ArchiveProblem::Bomb { entry: entry.to_owned(), bytes, packed });
    }
    Ok(())
}

/// Unpacks what is wanted into `folder`, which is made and must not be there; `path` is what messages name. On failure nothing
/// is left.
pub fn extract<R: Read + Seek>(
    source: R,
    path: &Path,
    folder: &Path,
    watch: &dyn Watch,
) -> Result<Listing, IntakeError> {
    let refused = |problem| IntakeError::Archive { path: path.to_path_buf(), problem };
    let (mut archive, listing) = open(source).map_err(refused)?;
    fs::create_dir(folder).map_err(IntakeError::writing(folder))?;
    let unpacked = files::check_room(folder, listing.bytes).and_then(|()| {
        let mut done = 0;
        let mut made = BTreeSet::new();
        for entry in &listing.wanted {
            let target = folder.join(&entry.name);
            make_folders(folder, &entry.name, &mut made)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).open(&target).map_err(IntakeError::writing(&target))?;
            let mut progress = |within: u64| {
                watch.progress("unpacking", &entry.name, done + within, listing.bytes);
                if watch.cancelled() { Err(IntakeError::Cancelled) } else { Ok(()) }
            };
            unpack(&mut archive, entry, (&mut file, &target), &refused, &mut progress)?;
            done += entry.bytes;
        }
        Ok(())
    });
    match unpacked {
        Ok(()) => Ok(listing),
        Err(error) => {
            let _ = fs::remove_dir_all(folder);
            Err(error)
        }
    }
}

/// Makes the folders of `name` below `folder`; a file in the place of one is an error.
fn make_folders(folder: &Path, name: &str, made: &mut BTreeSet<String>) -> Result<(), IntakeError> {
    for (at, _) in name.match_indices('/') {
        let part = &name[..at];
        if made.insert(part.to_owned()) {
            let path = folder.join(part);
            fs::create_dir(&path).map_err(IntakeError::writing(&path))?;
        }
    }
    Ok(())
}

fn unpack<R: Read + Seek>(
    archive: &mut ZipArchive<Metered<R>>,
    entry: &Entry,
    (file, target): (&mut File, &Path),
    refused: &dyn Fn(ArchiveProblem) -> IntakeError,
    progress: &mut dyn FnMut(u64) -> Result<(), IntakeError>,
) -> Result<(), IntakeError> {
    let mut source = archive.by_index(entry.index).map_err(|error| refused(problem(error, &entry.name)))?;
    let lied = || refused(ArchiveProblem::Lied { entry: entry.name.clone(), declared: entry.bytes });
    let mut block = vec![0; BLOCK];
    let mut written = 0;
    loop {
        progress(written)?;
        let count = source.read(&mut block).map_err(|error| refused(reading(error)))?;
        if count == 0 {
            break;
        }
        // What really comes out is counted: more than declared is never written.
        written += count as u64;
        if written > entry.bytes {
            return Err(lied());
        }
        file.write_all(&block[..count]).map_err(IntakeError::writing(target))?;
    }
    if written == entry.bytes { Ok(()) } else { Err(lied()) }
}

/// The library's error in our words.
fn problem(error: ZipError, entry: &str) -> ArchiveProblem {
    let entry = entry.to_owned();
    match error {
        ZipError::Io(error) => reading(error),
        ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED) => ArchiveProblem::Encrypted { entry },
        ZipError::CompressionMethodNotSupported(method) => ArchiveProblem::Method { entry, method: method.to_string() },
        ZipError::UnsupportedArchive(what) => ArchiveProblem::Damaged(what.to_owned()),
        error => ArchiveProblem::Damaged(names::shown(&error.to_string())),
    }
}

/// What the decompressor finds wrong comes as an error of reading, too.
fn reading(error: io::Error) -> ArchiveProblem {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => ArchiveProblem::Damaged(names::shown(&error.to_string())),
        _ => ArchiveProblem::Unreadable(error),
    }
}

/// Reads on only as long as there is an allowance: a list of entries can be as long as the file.
struct Metered<R> {
    source: R,
    allowance: Rc<Cell<Option<u64>>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(bytes)?;
        if let Some(left) = self.allowance.get() {
            let left = left.checked_sub(count as u64);
            let left = left.ok_or_else(|| io::Error::other("its list of entries has no end"))?;
            self.allowance.set(Some(left));
        }
        Ok(count)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.source.seek(position)
    }
}
