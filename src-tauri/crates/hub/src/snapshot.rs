//! The chosen files of one commit, and how they get into a folder.
//!
//! What is not here: the bytes of one file ([`crate::file`]).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use crate::cache::{INCOMPLETE, beside, prepare, take};
use crate::error::{cleaned, file};
use crate::file::{Source, download};
use crate::journal::Journal;
use crate::names::check_revision;
use crate::tree::Tree;
use crate::{Chosen, Digest, FilePath, HubCache, HubClient, HubError, RepositoryId, Transfer, is_commit};

/// One file of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where it lies in the repository.
    pub path: FilePath,
    /// In bytes.
    pub size: u64,
    /// By which it is verified.
    pub digest: Digest,
}

/// The chosen files of a repository at one commit: what a person is asked about before anything is fetched.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Of which repository.
    pub repository: RepositoryId,
    /// What was asked for: a branch, a tag or a commit.
    pub revision: String,
    /// What it stood for.
    pub commit: String,
    /// In the order of their paths, which differ in more than case.
    pub files: Vec<Entry>,
    /// Every file of the commit, for those who come after us without a network.
    pub(crate) tree: Tree,
    /// Files that were asked for by their names and are not in the repository.
    pub(crate) absent: Vec<FilePath>,
}

/// Where a snapshot goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Into the cache that all programs share.
    Cache(HubCache),
    /// Into a plain folder, which holds the files under their own paths.
    Folder(PathBuf),
}

impl Target {
    /// The folder that everything goes below.
    pub fn folder(&self) -> &Path {
        match self {
            Self::Cache(cache) => cache.root(),
            Self::Folder(folder) => folder,
        }
    }
}

impl Snapshot {
    /// The chosen files of a listing.
    pub(crate) fn of(
        repository: &RepositoryId,
        revision: &str,
        commit: String,
        tree: Tree,
        chosen: &Chosen,
    ) -> Result<Self, HubError> {
        let files = tree.entries(chosen);
        if files.is_empty() {
            let patterns = format!("`{chosen}`");
            return Err(HubError::NothingChosen { repository: repository.to_string(), patterns });
        }
        // Whoever adds them up afterwards need not look.
        if files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.size)).is_none() {
            return Err(HubError::Name {
                text: repository.to_string(),
                reason: "its files would be larger than any disk",
            });
        }
        // One name in two cases is one file on a Mac.
        let mut folded: Vec<String> = files.iter().map(|file| file.path.as_str().to_lowercase()).collect();
        folded.sort();
        for pair in folded.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                return Err(HubError::Name { text: cleaned(one), reason: "two files differ in nothing but case" });
            }
        }
        let absent = chosen.names().filter(|path| !tree.holds(path)).collect();
        Ok(Self { repository: repository.clone(), revision: revision.to_owned(), commit, files, tree, absent })
    }

    /// The same commit with fewer files: those that a person or [`choice`](crate::choice) picked of the listing.
    #[must_use]
    pub fn only(mut self, paths: &[FilePath]) -> Self {
        self.files.retain(|entry| paths.contains(&entry.path));
        self
    }

    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The bytes of the files that are not there yet. Parts of incomplete files count as missing, and a file of the right
    /// size in a plain folder as there; [`HubClient::quote`] knows more.
    pub fn missing(&self, target: &Target) -> u64 {
        self.files.iter().filter(|entry| !self.is_there(entry, target)).map(|entry| entry.size).sum()
    }

    /// Whether nothing of a file would be fetched, as far as its size tells.
    pub(crate) fn is_there(&self, entry: &Entry, target: &Target) -> bool {
        match target {
            Target::Cache(cache) => {
                let shared = || self.tree.xet_hash(&entry.path).and_then(|hash| cache.shared(hash, entry.size));
                cache.has(&self.repository, entry.digest, entry.size) || shared().is_some()
            }
            Target::Folder(folder) => fs::symlink_metadata(folder.join(entry.path.as_str()))
                .is_ok_and(|found| found.is_file() && found.len() == entry.size),
        }
    }

    fn source(&self, entry: &Entry) -> Source {
        Source {
            repository: self.repository.clone(),
            commit: self.commit.clone(),
            path: entry.path.clone(),
            digest: entry.digest,
            size: entry.size,
        }
    }
}

