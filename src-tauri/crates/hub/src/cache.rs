//! The cache that all programs of the hub share: `models--owner--name/{blobs,snapshots,refs}`.
//!
//! Written so that `huggingface_hub` finds it, and read as that library writes it, its store of blobs for all repositories
//! included. What is not here: removing anything. Links are followed for reading only, and only to places below the cache.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::error::file;
use crate::names::check_revision;
use crate::tree::Tree;
use crate::{Chosen, Digest, Entry, FilePath, HubError, RepositoryId, Snapshot, is_commit};

/// How often a lock of somebody else is looked at.
const LOOKED: Duration = Duration::from_millis(200);

/// What stands behind a blob's name while it is not whole. Not `.incomplete` alone: older Python clients take the length of
/// such a file for what is there.
pub(crate) const INCOMPLETE: &str = ".embedbar.incomplete";

/// The most bytes of a listing that are read.
const MOST_TREE: u64 = 32 << 20;

/// What tells programs that make backups to leave the cache out. The first line is the standard's.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                   # This folder is the shared cache of models of the Hugging Face hub; Embedbar made it.\n\
                   # About this file: https://bford.info/cachedir/\n";

/// What a file of a commit turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Its content is that of the listing.
    Whole,
    /// It is another one, or cut off.
    Damaged,
    /// It is not there.
    Missing,
}

/// The shared cache below one folder.
#[derive(Clone, Debug)]
pub struct HubCache {
    root: PathBuf,
}

impl HubCache {
    /// The cache in a folder, which need not exist yet: [`HubSettings::cache`](crate::HubSettings::cache).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that holds `models--owner--name`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that a branch, a tag or a commit stood for when somebody last asked the hub.
    pub fn commit(&self, repository: &RepositoryId, revision: &str) -> Result<Option<String>, HubError> {
        check_revision(revision)?;
        if is_commit(revision) {
            return Ok(Some(revision.to_owned()));
        }
        let text = fs::read_to_string(self.folder(repository).join("refs").join(revision)).unwrap_or_default();
        Ok(Some(text.trim().to_owned()).filter(|commit| is_commit(commit)))
    }

    /// The folder with the files of a commit.
    pub fn snapshot(&self, repository: &RepositoryId, commit: &str) -> PathBuf {
        self.folder(repository).join("snapshots").join(commit)
    }

    /// The listing of a commit, if somebody left it here.
    pub(crate) fn tree(&self, repository: &RepositoryId, commit: &str) -> Option<Tree> {
        let path = self.inside(&self.folder(repository).join("trees").join(format!("{commit}.json")))?;
        let mut text = Vec::new();
        File::open(path).and_then(|file| file.take(MOST_TREE).read_to_end(&mut text)).ok()?;
        Tree::parse(&text)
    }

    /// Whether the hub has said that a commit has no such file.
    pub fn lacks(&self, repository: &RepositoryId, commit: &str, path: &FilePath) -> bool {
        fs::symlink_metadata(self.folder(repository).join(".no_exist").join(commit).join(path.as_str()))
            .is_ok_and(|found| found.is_file())
    }

    /// Computes the digest of every file of a commit and compares it with the commit's listing. Empty where no listing is
    /// kept. Reads all bytes.
    pub fn verify(&self, repository: &RepositoryId, commit: &str) -> Result<Vec<(Entry, Verdict)>, HubError> {
        let tree = self.tree(repository, commit).unwrap_or_default();
        let judge = |entry: Entry| {
            let verdict = match self.find(repository, commit, &entry.path) {
                None => Verdict::Missing,
                Some(path) if entry.digest.of_file(&path)? == entry.digest => Verdict::Whole,
                Some(_) => Verdict::Damaged,
            };
            Ok((entry, verdict))
        };
        tree.entries(&Chosen::default()).into_iter().map(judge).collect()
    }

    /// The file of a snapshot, if it is there. Whether it is whole is another question.
    pub fn find(&self, repository: &RepositoryId, commit: &str, path: &FilePath) -> Option<PathBuf> {
        let path = self.snapshot(repository, commit).join(path.as_str());
        self.inside(&path).filter(|real| real.is_file()).map(|_| path)
    }

