//! How a refresh is steered from another thread, and what it says about itself.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Cancels or pauses a refresh; clones steer the same one.
#[derive(Clone, Debug, Default)]
pub struct Control {
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    cancelled: bool,
    paused: bool,
}

impl Control {
    /// Neither cancelled nor paused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the refresh to stop after the file or batch it holds; what it has done is kept. Cannot be taken back.
    pub fn cancel(&self) {
        self.change(|state| state.cancelled = true);
    }

    /// Whether [`Control::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).cancelled
    }

    /// Holds the refresh between two files or batches, or lets it go on.
    pub fn set_paused(&self, paused: bool) {
        self.change(|state| state.paused = paused);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.shared.1.notify_all();
    }

    /// Waits while paused; true if the work is to go on.
    pub(crate) fn go_on(&self) -> bool {
        let mut state = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.paused && !state.cancelled {
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.cancelled
    }
}

/// Lets one refresh run at a time; the others wait their turn.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// Holds the turn until it is dropped, by a panic too.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for the turn; `None` if `control` is cancelled first.
    pub(crate) fn take(&self, control: &Control) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if control.is_cancelled() {
                return None;
            }
            // The control has a condition of its own, so the wait for this one is a short one.
            let wait = Duration::from_millis(100);
            taken = self.freed.wait_timeout(taken, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(Turn(self))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.freed.notify_one();
    }
}

/// How far a refresh is. First all files are read (`files_*`), then the missing vectors are made (`passages_*`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Files that were looked at.
    pub files_done: u64,
    /// Files there are; `None` while the folder is being listed.
    pub files_total: Option<u64>,
    /// Different passages whose vector this refresh has made.
    pub passages_done: u64,
    /// Different passages whose vector is missing; `None` while files are being read.
    pub passages_total: Option<u64>,
    /// The file being read, or the folder while vectors are made.
    pub current: PathBuf,
}

/// What a refresh did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Files that are new in the index.
    pub added: u64,
    /// Files whose text was read again because they changed.
    pub changed: u64,
    /// Files that are as they were.
    pub unchanged: u64,
    /// Files that are gone and left the index.
    pub removed: u64,
    /// Files that were left out, each with a reason.
    pub skipped: u64,
    /// Passages of the files that were added or changed.
    pub chunks: u64,
    /// Different passages that got a vector.
    pub embedded: u64,
    /// Whether it stopped early, on request or because its folder was forgotten meanwhile.
    pub cancelled: bool,
}
