//! The list of the containers that we stopped and have to start again, on the disk.
//!
//! It is written whole before the first container is stopped; an entry leaves it only when its container runs again, is gone, or
//! was never stopped. So whatever kills this program, and whenever, the next one finds every container that may have been stopped.
//! Each write replaces the file in one step and is flushed to the disk with its folder. What is not here: stopping and starting
//! ([`Stops`](crate::Stops)).

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use embedbar_records::RecordError;
use serde::{Deserialize, Serialize};

use crate::NeighboursError;

/// The version that this program reads and writes.
const VERSION: u64 = 1;

/// A container that is to be started again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pending {
    /// Its full id.
    pub id: String,
    /// Its name, without control characters.
    pub name: String,
    /// The socket of the engine that it belongs to.
    pub socket: PathBuf,
    /// When it was started, as the engine writes times. What was started first is started first again.
    pub started_at: String,
    /// How far stopping it had come.
    pub stage: Stage,
}

/// How far stopping a container has come.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum Stage {
    /// It was chosen. The engine has not been asked yet.
    Chosen,
    /// The engine was about to be asked, or was. It may still run and stop by itself in a moment.
    Asked {
        /// When, in milliseconds since 1970.
        when_ms: u64,
        /// How long the container may take to stop, in milliseconds.
        grace_ms: u64,
    },
    /// The engine said that it has stopped.
    Stopped,
}

impl Stage {
    /// How much longer a container that was [`Asked`](Self::Asked) and still runs may be about to stop, at the time `now_ms`.
    pub(crate) fn still_stopping(self, now_ms: u64, margin: Duration) -> Duration {
        let Self::Asked { when_ms, grace_ms } = self else { return Duration::ZERO };
        let whole = Duration::from_millis(grace_ms).saturating_add(margin);
        // A clock that was set back must not prolong it.
        let passed = Duration::from_millis(now_ms.saturating_sub(when_ms));
        if now_ms < when_ms { whole } else { whole.saturating_sub(passed) }
    }
}

/// The list as a file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    containers: Vec<Pending>,
}

impl Journal {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What is to be started again. A file that is not there is an empty list.
    pub(crate) fn read(&self) -> Result<Vec<Pending>, NeighboursError> {
        let stored: Option<Stored> = embedbar_records::read(&self.path, VERSION)?;
        let containers = stored.map(|stored| stored.containers).unwrap_or_default();
        // Ids become part of a request's path.
        match containers.iter().find(|pending| !is_id(&pending.id)) {
            Some(pending) => {
                let reason = format!("`{}` is no id of a container", crate::text::shown(&pending.id));
                Err(RecordError::damaged(&self.path, reason).into())
            }
            None => Ok(containers),
        }
    }

    /// Replaces the list; an empty one is no file. When this returns, the disk has it.
    pub(crate) fn write(&self, containers: &[Pending]) -> Result<(), NeighboursError> {
        if containers.is_empty() {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                removed => removed.map_err(NeighboursError::journal("remove", &self.path))?,
            }
        } else {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder).map_err(NeighboursError::journal("make the folder of", &self.path))?;
            }
            let stored = Stored { containers: containers.to_vec() };
            embedbar_records::write(&self.path, VERSION, &stored).map_err(RecordError::from)?;
        }
        // The name is in the folder: without this a power cut could bring the old list back.
        embedbar_records::flush_folder(&self.path).map_err(RecordError::from)?;
        Ok(())
    }
}

/// Whether this is a full id of a container, and nothing that could change the path of a request.
pub(crate) fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn pending(digit: char) -> Pending {
        Pending {
            id: digit.to_string().repeat(64),
            name: format!("container {digit}"),
            socket: "/var/run/docker.sock".into(),
            started_at: "2026-08-01T10:00:00.5Z".into(),
            stage: Stage::Asked { when_ms: 5, grace_ms: 10_000 },
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("below/stopped.json");
        let journal = Journal::new(path.clone());
        assert_eq!(journal.read().expect("it need not be there"), []);
        let list = [pending('a'), Pending { stage: Stage::Stopped, ..pending('b') }];
        journal.write(&list).expect("it can be written");
        assert_eq!(journal.read().expect("it is there"), list);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        journal.write(&[]).expect("it can be removed");
        assert!(!path.exists());
        journal.write(&[]).expect("nothing to do");
        assert_eq!(fs::read_dir(folder.path().join("below")).expect("it is there").count(), 0, "no debris");
    }

    #[test]
    fn a_journal_of_a_newer_version_is_refused_with_a_sentence_and_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("stopped.json");
        let newer = r#"{"version": 2, "containers": "in another form"}"#;
        fs::write(&path, newer).expect("it can be written");
        let error = Journal::new(path.clone()).read().expect_err("it is newer");
        assert!(matches!(error, NeighboursError::JournalNewer { found: 2, known: 1, .. }), "{error}");
        assert!(error.to_string().contains("was written by a newer Embedbar"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), newer);
    }

    #[test]
    fn a_damaged_journal_is_an_error_and_not_an_empty_list() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("stopped.json");
        let wrong_id = serde_json::json!({"version": 1, "containers": [{"id": "../../x", "name": "", "socket": "/s",
            "started_at": "", "stage": {"at": "stopped"}}]});
        for content in ["", "{", "[]", r#"{"version":1}"#, r#"{"version":1,"containers":3}"#, &wrong_id.to_string()] {
            fs::write(&path, content).expect("it can be written");
            let error = Journal::new(path.clone()).read().expect_err(content);
            assert!(matches!(error, NeighboursError::JournalDamaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_container_that_was_asked_to_stop_is_waited_for_no_longer_than_it_may_take() {
        let (stage, margin) = (Stage::Asked { when_ms: 1_000, grace_ms: 10_000 }, Duration::from_secs(5));
        assert_eq!(stage.still_stopping(1_000, margin), Duration::from_secs(15));
        assert_eq!(stage.still_stopping(13_000, margin), Duration::from_secs(3));
        assert_eq!(stage.still_stopping(u64::MAX, margin), Duration::ZERO);
        assert_eq!(stage.still_stopping(0, margin), Duration::from_secs(15), "a clock that was set back");
        assert_eq!(Stage::Chosen.still_stopping(0, margin), Duration::ZERO);
        assert_eq!(Stage::Stopped.still_stopping(0, margin), Duration::ZERO);
    }
}
