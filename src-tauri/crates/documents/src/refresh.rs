//! Brings the index in line with a folder: list, read what changed, remove what is gone, embed what is missing.
//!
//! Words come first, vectors follow. Nothing is held in memory that a kill would lose: after each file and each batch the store
//! is whole, and a refresh that is repeated does only what is left.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::control::{Control, Outcome, Progress};
use crate::embedder::{Embedded, Embedder};
use crate::extract::{self, PIPELINE};
use crate::index::Inner;
use crate::store::{self, Known, NewFile};
use crate::walk::{Candidate, Listing, Route, Stat};
use crate::{DocumentsError, chunk};

/// Texts of one call of the embedder.
const BATCH: usize = 64;

/// Texts that are sorted by length before they are cut into batches, so that little of a batch is padding.
const SORTED: usize = 8 * BATCH;

/// How often the embedder may change its generation to one that has the vectors already.
const MOST_IN_VAIN: u32 = 3;

/// A file changed this shortly before it was read may change again without its time telling.
const RACY_NS: i64 = 2_000_000_000;

/// Stands for a time that has to be looked at again.
const UNSURE: i64 = -1;

pub(crate) fn refresh(
    inner: &Inner,
    path: &Path,
    embedder: &dyn Embedder,
    control: &Control,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, DocumentsError> {
    let outcome = Outcome { cancelled: true, ..Outcome::default() };
    let Some(_turn) = inner.turns.take(control) else { return Ok(outcome) };
    let Some(scope) = Scope::find(inner, path)? else { return Ok(outcome) };
    let mut job =
        Job { inner, scope, embedder, control, tell: progress, told: Progress::default(), outcome: Outcome::default() };
    job.outcome.cancelled = !(job.read_files()? && job.embed_missing()?);
    tracing::info!(target = job.scope.target, outcome = ?job.outcome, "refreshed the index");
    Ok(job.outcome)
}

/// Which part of which root is refreshed.
struct Scope {
    root: i64,
    /// UTF-8, checked.
    target: String,
    route: Route,
    /// False if the target is gone; then all that is left to do is to remove it.
    exists: bool,
}

impl Scope {
    /// Finds the root that `path` belongs to, or makes it one. `None` if the root was forgotten meanwhile.
    fn find(inner: &Inner, path: &Path) -> Result<Option<Self>, DocumentsError> {
        let target = resolve(path)?;
        let text = target.to_str().ok_or_else(|| DocumentsError::NotText { path: target.clone() })?.to_owned();
        let exists = target.exists();
        let route = |root: &Path| Route { root: root.to_owned(), target: target.clone(), own: inner.own.clone() };
        let mut roots = store::roots(&inner.writer())?;
        // The innermost first.
        roots.sort_by_key(|(_, root)| std::cmp::Reverse(root.len()));
        for (root, root_path) in roots {
            let root_path = Path::new(&root_path);
            let inside = target.starts_with(root_path) && root_path.exists();
            if inside && (root_path == target || !exists || route(root_path).reaches_target()) {
                check_readable(&target, exists)?;
                return Ok(Some(Self { root, target: text, route: route(root_path), exists }));
            }
        }
        if !exists {
            return Err(DocumentsError::NotFound { path: path.to_owned() });
        }
        check_readable(&target, exists)?;
        let root = store::add_root(&inner.writer(), &text)?;
        Ok(Some(Self { root, target: text, route: route(&target), exists }))
    }
}

fn check_readable(target: &Path, exists: bool) -> Result<(), DocumentsError> {
    let result = match (exists, target.is_dir()) {
        (false, _) => Ok(()),
        (true, true) => std::fs::read_dir(target).map(drop),
        (true, false) => extract::open(target).map(drop),
    };
    result.map_err(|source| DocumentsError::Unreadable { path: target.to_owned(), source })
}

/// The absolute path without links; of a path that leads nowhere, as much of it as there is.
fn resolve(path: &Path) -> Result<PathBuf, DocumentsError> {
    let unreadable = |source| DocumentsError::Unreadable { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    for above in absolute.ancestors() {
        match above.canonicalize() {
            Ok(canonical) => {
                let rest = absolute.strip_prefix(above).expect("an ancestor is a prefix. This is a bug.");
                let resolved = if rest.as_os_str().is_empty() { canonical } else { canonical.join(rest) };
                return Ok(resolved);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(absolute)
}

struct Job<'a> {
    inner: &'a Inner,
    scope: Scope,
    embedder: &'a dyn Embedder,
    control: &'a Control,
    tell: &'a mut dyn FnMut(Progress),
    told: Progress,
    outcome: Outcome,
}

/// What became of a file.
enum Read {
    Unchanged,
    Added(u64),
    Changed(u64),
    Skipped,
    /// It vanished since it was listed.
    Gone,
    /// The root was forgotten.
    Forgotten,
}

impl Job<'_> {
    /// True if it came to its end.
    fn read_files(&mut self) -> Result<bool, DocumentsError> {
        self.told.current = PathBuf::from(&self.scope.target);
        (self.tell)(self.told.clone());
        let Some(listing) = self.list()? else { return Ok(false) };
        self.absorb(&listing)?;
        let mut known = HashMap::new();
        store::known(&self.inner.writer(), &self.scope.target, |path, file| {
            known.insert(path, file);
        })?;
        let total = listing.files.len() + listing.unreadable.len();
        self.told.files_total = Some(total as u64);
        for candidate in listing.files.iter().chain(&listing.unreadable) {
            self.told.current = PathBuf::from(&candidate.path);
            (self.tell)(self.told.clone());
            if !self.control.go_on() {
                return Ok(false);
            }
            let before = known.remove(&candidate.path);
            match self.read(candidate, before.as_ref())? {
                Read::Unchanged => self.outcome.unchanged += 1,
                Read::Skipped => self.outcome.skipped += 1,
                Read::Added(chunks) => {
                    self.outcome.added += 1;
                    self.outcome.chunks += chunks;
                }
                Read::Changed(chunks) => {
                    self.outcome.changed += 1;
                    self.outcome.chunks += chunks;
                }
                // Put back among those that the index has and the folder has not.
                Read::Gone => known.extend(before.map(|before| (candidate.path.clone(), before))),
                Read::Forgotten => return Ok(false),
            }
            self.told.files_done += 1;
        }
        known.retain(|path, file| {
            file.root == self.scope.root && !listing.unreadable.iter().any(|it| is_below(path, &it.path))
        });
        self.remove(&known)?;
        (self.tell)(self.told.clone());
        Ok(true)
    }

    fn list(&mut self) -> Result<Option<Listing>, DocumentsError> {
        if !self.scope.exists {
            return Ok(Some(Listing::default()));
        }
        let roots = store::roots(&self.inner.writer())?;
        let watched: Vec<String> =
            roots.into_iter().filter(|(root, _)| *root != self.scope.root).map(|(_, path)| path).collect();
        let control = self.control;
        Ok(self.scope.route.list(&watched, || control.go_on()))
    }

    /// Takes in the roots that were met on the walk: what they hold is this root's now.
    fn absorb(&self, listing: &Listing) -> Result<(), DocumentsError> {
        let mut writer = self.inner.writer();
        for inner in &listing.met {
            let transaction = writer.transaction()?;
            if store::has_root(&transaction, self.scope.root)? {
                store::absorb(&transaction, self.scope.root, inner)?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    fn read(&self, candidate: &Candidate, before: Option<&Known>) -> Result<Read, DocumentsError> {
        let path = Path::new(&candidate.path);
        let as_before = before.is_some_and(|before| before.pipeline == PIPELINE && before.stat == candidate.stat);
        let is_known = before.is_some_and(|before| before.sha256.is_some());
        let reason = candidate
            .reason
            .clone()
            .or_else(|| extract::reason_by_name(path).map(str::to_owned))
            .or_else(|| extract::reason_by_size(candidate.stat.size));
        match reason {
            Some(_) if as_before && !is_known => return Ok(Read::Skipped),
            Some(reason) => return self.skip(candidate, candidate.stat, &reason),
            None if as_before && is_known => return Ok(Read::Unchanged),
            None if as_before => return Ok(Read::Skipped),
            None => {}
        }
        let read = extract::open(path).and_then(|(file, metadata)| {
            let stat = sure(Stat::of(&metadata));
            extract::read(file, stat.size).map(|bytes| (bytes, stat))
        });
        match read {
            Ok((bytes, stat)) => self.store(candidate, &bytes, stat, before),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Read::Gone),
            // Whatever the reason, it may be gone the next time.
            Err(error) => {
                let stat = Stat { mtime_ns: UNSURE, ..candidate.stat };
                self.skip(candidate, stat, &format!("cannot be read: {error}"))
            }
        }
    }

    fn store(
        &self,
        candidate: &Candidate,
        bytes: &[u8],
        stat: Stat,
        before: Option<&Known>,
    ) -> Result<Read, DocumentsError> {
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let former = before.and_then(|before| before.sha256);
        if former == Some(sha256) && before.is_some_and(|before| before.pipeline == PIPELINE) {
            store::touch_file(&self.inner.writer(), &candidate.path, stat)?;
            return Ok(Read::Unchanged);
        }
        if let Some(reason) = extract::reason_by_size(bytes.len() as u64) {
            return self.skip(candidate, stat, &reason);
        }
        let document = match extract::extract(Path::new(&candidate.path), bytes) {
            Ok(document) => document,
            Err(reason) => return self.skip(candidate, stat, &reason),
        };
        let passages = chunk::passages(&document);
        let file = NewFile { root: self.scope.root, path: &candidate.path, stat, sha256 };
        let stored = self.write(|transaction| store::replace_file(transaction, &file, &passages))?;
        let count = passages.len() as u64;
        Ok(match (stored, former) {
            (false, _) => Read::Forgotten,
            (true, None) => Read::Added(count),
            (true, Some(_)) => Read::Changed(count),
        })
    }

    fn skip(&self, candidate: &Candidate, stat: Stat, reason: &str) -> Result<Read, DocumentsError> {
        let file = (candidate.path.as_str(), stat);
        let stored = self.write(|transaction| store::skip_file(transaction, self.scope.root, file, reason))?;
        Ok(if stored { Read::Skipped } else { Read::Forgotten })
    }

    /// Does `work` in one transaction, unless the root was forgotten; then false.
    fn write(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<bool, DocumentsError> {
        let mut writer = self.inner.writer();
        let transaction = writer.transaction()?;
        if !store::has_root(&transaction, self.scope.root)? {
            return Ok(false);
        }
        work(&transaction)?;
        transaction.commit()?;
        Ok(true)
    }

    fn remove(&mut self, gone: &HashMap<String, Known>) -> Result<(), DocumentsError> {
        for (path, file) in gone {
            self.write(|transaction| store::remove_file(transaction, path))?;
            self.outcome.removed += u64::from(file.sha256.is_some());
        }
        Ok(())
    }

    /// True if it came to its end.
    fn embed_missing(&mut self) -> Result<bool, DocumentsError> {
        self.told.current = PathBuf::from(&self.scope.target);
        let (mut target, mut after) = (self.expected_generation()?, 0);
        let mut in_vain = 0;
        loop {
            let mut texts = {
                let writer = self.inner.writer();
                if after == 0 {
                    let missing = store::count_missing(&writer, target)?;
                    self.told.passages_total = Some(self.told.passages_done + missing);
                }
                store::missing(&writer, target, after, SORTED)?
            };
            (self.tell)(self.told.clone());
            let Some((last, _)) = texts.last() else { return Ok(true) };
            let last = *last;
            texts.sort_by_key(|(content, text)| (text.len(), *content));
            after = last;
            while !texts.is_empty() {
                if !self.control.go_on() {
                    return Ok(false);
                }
                let batch = texts.split_off(texts.len().saturating_sub(BATCH));
                let (made_by, added) = self.embed(batch)?;
                (self.tell)(self.told.clone());
                if made_by != target {
                    in_vain += u32::from(added == 0);
                    if in_vain > MOST_IN_VAIN {
                        return Err(DocumentsError::Vectors { what: "vectors of ever other generations".into() });
                    }
                    // The model was changed under way, or its generation was not known before: what is missing is missing of it.
                    (target, after) = (made_by, 0);
                    break;
                }
            }
        }
    }

    /// The number of the generation whose vectors are due; 0 if there is none yet.
    fn expected_generation(&self) -> Result<i64, DocumentsError> {
        let writer = self.inner.writer();
        let expected = match self.embedder.generation() {
            Some(generation) => store::generation(&writer, &generation)?.map(|(id, _)| id),
            None => store::latest_generation(&writer)?,
        };
        Ok(expected.unwrap_or(0))
    }

    /// Embeds and stores one batch; the number of the generation that it got and how many vectors are new.
    fn embed(&mut self, batch: Vec<(i64, String)>) -> Result<(i64, u64), DocumentsError> {
        let (contents, texts): (Vec<i64>, Vec<String>) = batch.into_iter().unzip();
        let Embedded { vectors, generation } =
            self.embedder.embed_documents(texts).map_err(DocumentsError::Embedding)?;
        let dims = check(&vectors, contents.len())?;
        let mut writer = self.inner.writer();
        let transaction = writer.transaction()?;
        let (id, known_dims) = store::add_generation(&transaction, &generation, dims)?;
        if known_dims != dims {
            let what = format!("vectors of {dims} numbers where this generation has {known_dims}");
            return Err(DocumentsError::Vectors { what });
        }
        let rows: Vec<(i64, Vec<f32>)> = contents.into_iter().zip(vectors).collect();
        let added = store::add_vectors(&transaction, id, &rows)?;
        transaction.commit()?;
        self.told.passages_done += added;
        self.outcome.embedded += added;
        Ok((id, added))
    }
}

/// The width of `vectors`, if they are `count` honest ones.
fn check(vectors: &[Vec<f32>], count: usize) -> Result<usize, DocumentsError> {
    let wrong = |what: String| Err(DocumentsError::Vectors { what });
    let dims = vectors.first().map_or(0, Vec::len);
    if vectors.len() != count {
        return wrong(format!("{} vectors for {count} texts", vectors.len()));
    }
    if dims == 0 || vectors.iter().any(|vector| vector.len() != dims) {
        return wrong("vectors of no or of different widths".into());
    }
    for vector in vectors {
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        // Half precision and INT8 models stay well within.
        if length.is_nan() || (length - 1.0).abs() > 0.02 {
            return wrong(format!("a vector of length {length} where 1 is due"));
        }
    }
    Ok(dims)
}

/// The size and time to remember: without the time if it is so recent that a further change might not show in it.
fn sure(stat: Stat) -> Stat {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i64);
    if now - stat.mtime_ns < RACY_NS { Stat { mtime_ns: UNSURE, ..stat } } else { stat }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
