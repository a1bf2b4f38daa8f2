//! Long work, one piece at a time, on a thread of its own.
//!
//! A job is known from the moment it is asked for; it can be cancelled at any time, paused with all bulk work, and is shown for
//! a while after it has ended. Jobs do not survive the process: what they had done is kept by the index, and the next start
//! goes on from there.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use embedbar_contract::{Failure, FailureCode, Job, JobId, JobKind, JobState, JobUnit};
use embedbar_documents::{Control, Index, Outcome};
use tokio::sync::Notify;

use crate::embedder::BulkEmbedder;

/// Ended jobs that are still shown.
const KEPT_ENDED: usize = 8;

struct Entry {
    job: Job,
    control: Control,
    started: Instant,
    ended: Option<Duration>,
}

#[derive(Default)]
struct Registry {
    last_id: u64,
    paused: bool,
    entries: VecDeque<Entry>,
}

/// The jobs of an owner.
pub(crate) struct Jobs {
    registry: Arc<Mutex<Registry>>,
    queue: mpsc::Sender<(u64, PathBuf)>,
    changed: Arc<Notify>,
}

impl Jobs {
    /// Starts the thread. `changed` is told whenever a job moves; the thread ends with the last handle on the queue.
    pub(crate) fn start(index: Index, embedder: BulkEmbedder, changed: Arc<Notify>) -> Result<Self, Failure> {
        let registry = Arc::new(Mutex::new(Registry::default()));
        let (queue, inbox) = mpsc::channel::<(u64, PathBuf)>();
        let (shared, told) = (registry.clone(), changed.clone());
        thread::Builder::new()
            .name("jobs".to_owned())
            .spawn(move || {
                for (id, path) in inbox {
                    run(&shared, &told, &index, &embedder, id, &path);
                }
            })
            .map_err(|error| Failure::internal(format!("a thread cannot be started: {error}")))?;
        Ok(Self { registry, queue, changed })
    }

    /// Queues the indexing of `path`; a job for the same path that has not ended is returned instead of a second one.
    pub(crate) fn index(&self, path: PathBuf) -> Result<Job, Failure> {
        let mut registry = lock(&self.registry);
        let title = path.display().to_string();
        if let Some(entry) = registry.entries.iter().find(|entry| entry.ended.is_none() && entry.job.title == title) {
            return Ok(entry.snapshot());
        }
        registry.last_id += 1;
        let control = Control::default();
        control.set_paused(registry.paused);
        let job = Job {
            id: registry.last_id,
            kind: JobKind::Index,
            title,
            state: if registry.paused { JobState::Paused } else { JobState::Running },
            unit: JobUnit::Files,
            done: 0,
            total: None,
            detail: "waiting to start".to_owned(),
            elapsed_ms: 0.0,
        };
        self.queue
            .send((job.id, path))
            .map_err(|_| Failure::internal("the thread that indexes has ended; restart Embedbar"))?;
        registry.entries.push_front(Entry { job: job.clone(), control, started: Instant::now(), ended: None });
        let mut ended = 0;
        registry.entries.retain(|entry| {
            ended += usize::from(entry.ended.is_some());
            entry.ended.is_none() || ended <= KEPT_ENDED
        });
        drop(registry);
        self.changed.notify_one();
        Ok(job)
    }

    pub(crate) fn cancel(&self, id: JobId) -> Result<(), Failure> {
        let mut registry = lock(&self.registry);
        let entry = registry.entries.iter_mut().find(|entry| entry.job.id == id.id).ok_or_else(|| {
            Failure::new(FailureCode::NotFound, format!("there is no job {}", id.id))
                .hint("It may have ended long ago.")
        })?;
        if entry.ended.is_none() {
            entry.control.cancel();
            entry.job.state = JobState::Cancelling;
        }
        drop(registry);
        self.changed.notify_one();
        Ok(())
    }

    pub(crate) fn cancel_all(&self) {
        for entry in &mut lock(&self.registry).entries {
            entry.control.cancel();
        }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        let mut registry = lock(&self.registry);
        registry.paused = paused;
        for entry in registry.entries.iter_mut().filter(|entry| entry.ended.is_none()) {
            entry.control.set_paused(paused);
            if entry.job.state != JobState::Cancelling {
                entry.job.state = if paused { JobState::Paused } else { JobState::Running };
            }
        }
        drop(registry);
        self.changed.notify_one();
    }

    pub(crate) fn paused(&self) -> bool {
        lock(&self.registry).paused
    }

    pub(crate) fn busy(&self) -> bool {
        lock(&self.registry).entries.iter().any(|entry| entry.ended.is_none())
    }

    /// Newest first.
    pub(crate) fn snapshot(&self) -> Vec<Job> {
        lock(&self.registry).entries.iter().map(Entry::snapshot).collect()
    }
}

impl Entry {
    fn snapshot(&self) -> Job {
        let elapsed = self.ended.unwrap_or_else(|| self.started.elapsed());
        Job { elapsed_ms: elapsed.as_secs_f64() * 1e3, ..self.job.clone() }
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().expect("nobody panics while they hold the jobs. This is a bug.")
}

fn run(
    registry: &Mutex<Registry>,
    changed: &Notify,
    index: &Index,
    embedder: &BulkEmbedder,
    id: u64,
    path: &std::path::Path,
) {
    let edit = |edit: &mut dyn FnMut(&mut Entry)| {
        if let Some(entry) = lock(registry).entries.iter_mut().find(|entry| entry.job.id == id) {
            edit(entry);
        }
        changed.notify_one();
    };
    let Some(control) =
        lock(registry).entries.iter().find(|entry| entry.job.id == id).map(|entry| entry.control.clone())
    else {
        return;
    };
    edit(&mut |entry| entry.started = Instant::now());
    // The index is told which generation to make; an idle model is woken for that.
    let woken = embedder.runtime.block_on(embedder.lifecycle.wake()).map(drop);
    let mut files = (0, None);
    let outcome = woken.and_then(|()| {
        index
            .refresh(path, embedder, &control, &mut |progress| {
                edit(&mut |entry| {
                    // Passages are counted once all files are read.
                    (entry.job.unit, entry.job.done, entry.job.total) = match progress.passages_total {
                        Some(total) => (JobUnit::Passages, progress.passages_done, Some(total)),
                        None => (JobUnit::Files, progress.files_done, progress.files_total),
                    };
                    entry.job.detail = progress.current.display().to_string();
                    files = (progress.files_done, progress.files_total);
                });
            })
            .map_err(Failure::from)
    });
    match &outcome {
        Ok(outcome) => tracing::info!(path = %path.display(), summary = summary(outcome), "indexed"),
        Err(failure) => tracing::warn!(path = %path.display(), %failure, "indexing failed"),
    }
    edit(&mut |entry| {
        entry.ended = Some(entry.started.elapsed());
        (entry.job.unit, entry.job.done, entry.job.total) = (JobUnit::Files, files.0, files.1);
        match &outcome {
            Ok(outcome) => {
                entry.job.detail = summary(outcome);
                entry.job.state = if outcome.cancelled { JobState::Cancelled } else { JobState::Done };
            }
            Err(failure) => {
                entry.job.detail.clone_from(&failure.message);
                entry.job.state = JobState::Failed { failure: failure.clone() };
            }
        }
    });
}

fn summary(outcome: &Outcome) -> String {
    let Outcome { added, changed, unchanged, removed, skipped, chunks, .. } = outcome;
    format!(
        "{added} added, {changed} changed, {unchanged} unchanged, {removed} removed, {skipped} skipped, {chunks} passages"
    )
}
