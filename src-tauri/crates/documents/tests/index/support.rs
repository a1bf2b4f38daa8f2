//! A folder, an index beside it, and an embedder that hashes words.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use embedbar_contract::{Failure, FailureCode, Generation, Precision, RecipeName, SearchRequest};
use embedbar_documents::{Control, DocumentsError, Embedded, Embedder, Found, Index, Outcome, QueryVector};
use tempfile::TempDir;

/// A folder `docs` to index and the index in `home`.
pub(crate) struct Desk {
    pub(crate) folder: TempDir,
    pub(crate) index: Index,
}

impl Desk {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        std::fs::create_dir(folder.path().join("docs")).unwrap();
        let index = Index::open(&folder.path().join("home/index.sqlite")).unwrap();
        let desk = Self { folder, index };
        for (name, text) in files {
            desk.write(name, text);
        }
        desk
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("home/index.sqlite")
    }

    /// A path below `docs`, or `docs` itself for an empty name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let docs = self.folder.path().canonicalize().unwrap().join("docs");
        if name.is_empty() { docs } else { docs.join(name) }
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn refresh(&self, embedder: &dyn Embedder) -> Outcome {
        self.refresh_path("", embedder).unwrap()
    }

    pub(crate) fn refresh_path(&self, name: &str, embedder: &dyn Embedder) -> Result<Outcome, DocumentsError> {
        let result = self.index.refresh(&self.path(name), embedder, &Control::new(), &mut |_| {});
        assert_consistent(&self.database());
        result
    }

    /// The files found by words alone, best first, each once, relative to `docs`.
    pub(crate) fn by_words(&self, query: &str) -> Vec<String> {
        self.names(&self.index.search(&request(query), None).unwrap())
    }

    pub(crate) fn names(&self, found: &Found) -> Vec<String> {
        let docs = self.path("");
        let mut names: Vec<String> = Vec::new();
        for hit in &found.hits {
            let name = Path::new(&hit.path).strip_prefix(&docs).unwrap().to_str().unwrap().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Name and reason of what was left out, by name.
    pub(crate) fn skipped(&self) -> Vec<(String, String)> {
        let docs = self.path("");
        let skipped = self.index.summary().unwrap().skipped.into_iter();
        let name = |path: &str| Path::new(path).strip_prefix(&docs).unwrap().to_str().unwrap().to_owned();
        let mut skipped: Vec<_> = skipped.map(|it| (name(&it.path), it.reason)).collect();
        skipped.sort();
        skipped
    }
}

pub(crate) fn request(query: &str) -> SearchRequest {
    SearchRequest { query: query.into(), limit: 10 }
}

/// Makes vectors of hashed words.
pub(crate) struct Hashing {
    pub(crate) dims: usize,
    pub(crate) generation: Mutex<Generation>,
    /// Whether it says beforehand what it would embed with.
    pub(crate) announces: bool,
    pub(crate) texts: Mutex<Vec<String>>,
    /// Calls that succeed before every further one fails, or panics if the flag is set.
    pub(crate) fails_after: Option<(usize, bool)>,
    pub(crate) calls: AtomicUsize,
}

impl Hashing {
    pub(crate) fn new(model: &str) -> Self {
        Self {
            dims: 64,
            generation: Mutex::new(generation(model)),
            announces: true,
            texts: Mutex::default(),
            fails_after: None,
            calls: AtomicUsize::new(0),
        }
    }

    pub(crate) fn take_texts(&self) -> Vec<String> {
        std::mem::take(&mut *self.texts.lock().unwrap())
    }

    pub(crate) fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0_f32; self.dims];
        for word in text.split(|it: char| !it.is_alphanumeric()).filter(|word| !word.is_empty()) {
            let hash = word
                .to_lowercase()
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
            vector[(hash >> 20) as usize % self.dims] += 1.0;
        }
        vector[0] += 0.01;
        let length = vector.iter().map(|it| it * it).sum::<f32>().sqrt();
        vector.iter().map(|it| it / length).collect()
    }
}

impl Embedder for Hashing {
    fn embed_documents(&self, texts: Vec<String>) -> Result<Embedded, Failure> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fails_after {
            Some((calls, true)) if call >= calls => panic!("the embedder panics on purpose"),
            Some((calls, false)) if call >= calls => {
                return Err(Failure::new(FailureCode::WorkerFailed, "the worker died"));
            }
            _ => {}
        }
        let vectors = texts.iter().map(|text| self.vector(text)).collect();
        self.texts.lock().unwrap().extend(texts);
        Ok(Embedded { vectors, generation: self.generation.lock().unwrap().clone() })
    }

    fn generation(&self) -> Option<Generation> {
        self.announces.then(|| self.generation.lock().unwrap().clone())
    }
}

pub(crate) fn generation(model: &str) -> Generation {
    Generation {
        model: model.into(),
        revision: "0123456789abcdef".into(),
        precision: Precision::Int8,
        recipe: RecipeName::Native,
    }
}

/// Searches with the words and the vector of `query`.
pub(crate) fn search(index: &Index, embedder: &Hashing, query: &str) -> Found {
    let (vector, generation) = (embedder.vector(query), embedder.generation.lock().unwrap().clone());
    index.search(&request(query), Some(QueryVector { vector: &vector, generation: &generation })).unwrap()
}

/// Checks what has to hold at every instant, with SQLite's own checks and with queries that the program does not use.
pub(crate) fn assert_consistent(database: &Path) {
    let connection = rusqlite::Connection::open(database).unwrap();
    let check: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    connection.execute("INSERT INTO words (words) VALUES ('integrity-check')", []).unwrap();
    for broken in [
        "SELECT count(*) FROM pragma_foreign_key_check",
        "SELECT count(*) FROM files WHERE chunks <> (SELECT count(*) FROM chunks WHERE file = files.id)",
        "SELECT count(*) FROM chunks WHERE id NOT IN (SELECT rowid FROM words)",
        "SELECT count(*) FROM words WHERE rowid NOT IN (SELECT id FROM chunks)",
        "SELECT count(*) FROM contents WHERE id NOT IN (SELECT content FROM chunks)",
        "SELECT count(*) FROM files WHERE path IN (SELECT path FROM skipped)",
        "SELECT count(*) FROM vectors JOIN generations g ON g.id = generation WHERE length(vector) <> 2 * dims",
    ] {
        let count: i64 = connection.query_row(broken, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{broken}");
    }
}
