//! What the files of a commit were when they were fetched first. A commit of the hub never changes: whoever lists other content for
//! it later, a mirror or somebody on the way, is not believed.
//!
//! What is not here: whether the bytes are those of the listing, which every download verifies.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use embedbar_contract::{Failure, FailureCode};
use embedbar_hub::Snapshot;
use serde::{Deserialize, Serialize};

const VERSION: u64 = 1;

/// The digests, and their file.
pub(crate) struct FirstUse {
    /// `None` where there is one that cannot be read: it is left alone.
    file: Option<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Seen {
    /// By `owner/name@commit` and the file's path.
    commits: BTreeMap<String, BTreeMap<String, String>>,
}

impl FirstUse {
    /// Reads what was written down.
    pub(crate) fn open(file: PathBuf) -> Self {
        match embedbar_records::read(&file, VERSION) {
            Ok(seen) => Self { file: Some(file), seen: Mutex::new(seen.unwrap_or_default()) },
            Err(error) => {
                tracing::warn!(%error, "what was fetched before cannot be read; a changed commit will not be noticed");
                Self { file: None, seen: Mutex::default() }
            }
        }
    }

    /// Refuses a listing with another digest for a file that was fetched before from the same commit.
    pub(crate) fn check(&self, snapshot: &Snapshot) -> Result<(), Failure> {
        let seen = self.lock();
        let Some(known) = seen.commits.get(&key(snapshot)) else { return Ok(()) };
        for file in &snapshot.files {
            let (now, first) = (file.digest.to_string(), known.get(file.path.as_str()));
            // A digest of another kind is another file as well: at one commit a file is kept in one way.
            if let Some(first) = first.filter(|first| **first != now) {
                let (repository, commit) = (&snapshot.repository, &snapshot.commit);
                let message = format!(
                    "`{}` of `{repository}` at the commit `{commit}` was `{first}` when it was fetched first, and is said to be `{now}` now",
                    file.path
                );
                return Err(Failure::new(FailureCode::ModelInvalid, message).hint(
                    "A commit never changes, so one of the two is wrong. Look at what `HF_ENDPOINT` names now and named then. If the first \
                     was wrong, remove the models that came from there and `first-use.json` from Embedbar's folder.",
                ));
            }
        }
        Ok(())
    }

    /// Writes down what has been fetched and verified.
    pub(crate) fn record(&self, snapshot: &Snapshot) {
        let mut seen = self.lock();
        let known = seen.commits.entry(key(snapshot)).or_default();
        let before = known.len();
        for file in &snapshot.files {
            known.entry(file.path.to_string()).or_insert_with(|| file.digest.to_string());
        }
        if known.len() == before {
            return;
        }
        if let Some(Err(error)) = self.file.as_ref().map(|file| embedbar_records::write(file, VERSION, &*seen)) {
            tracing::warn!(%error, "what was fetched cannot be written down; a changed commit will not be noticed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while they hold the digests. This is a bug.")
    }
}

fn key(snapshot: &Snapshot) -> String {
    format!("{}@{}", snapshot.repository, snapshot.commit)
}

#[cfg(test)]
mod tests {
    use embedbar_hub::parsers::listing;

    use super::*;

    /// A listing of one commit whose weights have this digest, as the hub's cache keeps one.
    fn snapshot(sha256: &str, commit: char) -> Snapshot {
        let git = "0a".repeat(20);
        let listed = format!(
            r#"{{"format_version":1,"files":{{"config.json":{{"size":9,"blob_id":"{git}"}},
                "model.safetensors":{{"size":9,"blob_id":"{git}","lfs_sha256":"{sha256}","lfs_size":9}}}}}}"#
        );
        let commit = commit.to_string().repeat(40);
        let repository = "owner/name".parse().expect("an id");
        listing(listed.as_bytes(), &repository, &commit).expect("a listing").expect("a good one")
    }

    #[test]
    fn a_commit_that_changes_is_refused_also_after_a_restart_and_another_commit_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("first-use.json");
        let (first, other) = ("ab".repeat(32), "cd".repeat(32));
        let seen = FirstUse::open(file.clone());
        assert_eq!(seen.check(&snapshot(&other, '1')), Ok(()), "nothing is known of it");
        seen.record(&snapshot(&first, '1'));
        // What was believed once is not written over.
        seen.record(&snapshot(&other, '1'));
        for seen in [seen, FirstUse::open(file.clone())] {
            assert_eq!(seen.check(&snapshot(&first, '1')), Ok(()));
            assert_eq!(seen.check(&snapshot(&other, '2')), Ok(()), "a new commit may have new files");
            let failure = seen.check(&snapshot(&other, '1')).expect_err("it is another file");
            assert_eq!(failure.code, FailureCode::ModelInvalid);
            assert!(failure.message.contains("model.safetensors") && failure.message.contains(&first), "{failure}");
        }
        // The hub says of the same file that git itself keeps it: it would be verified by another digest.
        let listed = format!(
            r#"{{"format_version":1,"files":{{"model.safetensors":{{"size":9,"blob_id":"{}"}}}}}}"#,
            "0a".repeat(20)
        );
        let repository = "owner/name".parse().expect("an id");
        let plain = listing(listed.as_bytes(), &repository, &"1".repeat(40)).expect("a listing").expect("a good one");
        assert!(FirstUse::open(file.clone()).check(&plain).is_err());
        std::fs::write(&file, r#"{"version":9}"#).expect("it can be written");
        let newer = FirstUse::open(file.clone());
        newer.record(&snapshot(&first, '1'));
        let kept = std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(kept, r#"{"version":9}"#, "the file of a newer version is left alone");
    }
}
