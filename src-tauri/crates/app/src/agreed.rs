//! Installations that a person has said yes to and that have not ended: what was being fetched when the program was killed or
//! the machine went down goes on at the next start.
//!
//! What is not here: how far they are, which the journals beside the files know.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use embedbar_contract::InstallRequest;
use serde::{Deserialize, Serialize};

const VERSION: u64 = 1;

/// The list, and its file.
pub(crate) struct Agreed {
    file: PathBuf,
    requests: Mutex<Requests>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Requests {
    #[serde(default)]
    requests: Vec<InstallRequest>,
}

impl Agreed {
    /// Reads the list. One that cannot be read is empty: whoever wants something asks again.
    pub(crate) fn open(file: PathBuf) -> Self {
        let requests = embedbar_records::read(&file, VERSION).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was being installed cannot be read");
            None
        });
        Self { file, requests: Mutex::new(requests.unwrap_or_default()) }
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<InstallRequest> {
        self.lock().requests.clone()
    }

    /// One more.
    pub(crate) fn add(&self, request: &InstallRequest) {
        let mut requests = self.lock();
        if !requests.requests.contains(request) {
            requests.requests.push(request.clone());
            self.save(&requests);
        }
    }

    /// One has ended.
    pub(crate) fn remove(&self, request: &InstallRequest) {
        let mut requests = self.lock();
        let before = requests.requests.len();
        requests.requests.retain(|other| other != request);
        if requests.requests.len() < before {
            self.save(&requests);
        }
    }

    fn save(&self, requests: &Requests) {
        if let Err(error) = embedbar_records::write(&self.file, VERSION, requests) {
            tracing::warn!(%error, "what is being installed cannot be written down; a restart will not go on with it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().expect("nobody panics while they hold the list. This is a bug.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_ended_is_there_at_the_next_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("installing.json");
        let request = |source: &str| InstallRequest { source: source.to_owned(), ..InstallRequest::default() };
        let agreed = Agreed::open(file.clone());
        for source in ["a/b", "c/d", "a/b"] {
            agreed.add(&request(source));
        }
        assert_eq!(Agreed::open(file.clone()).all(), [request("a/b"), request("c/d")]);
        agreed.remove(&request("a/b"));
        assert_eq!(Agreed::open(file.clone()).all(), [request("c/d")]);
        std::fs::write(&file, "{").expect("it can be written");
        assert!(Agreed::open(file).all().is_empty());
    }
}
