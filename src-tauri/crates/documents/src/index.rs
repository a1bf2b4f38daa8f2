//! The handle on an index: who may write, who reads, and the questions that need no search.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use embedbar_contract::{Folder, IndexSummary, SearchRequest};
use rusqlite::Connection;

use crate::control::{Control, Outcome, Progress, Turns};
use crate::search::{Found, QueryVector};
use crate::vectors::Matrix;
use crate::{DocumentsError, Embedder, refresh, search, store};

/// Idle connections that are kept for the next search.
const SPARE_READERS: usize = 4;

/// How many of the files that were left out [`Index::summary`] names.
const SKIPPED_SHOWN: usize = 200;

/// An index of folders. Clones are handles on the same one; all of it may be used from any thread, and searches are answered
/// while a refresh runs.
#[derive(Clone)]
pub struct Index {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    file: PathBuf,
    /// The folder that holds the index; it is never indexed itself.
    pub(crate) own: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    pub(crate) matrix: RwLock<Matrix>,
    pub(crate) turns: Turns,
}

impl Index {
    /// Opens the index in `file`, making it if there is none. The folder of `file` has to exist.
    ///
    /// # Errors
    ///
    /// [`DocumentsError::Newer`] if a later release wrote it, [`DocumentsError::Foreign`] and [`DocumentsError::Open`] if it is
    /// something else or damaged.
    pub fn open(file: &Path) -> Result<Self, DocumentsError> {
        let writer = store::open(file)?;
        let own = file.canonicalize().ok().and_then(|file| file.parent().map(Path::to_owned)).unwrap_or_default();
        Ok(Self {
            inner: Arc::new(Inner {
                file: file.to_owned(),
                own,
                writer: Mutex::new(writer),
                readers: Mutex::default(),
                matrix: RwLock::default(),
                turns: Turns::default(),
            }),
        })
    }

    /// Brings the index in line with `path`: a folder or a file, known or new.
    ///
    /// First all files are read that changed since, and their words are searchable at once; then the missing vectors are made,
    /// of the whole index, in batches. A `path` inside an indexed folder that its rules reach belongs to that folder;
    /// any other becomes a folder of the index itself, and takes in those folders of the index that it reaches. Refreshes run one
    /// at a time; a second one waits.
    ///
    /// # Errors
    ///
    /// [`DocumentsError::Unreadable`] and [`DocumentsError::NotFound`] for `path` itself; [`DocumentsError::Embedding`] if the
    /// model fails. What was stored before stays, and the next refresh goes on from there.
    pub fn refresh(
        &self,
        path: &Path,
        embedder: &dyn Embedder,
        control: &Control,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Outcome, DocumentsError> {
        refresh::refresh(&self.inner, path, embedder, control, progress)
    }

    /// Finds passages by words, and by meaning where `query` brings a vector whose generation the index has.
    ///
    /// # Errors
    ///
    /// [`DocumentsError::EmptyQuery`] and [`DocumentsError::Limit`] for a wrong request.
    pub fn search(&self, request: &SearchRequest, query: Option<QueryVector<'_>>) -> Result<Found, DocumentsError> {
        search::search(&self.inner, request, query)
    }

    /// The folders and some of the files that were left out.
    pub fn summary(&self) -> Result<IndexSummary, DocumentsError> {
        self.inner.read(|connection| {
            let skipped = store::skipped(connection, SKIPPED_SHOWN)?;
            Ok(IndexSummary { folders: store::folders(connection)?, skipped })
        })
    }

    /// The indexed folders, in the order they came.
    pub fn folders(&self) -> Result<Vec<Folder>, DocumentsError> {
        self.inner.read(|connection| Ok(store::folders(connection)?))
    }

    /// Takes a folder with all that belongs to it out of the index; false if it is not one of [`Index::folders`]. A refresh of it
    /// that is running ends as cancelled.
    pub fn forget(&self, folder: &Path) -> Result<bool, DocumentsError> {
        let mut writer = self.inner.writer();
        for path in spellings(folder) {
            let transaction = writer.transaction()?;
            if store::remove_root(&transaction, &path)? {
                transaction.commit()?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the index holds the text of the file at `path`.
    pub fn holds(&self, path: &Path) -> Result<bool, DocumentsError> {
        self.inner.read(|connection| {
            for path in spellings(path) {
                if store::has_file(connection, &path)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// Lets go of the vectors in memory, which the next search reads again; the bytes that were held.
    pub fn release_memory(&self) -> u64 {
        let mut matrix = self.inner.matrix.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *matrix).bytes()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Index").field("file", &self.inner.file).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one consistent state of the index, whatever is being written meanwhile.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, DocumentsError>,
    ) -> Result<T, DocumentsError> {
        let spare = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match spare {
            Some(connection) => connection,
            None => store::open_again(&self.file)?,
        };
        let transaction = connection.transaction()?;
        let result = work(&transaction);
        drop(transaction);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < SPARE_READERS {
            readers.push(connection);
        }
        result
    }
}

/// The path as given and, if it leads somewhere, without links: the index knows files by the latter.
fn spellings(path: &Path) -> Vec<String> {
    let canonical = path.canonicalize().ok();
    [Some(path.to_owned()), canonical]
        .into_iter()
        .flatten()
        .filter_map(|path| Some(path.to_str()?.to_owned()))
        .collect()
}
