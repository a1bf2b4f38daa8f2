//! Installations that a person has said yes to and that have not ended: what was being fetched when the program was killed or
//! the machine went down goes on at the next start, and what they had paused stays so. How fast all of them may fetch is kept with
//! them.
//!
//! What is not here: how far they are, which the journals beside the files know.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use embedbar_contract::{DownloadLimit, Failure, InstallRequest, Job, JobHold};
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

    /// Has `start` begin an installation and keeps what was asked for with its job. Nothing is kept where it is refused, and what was
    /// kept stays.
    pub(crate) fn begin(
        &self,
        request: &InstallRequest,
        start: impl FnOnce() -> Result<Job, Failure>,
    ) -> Result<Job, Failure> {
        // Locked for all of it: the job may end, or be paused, before this has returned.
        let mut content = self.lock();
        let job = start()?;
        let kept = Agreement { request: request.clone(), held: job.held, job: Some(job.id) };
        // What is left of the last run is the same by its source and name, whatever was left to be fetched then.
        let same = |other: &&mut Agreement| match other.job {
            Some(id) => id == job.id,
            None => (&other.request.source, &other.request.name) == (&request.source, &request.name),
        };
        match content.requests.iter_mut().find(same) {
            // The job is at what was asked for first.
            Some(other) if other.job.is_some() => other.held = job.held,
            Some(other) => *other = kept,
            None => content.requests.push(kept),
        }
        self.save(&content);
        Ok(job)
    }

    /// Has `tell` pause what a job is at, or let it go on, and keeps that.
    pub(crate) fn hold(&self, hold: JobHold, tell: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        // Locked for both: two that ask at once must not leave the one here and the other there.
        let mut content = self.lock();
        tell()?;
        let found = content.requests.iter_mut().find(|other| other.job == Some(hold.id));
        if let Some(agreement) = found.filter(|agreement| agreement.held != hold.held) {
            agreement.held = hold.held;
            self.save(&content);
        }
        Ok(())
    }

    /// What a job was at is over, or nobody wants it any more.
    pub(crate) fn remove(&self, job: u64) {
        let mut content = self.lock();
        let before = content.requests.len();
        content.requests.retain(|other| other.job != Some(job));
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
    use std::path::Path;

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

    fn request(source: &str, agreed_bytes: u64) -> InstallRequest {
        InstallRequest { source: source.to_owned(), agreed_bytes: Some(agreed_bytes), ..InstallRequest::default() }
    }

    fn job(id: u64) -> Job {
        let json = serde_json::json!({"id": id, "kind": "install", "title": "", "state": {"state": "running"}, "unit": "bytes",
            "done": 0, "detail": "", "elapsed_ms": 0.0});
        serde_json::from_value(json).expect("it is a job")
    }

    /// As the next start finds it.
    fn kept(file: &Path) -> Vec<(String, Option<u64>, bool)> {
        let all = Agreed::open(file.to_owned()).all();
        all.into_iter().map(|it| (it.request.source, it.request.agreed_bytes, it.held)).collect()
    }

    #[test]
    fn what_has_not_ended_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("installing.json");
        let agreed = Agreed::open(file.clone());
        agreed.begin(&request("a/b", 5), || Ok(job(1))).expect("it begins");
        agreed.begin(&request("c/d", 6), || Ok(job(2))).expect("it begins");
        // Asked again while the first is at it, with less to be fetched by now: it is one job.
        agreed.begin(&request("a/b", 4), || Ok(job(1))).expect("it is known");
        let refused = Failure::internal("another is at it");
        assert!(agreed.begin(&request("e/f", 7), || Err(refused.clone())).is_err());
        assert_eq!(kept(&file), [("a/b".into(), Some(5), false), ("c/d".into(), Some(6), false)]);
        agreed.hold(JobHold { id: 2, held: true }, || Ok(())).expect("it is told");
        assert!(agreed.hold(JobHold { id: 1, held: true }, || Err(refused)).is_err());
        agreed.remove(1);
        agreed.hold(JobHold { id: 1, held: true }, || Ok(())).expect("it is told");
        assert_eq!(kept(&file), [("c/d".into(), Some(6), true)]);

        let next = Agreed::open(file.clone());
        // Other jobs have these numbers now.
        next.remove(2);
        next.begin(&request("c/d", 3), || Ok(job(1))).expect("it begins");
        assert_eq!(kept(&file), [("c/d".into(), Some(3), false)]);
        // A cancelled one is asked for again: its end does not take the new one along.
        next.begin(&request("c/d", 2), || Ok(job(2))).expect("it begins");
        next.remove(1);
        assert_eq!(kept(&file), [("c/d".into(), Some(2), false)]);
        let limit = DownloadLimit { bytes_per_second: Some(5) };
        next.set_limit(limit);
        assert_eq!(Agreed::open(file.clone()).limit(), limit);
        std::fs::write(&file, "{").expect("it can be written");
        assert!(Agreed::open(file).all().is_empty());
    }
}
