//! Gives back what can honestly be given back, and measures what that was.
//!
//! Only what is ours: the worker of an idle model, memory that the allocators hold without using it, what the system keeps of our
//! model files, and (on the disk, listed apart) what broken-off conversions and Core ML's compilations for earlier systems have
//! left. Nothing is evicted from other programs, no
//! other cache of the system is dropped, no file that a person made is touched. What other programs would give back if they were
//! asked is in [`crate::neighbours`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use embedbar_contract::{CleanupItem, CleanupReceipt, ModelState};

use embedbar_store::bytes_below;

use crate::app::App;
use crate::compiled;
use crate::conversion;
use crate::observer::worker_pid;

/// The system's own figures are up to a second old.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// After this time a receipt no longer waits for a worker that is being replaced.
const RECYCLED_WITHIN: Duration = Duration::from_mins(2);

/// What is done with the worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Treatment {
    /// Nobody needs it at the moment.
    Unload,
    /// It is at work and holds more than it should: a new one takes its place.
    Recycle,
    /// It is at work.
    Trim,
}

impl Treatment {
    fn of(idle: bool, has_grown: bool) -> Self {
        if idle {
            Self::Unload
        } else if has_grown {
            Self::Recycle
        } else {
            Self::Trim
        }
    }

    fn sentence(self, name: &str) -> String {
        match self {
            Self::Unload => format!("Unload the idle model {name}; the next query loads it again"),
            Self::Recycle => format!("Replace the worker of {name}, which is at work and has grown, by a new one"),
            Self::Trim => format!("Trim the worker of {name}, which is at work and stays loaded"),
        }
    }

    /// A worker that has become busy meanwhile is left alone; the receipt then shows that nothing was gained.
    async fn carry_out(self, app: &App) {
        let _done = match self {
            Self::Unload => app.lifecycle.unload().await,
            Self::Recycle => recycle(app).await,
            Self::Trim => app.lifecycle.trim().await,
        };
    }
}

pub(crate) async fn run(app: &App, dry_run: bool) -> CleanupReceipt {
    let state = app.lifecycle.state().borrow().clone();
    let before = app.gauge.read(worker_pid(&state));
    let idle = app.lifecycle.waiting() == 0 && !app.jobs.indexing();
    let treatment = Treatment::of(idle, app.governing.has_grown());
    let mut worker = match &state {
        ModelState::Ready { generation, .. } => {
            Some(item(treatment.sentence(&format!("{} {}", generation.model, generation.precision))))
        }
        _ => None,
    };
    let mut own = item("Return unused memory of Embedbar's own allocator".to_owned());
    let mut files = (cfg!(target_os = "linux") && idle)
        .then(|| item("Drop what the system keeps of our model files, which counts as available anyway".to_owned()));
    let mut left = item("Remove what broken-off conversions have left".to_owned());
    let mut downloads = item("Remove downloads that were broken off more than a week ago".to_owned());
    let mut packed = item("Remove the packed matrices of models that are no longer there".to_owned());
    let outdated = outdated_compilations();
    let mut compiled = (!outdated.is_empty())
        .then(|| item("Remove what Core ML has compiled of our models for earlier builds of macOS".to_owned()));
    if dry_run {
        let items = worker.into_iter().chain([own]).chain(files).collect();
        let disk = [left, downloads, packed].into_iter().chain(compiled).collect();
        return CleanupReceipt { dry_run, items, disk, after: before.clone(), before };
    }
    if worker.is_some() {
        treatment.carry_out(app).await;
    }
    embedbar_memory::release_unused();
    if let Some(files) = &mut files {
        // What was packed of a model is as large as itself.
        let models = app.library.models().into_iter().map(|model| model.path).chain([app.home.packed()]);
        let paths: Vec<PathBuf> = models.filter(|path| path.exists()).collect();
        let dropping = tokio::task::spawn_blocking(move || {
            paths.iter().map(|path| embedbar_memory::drop_cached(path)).collect::<Option<Vec<u64>>>()
        });
        files.freed_bytes = dropping.await.ok().flatten().map(|dropped| dropped.iter().sum());
    }
    let (models, packs) = (app.home.models(), app.home.packed());
    let known: Vec<String> = app.library.models().into_iter().map(|model| model.id).collect();
    let (hub, written) = (app.hub.clone(), app.following.written());
    let sweeping = tokio::task::spawn_blocking(move || {
        let broken_off = hub.left_over(&written).into_iter();
        let gone = broken_off.filter(|leftover| leftover.remove().is_ok_and(|gone| gone));
        let fetched: u64 = gone.map(|leftover| leftover.bytes).sum();
        let before = bytes_below(&models);
        conversion::sweep(&models);
        let swept = before.saturating_sub(bytes_below(&models));
        (swept, fetched, remove(&below_but(&packs, &known)), remove(&outdated))
    });
    if let Ok((swept, fetched, unpacked, removed)) = sweeping.await {
        (left.freed_bytes, downloads.freed_bytes, packed.freed_bytes) = (Some(swept), Some(fetched), Some(unpacked));
        if let Some(compiled) = &mut compiled {
            compiled.freed_bytes = Some(removed);
        }
    }
    tokio::time::sleep(SETTLE).await;
    let after = app.gauge.read(worker_pid(&app.lifecycle.state().borrow()));
    if let Some(worker) = &mut worker {
        worker.freed_bytes = before.worker_bytes.map(|bytes| bytes.saturating_sub(after.worker_bytes.unwrap_or(0)));
    }
    own.freed_bytes = before.own_bytes.zip(after.own_bytes).map(|(was, is)| was.saturating_sub(is));
    app.changed.notify_one();
    let items: Vec<CleanupItem> = worker.into_iter().chain([own]).chain(files).collect();
    let disk: Vec<CleanupItem> = [left, downloads, packed].into_iter().chain(compiled).collect();
    tracing::info!(?items, ?disk, "cleaned up");
    CleanupReceipt { dry_run, items, disk, before, after }
}