impl HubClient {
    /// Brings a snapshot to its target and returns the folder that holds its files. What is there already is not fetched;
    /// what an earlier run began goes on where it was.
    ///
    /// In the cache a branch or tag points to the new commit when every file is there, not before.
    pub async fn download(
        &self,
        snapshot: &Snapshot,
        target: &Target,
        transfer: &Transfer,
    ) -> Result<PathBuf, HubError> {
        // Both become names of files.
        if !is_commit(&snapshot.commit) {
            return Err(HubError::Name { text: cleaned(&snapshot.commit), reason: "it is not the name of a commit" });
        }
        check_revision(&snapshot.revision)?;
        if let Target::Cache(cache) = target
            && let Err(error) = cache.describe(snapshot)
        {
            // A cache that may only be read still has its files.
            tracing::debug!(%error, "the listing is not kept");
        }
        transfer.begin(0, snapshot.size());
        for entry in &snapshot.files {
            transfer.running().await?;
            tokio::select! {
                biased;
                done = self.bring(snapshot, entry, target, transfer) => done?,
                // Something that waits for somebody else's lock; a download ends itself sooner.
                () = async { transfer.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(3)).await } => {
                    return Err(HubError::Cancelled);
                }
            }
        }
        match target {
            Target::Folder(folder) => Ok(folder.clone()),
            Target::Cache(cache) => {
                cache.pin(&snapshot.repository, &snapshot.revision, &snapshot.commit)?;
                Ok(cache.snapshot(&snapshot.repository, &snapshot.commit))
            }
        }
    }

    /// What of a revision is in the cache, without a request: the folder of its commit, if it holds at least one chosen file,
    /// every file of `needed`, and, where the cache keeps the commit's listing, every chosen file at its full size.
    pub fn cached(
        &self,
        repository: &RepositoryId,
        revision: &str,
        chosen: &Chosen,
        needed: &[FilePath],
    ) -> Result<PathBuf, HubError> {
        let cache = HubCache::new(&self.settings().cache);
        let missing = |what: String| HubError::Offline { what };
        let file_of = |path: &FilePath| format!("`{path}` of `{repository}`");
        let commit = cache.commit(repository, revision)?;
        let commit = commit.ok_or_else(|| missing(format!("`{repository}` at `{revision}`")))?;
        if let Some(path) = needed.iter().find(|path| cache.lacks(repository, &commit, path)) {
            return Err(HubError::EntryNotFound { repository: repository.to_string(), path: path.to_string() });
        }
        if let Some(path) = needed.iter().find(|path| cache.find(repository, &commit, path).is_none()) {
            return Err(missing(file_of(path)));
        }
        // Where the listing is kept, a snapshot that somebody left half done is no model.
        if let Some(tree) = cache.tree(repository, &commit) {
            let whole = |entry: &Entry| {
                let found = cache.find(repository, &commit, &entry.path).and_then(|path| fs::metadata(path).ok());
                found.is_some_and(|found| found.len() == entry.size)
            };
            if let Some(entry) = tree.entries(chosen).iter().find(|entry| !whole(entry)) {
                return Err(missing(file_of(&entry.path)));
            }
        }
        if !cache.files(repository, &commit).iter().any(|path| chosen.wants(path)) {
            return Err(missing(format!("`{repository}` at `{revision}`")));
        }
        Ok(cache.snapshot(repository, &commit))
    }

    async fn bring(
        &self,
        snapshot: &Snapshot,
        entry: &Entry,
        target: &Target,
        transfer: &Transfer,
    ) -> Result<(), HubError> {
        match target {
            Target::Cache(cache) => {
                let repository = &snapshot.repository;
                if !cache.has(repository, entry.digest, entry.size) {
                    let _lock = take(&cache.lock(repository, entry.digest)).await?;
                    // Whoever held it may have brought the file.
                    if !cache.has(repository, entry.digest, entry.size) && !shared(cache, snapshot, entry).await? {
                        let blob = cache.blob(repository, entry.digest);
                        let folder = blob.parent().unwrap_or(&blob);
                        fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
                        let incomplete = incomplete(snapshot, entry, target);
                        download(self, snapshot.source(entry), &incomplete, transfer).await?;
                        publish(&incomplete, &blob)?;
                        return cache.link(repository, &snapshot.commit, &entry.path, entry.digest);
                    }
                }
                transfer.found(entry.size as i64);
                cache.link(repository, &snapshot.commit, &entry.path, entry.digest)
            }
            Target::Folder(folder) => {
                fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
                let path = prepare(folder, &entry.path)?;
                let incomplete = incomplete(snapshot, entry, target);
                let lock = beside(&incomplete, ".lock");
                let _lock = take(&lock).await?;
                if is(&path, entry).await? {
                    transfer.found(entry.size as i64);
                } else {
                    download(self, snapshot.source(entry), &incomplete, transfer).await?;
                    publish(&incomplete, &path)?;
                }
                match fs::remove_file(&lock) {
                    // Whoever had it before removed it; we still hold what it was.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other.map_err(file("remove the lock", &lock)),
                }
            }
        }
    }
}

