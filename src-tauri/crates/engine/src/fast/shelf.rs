//! Where packed matrices lie: in memory, or in a file that was written at the first load and is mapped from then on.
//!
//! The file is a page with a mark, then the matrices in the order in which the encoder asks for them, each at a multiple of 64
//! bytes; their shapes follow from the model, so nothing else has to be said. Its name and its mark have all that it depends on:
//! the model's revision, the level of instructions and the layouts. Whatever else is in such a file, products read only it and
//! give numbers, and a file of another length is made again. Several processes map the same pages.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write as _},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use embedbar_kernels::{AlignedBytes, ExactShape, Isa, Layout};

use crate::{EngineError, mapped::Mapped};

/// Changes whenever what is packed, or in which order, does.
const VERSION: u32 = 1;
/// Before the first matrix; a page, so that matrices begin at a multiple of 64 bytes of memory too.
const HEADER: usize = 4096;
/// Ends the name of a file that is not finished.
const PART: &str = ".part";

/// The bytes of one matrix.
pub(super) enum Bytes {
    Own(AlignedBytes),
    Mapped(Arc<Mapped>, Range<usize>),
    /// They went into the file, and whoever asked for them is not going to multiply.
    Gone,
}

impl Bytes {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Mapped(file, range) => &file.bytes()[range.clone()],
            Self::Gone => &[],
        }
    }
}

/// Gives matrices their bytes, one after another.
pub(crate) struct Shelf(State);

enum State {
    Memory,
    Reading { file: Arc<Mapped>, at: usize },
    Writing { file: BufWriter<File>, path: PathBuf },
}

impl Shelf {
    /// The next matrix of `length` bytes, filled by `fill` where it is not there yet.
    pub(super) fn place(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), EngineError>,
    ) -> Result<Bytes, EngineError> {
        if let State::Reading { file, at } = &mut self.0 {
            let range = *at..*at + length;
            if range.end > file.bytes().len() {
                return Err(EngineError::corrupt(file.path(), "it ends in the middle of a matrix"));
            }
            *at = range.end;
            return Ok(Bytes::Mapped(Arc::clone(file), range));
        }
        let mut bytes = AlignedBytes::zeroed(length);
        fill(&mut bytes)?;
        match &mut self.0 {
            State::Writing { file, path } => {
                file.write_all(&bytes).map_err(|source| EngineError::Unreadable { path: path.clone(), source })?;
                Ok(Bytes::Gone)
            }
            _ => Ok(Bytes::Own(bytes)),
        }
    }
}

/// Loads an encoder with its matrices in a file below `folder`, in a folder named after the model, which is written first where it is not there; in memory where there
/// is no folder or it cannot be written.
///
/// `model` and `revision` tell whose matrices they are; `load` asks for the same ones each time it is called.
pub(crate) fn load<E>(
    folder: Option<&Path>,
    (model, revision): (&str, &str),
    mut load: impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Result<E, EngineError> {
    let Some(folder) = folder else { return load(&mut Shelf(State::Memory)) };
    let mark = mark(revision);
    let path = folder.join(plain(model)).join(format!("{revision}-{}.packed", Isa::best().name()));
    if let Some(encoder) = read(&path, &mark, &mut load) {
        return Ok(encoder);
    }
    match write(&path, &mark, &mut load) {
        Ok(()) => {
            if let Some(encoder) = read(&path, &mark, &mut load) {
                return Ok(encoder);
            }
            tracing::warn!(path = %path.display(), "packed matrices that were just written cannot be read");
        }
        Err(Unwritten::Model(error)) => return Err(error),
        Err(Unwritten::File(error)) => {
            tracing::warn!(path = %path.display(), %error, "packed matrices stay in memory");
        }
    }
    load(&mut Shelf(State::Memory))
}

/// All that the bytes of a file depend on.
fn mark(revision: &str) -> String {
    let isa = Isa::best();
    let (coded, exact) = (Layout::of(isa).name(), ExactShape::LAYOUT);
    format!("embedbar packed {VERSION}\nmodel {revision}\nlevel {}\nlayouts {coded} {exact}\n", isa.name())
}

/// A model's id as the name of a folder.
fn plain(model: &str) -> String {
    model.trim_start_matches('.').chars().map(|it| if it == '/' || it == '\0' { '_' } else { it }).collect()
}

fn read<E>(path: &Path, mark: &str, load: &mut impl FnMut(&mut Shelf) -> Result<E, EngineError>) -> Option<E> {
    let file = Arc::new(Mapped::open(path).ok()?);
    if !file.bytes().starts_with(mark.as_bytes()) || file.bytes().len() < HEADER {
        return None;
    }
    let whole = file.bytes().len();
    let mut shelf = Shelf(State::Reading { file, at: HEADER });
    match load(&mut shelf) {
        Ok(encoder) if matches!(shelf.0, State::Reading { at, .. } if at == whole) => Some(encoder),
        Ok(_) => {
            tracing::warn!(path = %path.display(), "packed matrices of another length are made again");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "packed matrices are made again");
            None
        }
    }
}

/// Why there is no file.
enum Unwritten {
    /// The model cannot be packed, in whatever place.
    Model(EngineError),
    File(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

/// Writes the file beside its place and gives it its name when it is whole and on the disk.
fn write<E>(
    path: &Path,
    mark: &str,
    load: &mut impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Result<(), Unwritten> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let part = folder.join(format!(".{}-{}{PART}", std::process::id(), path.file_name().unwrap_or_default().display()));
    sweep_parts(folder);
    let written = write_part(&part, mark, load).and_then(|()| {
        fs::rename(&part, path)?;
        Ok(())
    });
    if written.is_err() {
        let _ = fs::remove_file(&part); // it may not have come to be
    }
    written
}

fn write_part<E>(
    part: &Path,
    mark: &str,
    load: &mut impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Result<(), Unwritten> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(part)?;
    let mut file = BufWriter::new(file);
    let mut header = mark.as_bytes().to_vec();
    header.resize(HEADER, 0);
    file.write_all(&header)?;
    let mut shelf = Shelf(State::Writing { file, path: part.to_path_buf() });
    match load(&mut shelf) {
        Ok(_) => {}
        Err(EngineError::Unreadable { path, source }) if path == part => return Err(Unwritten::File(source)),
        Err(error) => return Err(Unwritten::Model(error)),
    }
    if let State::Writing { file, .. } = shelf.0 {
        // Its length alone tells that it is whole, so its bytes have to be there before its name is.
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    }
    Ok(())
}

/// Removes what processes left that were killed while they wrote.
fn sweep_parts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let old = || {
            entry
                .metadata()
                .and_then(|it| it.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|it| it.as_secs() > 600))
        };
        if name.to_str().is_some_and(|name| name.ends_with(PART)) && old() {
            let _ = fs::remove_file(entry.path()); // somebody else may sweep too
        }
    }
}
