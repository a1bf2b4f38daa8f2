//! The chosen files of one commit, and how they get into a folder.
//!
//! What is not here: the bytes of one file ([`crate::file`]).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use crate::cache::{beside, prepare, take};
use crate::error::{cleaned, file};
use crate::file::{Source, download};
use crate::journal::Journal;
use crate::names::check_revision;
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
}

/// Where a snapshot goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Into the cache that all programs share.
    Cache(HubCache),
    /// Into a plain folder, which holds the files under their own paths.
    Folder(PathBuf),
}

impl Snapshot {
    /// The bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The bytes of the files that are not there yet. Parts of incomplete files count as missing, and a file of the right
    /// size in a plain folder as there.
    pub fn missing(&self, target: &Target) -> u64 {
        let there = |entry: &&Entry| match target {
            Target::Cache(cache) => cache.has(&self.repository, entry.digest, entry.size),
            Target::Folder(folder) => fs::symlink_metadata(folder.join(entry.path.as_str()))
                .is_ok_and(|found| found.is_file() && found.len() == entry.size),
        };
        self.files.iter().filter(|entry| !there(entry)).map(|entry| entry.size).sum()
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

    /// What of a revision is in the cache, without a request: the folder of its commit, if it holds at least one chosen file
    /// and every file of `needed`.
    pub fn cached(
        &self,
        repository: &RepositoryId,
        revision: &str,
        chosen: &Chosen,
        needed: &[FilePath],
    ) -> Result<PathBuf, HubError> {
        let cache = HubCache::new(&self.settings().cache);
        let missing = |what: String| HubError::Offline { what };
        let commit = cache.commit(repository, revision)?;
        let commit = commit.ok_or_else(|| missing(format!("`{repository}` at `{revision}`")))?;
        if let Some(path) = needed.iter().find(|path| cache.find(repository, &commit, path).is_none()) {
            return Err(missing(format!("`{path}` of `{repository}`")));
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
                    if !cache.has(repository, entry.digest, entry.size) {
                        let blob = cache.blob(repository, entry.digest);
                        let folder = blob.parent().unwrap_or(&blob);
                        fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
                        // Not `<etag>.incomplete`: older Python clients take its length for what is there.
                        let incomplete = beside(&blob, ".embedbar.incomplete");
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
                // Named by its content, so that what is left of another version is not taken for this one.
                let incomplete = beside(&path, &format!(".{:.12}.incomplete", entry.digest.to_string()));
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