    /// Every file of a snapshot that is there, in order.
    pub(crate) fn files(&self, repository: &RepositoryId, commit: &str) -> Vec<FilePath> {
        let root = self.snapshot(repository, commit);
        let mut found = Vec::new();
        let mut pending = vec![root.clone()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                // Not followed: a link to a folder is nothing that a cache holds.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                } else if let Ok(below) = entry.path().strip_prefix(&root)
                    && let Some(path) = below.to_str().and_then(|path| FilePath::new(path).ok())
                    && self.find(repository, commit, &path).is_some()
                {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// Whether the content is there, in this repository's blobs or in the store for all that these point into.
    pub(crate) fn has(&self, repository: &RepositoryId, digest: Digest, size: u64) -> bool {
        let real = self.inside(&self.blob(repository, digest));
        real.and_then(|real| fs::metadata(real).ok()).is_some_and(|found| found.is_file() && found.len() == size)
    }

    /// A file in the store for all repositories, if `huggingface_hub` has made that store and the file has this size.
    pub(crate) fn shared(&self, hash: &str, size: u64) -> Option<PathBuf> {
        let store = self.root.join("blobs");
        let marker = fs::read_to_string(store.join(".huggingface-shared-blobs")).ok()?;
        let found = self.inside(&store.join(hash.get(..2)?).join(hash)).filter(|_| marker == "1\n")?;
        fs::metadata(&found).is_ok_and(|it| it.is_file() && it.len() == size).then_some(found)
    }

    pub(crate) fn blob(&self, repository: &RepositoryId, digest: Digest) -> PathBuf {
        self.folder(repository).join("blobs").join(digest.to_string())
    }

    /// The lock that `huggingface_hub` takes for the same blob.
    pub(crate) fn lock(&self, repository: &RepositoryId, digest: Digest) -> PathBuf {
        self.root.join(".locks").join(repository.folder()).join(format!("{digest}.lock"))
    }

    /// Makes a file of a snapshot: a link to its blob.
    pub(crate) fn link(
        &self,
        repository: &RepositoryId,
        commit: &str,
        path: &FilePath,
        digest: Digest,
    ) -> Result<(), HubError> {
        let snapshot = self.snapshot(repository, commit);
        fs::create_dir_all(&snapshot).map_err(file("make the folder", &snapshot))?;
        let link = prepare(&snapshot, path)?;
        let target = format!("{}blobs/{digest}", "../".repeat(path.depth() + 2));
        if fs::read_link(&link).is_ok_and(|found| found == Path::new(&target)) {
            return Ok(());
        }
        // Whoever reads meanwhile sees the old one or the new one.
        let fresh = beside(&link, ".embedbar.link");
        let _ = fs::remove_file(&fresh);
        symlink(&target, &fresh).map_err(file("make the link", &fresh))?;
        fs::rename(&fresh, &link).map_err(file("make the link", &link))
    }

    /// Writes down which commit a branch or tag stands for.
    pub(crate) fn pin(&self, repository: &RepositoryId, revision: &str, commit: &str) -> Result<(), HubError> {
        if self.commit(repository, revision)?.as_deref() == Some(commit) {
            return Ok(());
        }
        let refs = self.folder(repository).join("refs");
        fs::create_dir_all(&refs).map_err(file("make the folder", &refs))?;
        let path = prepare(&refs, &FilePath::new(revision)?)?;
        let fresh = beside(&path, ".embedbar.new");
        fs::write(&fresh, commit).map_err(file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(file("write", &path))
    }

    /// Writes down what the hub said of a commit: its listing, and which files that were asked for it does not have. And
    /// marks the cache as one, for programs that make backups.
    pub(crate) fn describe(&self, snapshot: &Snapshot) -> Result<(), HubError> {
        fs::create_dir_all(&self.root).map_err(file("make the folder", &self.root))?;
        let tag = self.root.join("CACHEDIR.TAG");
        match OpenOptions::new().write(true).create_new(true).open(&tag) {
            Ok(mut made) => made.write_all(TAG.as_bytes()).map_err(file("write", &tag))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file("write", &tag)(error)),
        }
        let (repository, commit) = (&snapshot.repository, &snapshot.commit);
        let tree = &snapshot.tree;
        if !tree.is_empty() && tree.is_sound() && self.tree(repository, commit).is_none() {
            let trees = self.folder(repository).join("trees");
            fs::create_dir_all(&trees).map_err(file("make the folder", &trees))?;
            let path = trees.join(format!("{commit}.json"));
            let fresh = beside(&path, ".embedbar.new");
            fs::write(&fresh, tree.text()).map_err(file("write", &fresh))?;
            fs::rename(&fresh, &path).map_err(file("write", &path))?;
        }
        if !snapshot.absent.is_empty() {
            let folder = self.folder(repository).join(".no_exist").join(commit);
            fs::create_dir_all(&folder).map_err(file("make the folder", &folder))?;
            for absent in &snapshot.absent {
                let path = prepare(&folder, absent)?;
                match OpenOptions::new().write(true).create_new(true).open(&path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(file("write", &path)(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn folder(&self, repository: &RepositoryId) -> PathBuf {
        self.root.join(repository.folder())
    }

    /// What a path leads to, unless it leads out of the cache.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let real = fs::canonicalize(path).ok()?;
        real.starts_with(fs::canonicalize(&self.root).ok()?).then_some(real)
    }
}

/// The path with something after its name.
pub(crate) fn beside(path: &Path, after: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(after);
    PathBuf::from(name)
}

/// Makes the folders of a path below a root, none of which may be a link: one could lead out.
pub(crate) fn prepare(root: &Path, path: &FilePath) -> Result<PathBuf, HubError> {
    let mut at = root.to_owned();
    let mut parts = path.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        at.push(part);
        if parts.peek().is_none() {
            break;
        }
        match fs::create_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(file("make the folder", &at))?,
        }
        if !fs::symlink_metadata(&at).map_err(file("look at", &at))?.is_dir() {
            let source = io::Error::other("it is a link or a file, not a folder");
            return Err(HubError::File { action: "make the folder", path: at, source });
        }
    }
    Ok(at)
}

/// Waits until nobody else downloads the same content. The lock ends with the handle.
pub(crate) async fn take(path: &Path) -> Result<File, HubError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(file("make the folder", folder))?;
    }
    let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let lock = lock.map_err(file("open the lock", path))?;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => sleep(LOOKED).await,
            Err(TryLockError::Error(source)) => {
                return Err(HubError::File { action: "take the lock", path: path.to_owned(), source });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn blobs_in_the_store_for_all_repositories_are_found_and_nothing_outside_is() {
        let (folder, outside) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
        let cache = HubCache::new(folder.path());
        let id: RepositoryId = "owner/name".parse().expect("an id");
        let digest = Digest::Sha256([0xab; 32]);
        let blob = cache.blob(&id, digest);
        fs::create_dir_all(blob.parent().expect("a folder")).expect("made");
        fs::create_dir_all(folder.path().join("blobs/cd")).expect("made");
        fs::write(folder.path().join("blobs/cd/cdef"), b"content").expect("written");
        symlink("../../blobs/cd/cdef", &blob).expect("a link");
        assert!(cache.has(&id, digest, 7) && !cache.has(&id, digest, 8));
        let path = FilePath::new("a/model.bin").expect("a path");
        cache.link(&id, COMMIT, &path, digest).expect("linked");
        assert_eq!(fs::read(cache.find(&id, COMMIT, &path).expect("it is there")).expect("read"), b"content");
        assert_eq!(cache.files(&id, COMMIT), std::slice::from_ref(&path));
        fs::write(outside.path().join("secret"), b"content").expect("written");
        fs::remove_file(&blob).expect("removed");
        symlink(outside.path().join("secret"), &blob).expect("a link");
        assert!(!cache.has(&id, digest, 7) && cache.find(&id, COMMIT, &path).is_none());
        assert!(cache.files(&id, COMMIT).is_empty());
    }

    #[test]
    fn a_ref_is_a_commit_or_nothing() {
        let folder = tempdir().expect("a folder");
        let cache = HubCache::new(folder.path());
        let id: RepositoryId = "owner/name".parse().expect("an id");
        cache.pin(&id, "refs/pr/1", COMMIT).expect("written");
        assert_eq!(cache.commit(&id, "refs/pr/1").expect("read").as_deref(), Some(COMMIT));
        assert_eq!(cache.commit(&id, "main").expect("read"), None);
        fs::write(folder.path().join("models--owner--name/refs/main"), "../../..").expect("written");
        assert_eq!(cache.commit(&id, "main").expect("read"), None);
        assert!(cache.commit(&id, "../x").is_err());
    }
}
