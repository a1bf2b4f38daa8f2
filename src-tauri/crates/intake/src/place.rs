//! Puts the files of an arrival into a folder of ours, and takes their digests on the way.
//!
//! The arrival may have been written down and read again meanwhile, so its paths are checked once more, and so are the headers
//! of the weights where they now lie: what was looked at is what is kept. Whoever calls gives an empty folder and renames it
//! when all is well; what a failure leaves in it is his to remove.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pass::{Pass, Source, check_length};
use crate::{Arrival, ArrivedFile, IntakeError, Watch, files, gguf_header, names, safetensors_header, share};

/// How the files are to be put there.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Manner {
    /// As files of our own: cloned where the file system can, else copied.
    Copy,
    /// As symbolic links to where they are, by the user's choice.
    Link,
}

/// How the files really got there; of several ways the one that costs most.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// They are left in place, and links lead to them.
    Linked,
    /// They came out of the scratch folder, which has no use for them.
    Moved,
    /// They share their blocks with the originals until one of the two changes.
    Cloned,
    /// They are on the disk twice.
    Copied,
}

/// What lies in the folder now.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Placed {
    /// How it got there.
    pub manner: Way,
    /// The sum of the sizes.
    pub bytes: u64,
    /// The files.
    pub files: Vec<PlacedFile>,
}

/// A file in the folder.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlacedFile {
    /// Its path below the folder.
    pub to: String,
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// Puts the files of `arrival` into `folder`, which is empty, and writes all of it through to the disk.
pub fn place(arrival: &Arrival, folder: &Path, manner: Manner, watch: &dyn Watch) -> Result<Placed, IntakeError> {
    let paths = checked_paths(&arrival.files)?;
    let is_empty = fs::symlink_metadata(folder).is_ok_and(|it| it.is_dir())
        && fs::read_dir(folder).is_ok_and(|mut names| names.next().is_none());
    if !is_empty {
        return Err(IntakeError::NotEmpty { folder: folder.to_path_buf() });
    }
    for path in &paths {
        let path = folder.join(path);
        fs::create_dir(&path).map_err(IntakeError::writing(&path))?;
    }
    let total = arrival.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let mut work = Work { folder, pass: Pass::over(total, watch), room_checked: false };
    let mut placed = Placed { manner: Way::Linked, bytes: 0, files: Vec::new() };
    for file in &arrival.files {
        let (way, sha256) = match (manner, arrival.in_scratch) {
            // Links into the scratch folder would lead nowhere once it is removed.
            (_, true) => work.own(file, Way::Moved)?,
            (Manner::Copy, false) => work.own(file, Way::Cloned)?,
            (Manner::Link, false) => work.link(file)?,
        };
        check_header(&folder.join(&file.to))?;
        placed.manner = placed.manner.max(way);
        placed.bytes = placed.bytes.saturating_add(file.bytes);
        placed.files.push(PlacedFile { to: file.to.clone(), bytes: file.bytes, sha256 });
    }
    for path in paths.iter().map(|path| folder.join(path)).chain([folder.to_path_buf()]) {
        File::open(&path).and_then(|opened| opened.sync_all()).map_err(IntakeError::writing(&path))?;
    }
    Ok(placed)
}

/// The folders that the files need, outer ones first, if all their paths are below the folder and none is there twice.
fn checked_paths(files: &[ArrivedFile]) -> Result<BTreeSet<String>, IntakeError> {
    let mut folders = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let wrong = |problem| IntakeError::Name { name: names::shown(&file.to), problem };
        names::check(&file.to).map_err(wrong)?;
        if !seen.insert(file.to.to_lowercase()) {
            return Err(wrong("it is there twice"));
        }
        folders.extend(file.to.match_indices('/').map(|(at, _)| file.to[..at].to_owned()));
    }
    Ok(folders)
}

/// Weights are looked at again where they lie: between recognising and now the file could have been exchanged.
fn check_header(path: &Path) -> Result<(), IntakeError> {
    let extension = names::extension(&path.to_string_lossy());
    if !["safetensors", "gguf"].contains(&extension.as_str()) {
        return Ok(());
    }
    let (file, length) = files::open(path)?;
    let source = BufReader::new(file);
    let checked = if extension == "gguf" {
        gguf_header::read(source, length).map(|_| ())
    } else {
        safetensors_header::read(source, length).map(|_| ())
    };
    checked.map_err(IntakeError::format(path))
}

struct Work<'a> {
    folder: &'a Path,
    pass: Pass<'a>,
    room_checked: bool,
}

impl Work<'_> {
    /// Makes `file` a file of the folder's own, by the cheap way if it can be had. Its way and digest.
    fn own(&mut self, file: &ArrivedFile, cheap: Way) -> Result<(Way, String), IntakeError> {
        let target = self.folder.join(&file.to);
        let (source, length) = files::open(&file.from)?;
        check_length(&file.from, file.bytes, length)?;
        let shared = match cheap {
            Way::Moved => fs::hard_link(&file.from, &target),
            _ => share::clone(&source, &target),
        };
        if shared.is_ok() {
            let (own, length) = files::open(&target)?;
            check_length(&file.from, file.bytes, length)?;
            let digest = self.pass(file, own, None)?;
            File::open(&target).and_then(|own| own.sync_all()).map_err(IntakeError::writing(&target))?;
            return Ok((cheap, digest));
        }
        self.check_room()?;
        let mut own =
            OpenOptions::new().write(true).create_new(true).open(&target).map_err(IntakeError::writing(&target))?;
        let digest = self.pass(file, source, Some((&mut own, &target)))?;
        own.sync_all().map_err(IntakeError::writing(&target))?;
        Ok((Way::Copied, digest))
    }

    /// Leaves `file` where it is, with a link to it.
    fn link(&mut self, file: &ArrivedFile) -> Result<(Way, String), IntakeError> {
        let target = self.folder.join(&file.to);
        let real: PathBuf = fs::canonicalize(&file.from).map_err(IntakeError::reading(&file.from))?;
        let (source, length) = files::open(&real)?;
        check_length(&file.from, file.bytes, length)?;
        let digest = self.pass(file, source, None)?;
        std::os::unix::fs::symlink(&real, &target).map_err(IntakeError::writing(&target))?;
        Ok((Way::Linked, digest))
    }

    /// Once, before the first file that takes room.
    fn check_room(&mut self) -> Result<(), IntakeError> {
        if !self.room_checked {
            files::check_room(self.folder, self.pass.left())?;
            self.room_checked = true;
        }
        Ok(())
    }

    /// Reads all of `source`, which is `file`, and writes it to the second if there is one; its digest.
    fn pass(
        &mut self,
        file: &ArrivedFile,
        source: File,
        to: Option<(&mut File, &Path)>,
    ) -> Result<String, IntakeError> {
        let source = Source { file: source, path: &file.from, item: &file.to, bytes: file.bytes };
        match to {
            None => self.pass.read(source, "reading", |_| Ok(())),
            Some((own, target)) => {
                self.pass.read(source, "copying", |block| own.write_all(block).map_err(IntakeError::writing(target)))
            }
        }
    }
}