/// Replaces the worker and waits until the new one answers.
async fn recycle(app: &App) -> bool {
    let mut state = app.lifecycle.state();
    let old = worker_pid(&state.borrow_and_update());
    app.recycle().await;
    let replaced = state.wait_for(|state| match state {
        ModelState::Ready { worker_pid, .. } => Some(*worker_pid) != old,
        ModelState::Failed { .. } => true,
        ModelState::Idle | ModelState::Loading { .. } => false,
    });
    tokio::time::timeout(RECYCLED_WITHIN, replaced).await.is_ok()
}

/// Folders that Core ML has filled for builds of the system that are gone; none where there is no Core ML.
fn outdated_compilations() -> Vec<PathBuf> {
    let caches = std::env::home_dir().map(|home| home.join("Library/Caches"));
    let both = caches.zip(embedbar_memory::system_build());
    both.map(|(caches, build)| compiled::of_other_builds(&caches, &build)).unwrap_or_default()
}

/// What is in a folder under none of these names.
fn below_but(folder: &Path, names: &[String]) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let unknown = entries.filter(|entry| !names.iter().any(|name| entry.file_name().to_str() == Some(name)));
    unknown.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes folders and says how much they held.
fn remove(folders: &[PathBuf]) -> u64 {
    let mut removed = 0;
    for folder in folders {
        let bytes = bytes_below(folder);
        match std::fs::remove_dir_all(folder) {
            Ok(()) => removed += bytes,
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "a cache could not be removed"),
        }
    }
    removed
}

fn item(action: String) -> CleanupItem {
    CleanupItem { action, freed_bytes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_ended_where_nobody_needs_it_and_replaced_where_it_has_grown() {
        for (idle, has_grown, wanted) in [
            (true, true, Treatment::Unload),
            (true, false, Treatment::Unload),
            (false, true, Treatment::Recycle),
            (false, false, Treatment::Trim),
        ] {
            assert_eq!(Treatment::of(idle, has_grown), wanted);
        }
    }
}
