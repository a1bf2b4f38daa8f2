//! Gives back what can honestly be given back, and measures what that was.
//!
//! Only what is ours: the worker of an idle model, memory that the allocators hold without using it, what the system keeps of our
//! model files, and (on the disk, listed apart) what broken-off conversions have left. Nothing is evicted from other programs, no
//! other cache of the system is dropped, no file that a person made is touched. What other programs would give back if they were
//! asked is in [`crate::neighbours`].

use std::path::PathBuf;
use std::time::Duration;

use embedbar_contract::{CleanupItem, CleanupReceipt, ModelState};

use embedbar_store::bytes_below;

use crate::app::App;
use crate::conversion;
use crate::observer::worker_pid;

/// The system's own figures are up to a second old.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn run(app: &App, dry_run: bool) -> CleanupReceipt {
    let state = app.lifecycle.state().borrow().clone();
    let before = app.gauge.read(worker_pid(&state));
    let idle = app.lifecycle.waiting() == 0 && !app.jobs.indexing();
    let mut worker = match &state {
        ModelState::Ready { generation, .. } => {
            let name = format!("{} {}", generation.model, generation.precision);
            Some(item(if idle {
                format!("Unload the idle model {name}; the next query loads it again")
            } else {
                format!("Trim the worker of {name}, which is at work and stays loaded")
            }))
        }
        _ => None,
    };
    let mut own = item("Return unused memory of Embedbar's own allocator".to_owned());
    let mut files = (cfg!(target_os = "linux") && idle)
        .then(|| item("Drop what the system keeps of our model files, which counts as available anyway".to_owned()));
    let mut left = item("Remove what broken-off conversions have left".to_owned());
    if dry_run {
        let items = worker.into_iter().chain([own]).chain(files).collect();
        return CleanupReceipt { dry_run, items, disk: vec![left], after: before.clone(), before };
    }
    if worker.is_some() {
        // A worker that has become busy meanwhile is left alone; the receipt then shows that nothing was gained.
        let _done = if idle { app.lifecycle.unload().await } else { app.lifecycle.trim().await };
    }
    embedbar_memory::release_unused();
    if let Some(files) = &mut files {
        let models: Vec<PathBuf> = app.library.models().into_iter().map(|model| model.path).collect();
        let dropping = tokio::task::spawn_blocking(move || {
            models.iter().map(|path| embedbar_memory::drop_cached(path)).collect::<Option<Vec<u64>>>()
        });
        files.freed_bytes = dropping.await.ok().flatten().map(|dropped| dropped.iter().sum());
    }
    let models = app.home.models();
    let sweeping = tokio::task::spawn_blocking(move || {
        let before = bytes_below(&models);
        conversion::sweep(&models);
        before.saturating_sub(bytes_below(&models))
    });
    left.freed_bytes = sweeping.await.ok();
    tokio::time::sleep(SETTLE).await;
    let after = app.gauge.read(worker_pid(&app.lifecycle.state().borrow()));
    if let Some(worker) = &mut worker {
        worker.freed_bytes = before.worker_bytes.map(|bytes| bytes.saturating_sub(after.worker_bytes.unwrap_or(0)));
    }
    own.freed_bytes = before.own_bytes.zip(after.own_bytes).map(|(was, is)| was.saturating_sub(is));
    app.changed.notify_one();
    let items: Vec<CleanupItem> = worker.into_iter().chain([own]).chain(files).collect();
    let disk = vec![left];
    tracing::info!(?items, ?disk, "cleaned up");
    CleanupReceipt { dry_run, items, disk, before, after }
}

fn item(action: String) -> CleanupItem {
    CleanupItem { action, freed_bytes: None }
}