/// Where a file lies while it is not whole.
pub(crate) fn incomplete(snapshot: &Snapshot, entry: &Entry, target: &Target) -> PathBuf {
    match target {
        Target::Cache(cache) => beside(&cache.blob(&snapshot.repository, entry.digest), INCOMPLETE),
        // Named by its content, so that what is left of another version is not taken for this one.
        Target::Folder(folder) => {
            let after = format!(".{:.12}.incomplete", entry.digest.to_string());
            beside(&folder.join(entry.path.as_str()), &after)
        }
    }
}

/// Takes a file out of the store that all repositories share, if another one has brought it there and it is the file of the
/// listing by its content. A second name for the same bytes: it costs no room, and stays when the store is swept.
async fn shared(cache: &HubCache, snapshot: &Snapshot, entry: &Entry) -> Result<bool, HubError> {
    let hash = snapshot.tree.xet_hash(&entry.path);
    let Some(found) = hash.and_then(|hash| cache.shared(hash, entry.size)) else { return Ok(false) };
    if !is(&found, entry).await? {
        return Ok(false);
    }
    let blob = cache.blob(&snapshot.repository, entry.digest);
    let folder = blob.parent().unwrap_or(&blob);
    fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
    let fresh = beside(&blob, ".embedbar.link");
    let _ = fs::remove_file(&fresh);
    // Where there are no second names, or the store belongs to somebody else, the file is fetched.
    Ok(fs::hard_link(&found, &fresh).and_then(|()| fs::rename(&fresh, &blob)).is_ok())
}

/// Whether a plain file is the one of the listing, by its content.
async fn is(path: &Path, entry: &Entry) -> Result<bool, HubError> {
    let found = fs::symlink_metadata(path);
    if !found.is_ok_and(|found| found.is_file() && found.len() == entry.size) {
        return Ok(false);
    }
    let (path, digest) = (path.to_owned(), entry.digest);
    let found = spawn_blocking(move || digest.of_file(&path)).await;
    Ok(found.map_err(|error| HubError::Client(error.to_string()))?? == entry.digest)
}

/// Gives a whole, verified, synced file its name.
fn publish(incomplete: &Path, path: &Path) -> Result<(), HubError> {
    fs::rename(incomplete, path).map_err(file("rename to", path))?;
    let journal = Journal::beside(incomplete);
    fs::remove_file(&journal).map_err(file("remove the journal", &journal))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(file("sync the folder", folder))
}
