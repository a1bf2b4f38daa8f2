//! Installations that a person has said yes to and that have not ended: what was being fetched when the program was killed or
//! the machine went down goes on at the next start, and what they had paused stays so. How fast all of them may fetch is kept with
//! them.
//!
//! What is not here: how far they are, which the journals beside the files know.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use embedbar_contract::{DownloadLimit, InstallRequest, JobHold};
use serde::{Deserialize, Serialize};

const VERSION: u64 = 1;

/// The list, and its file.
pub(crate) struct Agreed {
    file: PathBuf,
    content: Mutex<Content>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Content {
    #[serde(default)]
    requests: Vec<Agreement>,
    #[serde(default)]
    limit: DownloadLimit,
}

/// One installation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Agreement {
    /// What was asked for.
    #[serde(flatten)]
    pub(crate) request: InstallRequest,
    /// Whether the person has paused it.
    #[serde(default)]
    pub(crate) held: bool,
    /// The job that is at it, in this process.
    #[serde(skip)]
    job: Option<u64>,
}

impl Agreed {
    /// Reads the list. One that cannot be read is empty: whoever wants something asks again.
    pub(crate) fn open(file: PathBuf) -> Self {
        let content = embedbar_records::read(&file, VERSION).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was being installed cannot be read");
            None
        });
        Self { file, content: Mutex::new(content.unwrap_or_default()) }
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Agreement> {
        self.lock().requests.clone()
    }

    /// One more, unless it is there.
    pub(crate) fn add(&self, request: &InstallRequest, held: bool) {
        let mut content = self.lock();
        if content.requests.iter().all(|other| other.request != *request) {
            content.requests.push(Agreement { request: request.clone(), held, job: None });
            self.save(&content);
        }
    }

    /// The job that is at one of them.
    pub(crate) fn begun(&self, request: &InstallRequest, job: u64) {
        let mut content = self.lock();
        let found = content.requests.iter_mut().find(|other| other.request == *request);
        if let Some(agreement) = found {
            agreement.job = Some(job);
        }
    }

    /// The person has paused what a job is at, or lets it go on.
    pub(crate) fn hold(&self, hold: JobHold) {
        let mut content = self.lock();
        let found = content.requests.iter_mut().find(|other| other.job == Some(hold.id));
        if let Some(agreement) = found.filter(|agreement| agreement.held != hold.held) {
            agreement.held = hold.held;
            self.save(&content);
        }
    }

    /// One has ended.
    pub(crate) fn remove(&self, request: &InstallRequest) {
        let mut content = self.lock();
        let before = content.requests.len();
        content.requests.retain(|other| other.request != *request);
        if content.requests.len() < before {
            self.save(&content);
        }
    }

    /// How fast they may fetch.
    pub(crate) fn limit(&self) -> DownloadLimit {
        self.lock().limit
    }

    /// Another limit from now on.
    pub(crate) fn set_limit(&self, limit: DownloadLimit) {
        let mut content = self.lock();
        if content.limit != limit {
            content.limit = limit;
            self.save(&content);
        }
    }

    fn save(&self, content: &Content) {
        if let Err(error) = embedbar_records::write(&self.file, VERSION, content) {
            tracing::warn!(%error, "what is being installed cannot be written down; a restart will not go on with it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("nobody panics while they hold the list. This is a bug.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_anything_could_be_paused_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("installing.json");
        std::fs::write(&file, r#"{"version":1,"requests":[{"source":"a/b","agreed_bytes":5}]}"#)
            .expect("it is written");
        let agreed = Agreed::open(file);
        let wanted = InstallRequest { source: "a/b".into(), agreed_bytes: Some(5), ..InstallRequest::default() };
        assert_eq!(agreed.all().into_iter().map(|it| (it.request, it.held)).collect::<Vec<_>>(), [(wanted, false)]);
        assert_eq!(agreed.limit(), DownloadLimit::default());
    }

    #[test]
    fn what_has_not_ended_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("installing.json");
        let request = |source: &str| InstallRequest { source: source.to_owned(), ..InstallRequest::default() };
        let agreed = Agreed::open(file.clone());
        for source in ["a/b", "c/d", "a/b"] {
            agreed.add(&request(source), false);
        }
        let kept = || -> Vec<(InstallRequest, bool)> {
            Agreed::open(file.clone()).all().into_iter().map(|it| (it.request, it.held)).collect()
        };
        assert_eq!(kept(), [(request("a/b"), false), (request("c/d"), false)]);
        agreed.begun(&request("c/d"), 7);
        agreed.hold(JobHold { id: 7, held: true });
        assert_eq!(kept(), [(request("a/b"), false), (request("c/d"), true)]);
        agreed.remove(&request("a/b"));
        agreed.hold(JobHold { id: 7, held: false });
        assert_eq!(kept(), [(request("c/d"), false)]);
        let limit = DownloadLimit { bytes_per_second: Some(5) };
        agreed.set_limit(limit);
        assert_eq!(Agreed::open(file.clone()).limit(), limit);
        std::fs::write(&file, "{").expect("it can be written");
        assert!(Agreed::open(file).all().is_empty());
    }
}
