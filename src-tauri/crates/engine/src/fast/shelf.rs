//! Where packed matrices lie: in memory, or in a file that was written at the first load and is mapped from then on.
//!
//! The file is a page with a mark, then the matrices in the order in which the encoder asks for them, each at a multiple of 64
//! bytes; their shapes follow from the model, so nothing else has to be said. Its name and its mark have all that it depends on:
//! the model's revision, the level of instructions and the layouts. Whatever else is in such a file, products read only it and
//! give numbers, and a file of another length is made again. Several processes map the same pages.

use std::{
    io::{self, Write as _},
    ops::Range,
    path::Path,
    sync::Arc,
};

use embedbar_kernels::AlignedBytes;

use super::packing::Packing;

use crate::{
    EngineError,
    kept::{self, Draft},
    mapped::Mapped,
};

/// Changes whenever what is packed, or in which order, does.
const VERSION: u32 = 1;
/// Before the first matrix; a page, so that matrices begin at a multiple of 64 bytes of memory too.
const HEADER: usize = 4096;

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
pub(crate) struct Shelf {
    packing: Packing,
    state: State,
}

enum State {
    Memory,
    Reading {
        file: Arc<Mapped>,
        at: usize,
    },
    Writing(Draft),
    /// Nothing more can be written.
    Full(io::Error),
}

impl Shelf {
    /// For which instructions matrices are to be packed.
    pub(super) fn packing(&self) -> Packing {
        self.packing
    }

    /// The next matrix of `length` bytes, filled by `fill` where it is not there yet.
    pub(super) fn place(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), EngineError>,
    ) -> Result<Bytes, EngineError> {
        if let State::Reading { file, at } = &mut self.state {
            let range = *at..*at + length;
            if range.end > file.bytes().len() {
                return Err(EngineError::corrupt(file.path(), "it ends in the middle of a matrix"));
            }
            *at = range.end;
            return Ok(Bytes::Mapped(Arc::clone(file), range));
        }
        let mut bytes = AlignedBytes::zeroed(length);
        fill(&mut bytes)?;
        match &mut self.state {
            State::Writing(draft) => {
                if let Err(error) = draft.write_all(&bytes) {
                    self.state = State::Full(error);
                }
                Ok(Bytes::Gone)
            }
            State::Full(_) => Ok(Bytes::Gone),
            State::Memory | State::Reading { .. } => Ok(Bytes::Own(bytes)),
        }
    }
}

/// Loads an encoder with its matrices in a file below `folder`, in a folder named after the model, which is written first where
/// it is not there; in memory where there is no folder or it cannot be written.
///
/// `model` and `revision` tell whose matrices they are; `load` asks for the same ones each time it is called.
pub(crate) fn load<E>(
    folder: Option<&Path>,
    (model, revision): (&str, &str),
    packing: Packing,
    mut load: impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Result<E, EngineError> {
    let in_memory = || Shelf { packing, state: State::Memory };
    let Some(folder) = folder else { return load(&mut in_memory()) };
    let name = packing.name();
    // All that the bytes of a file depend on.
    let mark = format!("embedbar packed {VERSION}\nmodel {revision}\nlevel {name}\nlayouts {}\n", packing.layouts());
    let path = kept::place(folder, model, &format!("{revision}-{name}.packed"));
    if let Some(encoder) = read(&path, &mark, packing, &mut load) {
        return Ok(encoder);
    }
    match write(&path, &mark, packing, &mut load) {
        Ok(()) => {
            if let Some(encoder) = read(&path, &mark, packing, &mut load) {
                return Ok(encoder);
            }
            tracing::warn!(path = %path.display(), "packed matrices that were just written cannot be read");
        }
        Err(Unwritten::Model(error)) => return Err(error),
        Err(Unwritten::File(error)) => {
            tracing::warn!(path = %path.display(), %error, "packed matrices stay in memory");
        }
    }
    load(&mut in_memory())
}

fn read<E>(
    path: &Path,
    mark: &str,
    packing: Packing,
    load: &mut impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Option<E> {
    let file = Arc::new(Mapped::open(path).ok()?);
    if !file.bytes().starts_with(mark.as_bytes()) || file.bytes().len() < HEADER {
        return None;
    }
    let whole = file.bytes().len();
    let mut shelf = Shelf { packing, state: State::Reading { file, at: HEADER } };
    match load(&mut shelf) {
        Ok(encoder) if matches!(shelf.state, State::Reading { at, .. } if at == whole) => Some(encoder),
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

fn write<E>(
    path: &Path,
    mark: &str,
    packing: Packing,
    load: &mut impl FnMut(&mut Shelf) -> Result<E, EngineError>,
) -> Result<(), Unwritten> {
    let mut draft = Draft::begin(path)?;
    let mut header = mark.as_bytes().to_vec();
    header.resize(HEADER, 0);
    draft.write_all(&header)?;
    let mut shelf = Shelf { packing, state: State::Writing(draft) };
    load(&mut shelf).map_err(Unwritten::Model)?;
    match shelf.state {
        State::Writing(draft) => Ok(draft.finish()?),
        State::Full(error) => Err(Unwritten::File(error)),
        State::Memory | State::Reading { .. } => unreachable!("it was for writing. This is a bug."),
    }
}
