//! Gives back what can honestly be given back, and measures what that was.
//!
//! Only what is ours: the worker of an idle model, and memory that the allocators hold without using it. Nothing is evicted from
//! other programs, no cache of the system is dropped, no file is touched.

use std::time::Duration;

use embedbar_contract::{CleanupItem, CleanupReceipt, ModelState};

use crate::app::App;
use crate::observer::worker_pid;

/// The system's own figures are up to a second old.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn run(app: &App, dry_run: bool) -> CleanupReceipt {
    let state = app.lifecycle.state().borrow().clone();
    let before = app.gauge.read(worker_pid(&state));
    let idle = app.lifecycle.waiting() == 0 && !app.jobs.indexing();
    let mut items = Vec::new();
    if let ModelState::Ready { generation, .. } = &state {
        let name = format!("{} {}", generation.model, generation.precision);
        if idle {
            items.push(item(format!("Unload the idle model {name}; the next query loads it again")));
        } else {
            items.push(item(format!("Trim the worker of {name}, which is at work and stays loaded")));
        }
    }
    items.push(item("Return unused memory of Embedbar's own allocator".to_owned()));
    if dry_run {
        return CleanupReceipt { dry_run, items, after: before.clone(), before };
    }
    if items.len() == 2 {
        // A worker that has become busy meanwhile is left alone; the receipt then shows that nothing was gained.
        let _done = if idle { app.lifecycle.unload().await } else { app.lifecycle.trim().await };
    }
    embedbar_memory::release_unused();
    tokio::time::sleep(SETTLE).await;
    let after = app.gauge.read(worker_pid(&app.lifecycle.state().borrow()));
    if let [worker, _] = items.as_mut_slice() {
        worker.freed_bytes = before.worker_bytes.map(|bytes| bytes.saturating_sub(after.worker_bytes.unwrap_or(0)));
    }
    if let (Some(own), Some(was), Some(is)) = (items.last_mut(), before.own_bytes, after.own_bytes) {
        own.freed_bytes = Some(was.saturating_sub(is));
    }
    app.changed.notify_one();
    tracing::info!(?items, "cleaned up");
    CleanupReceipt { dry_run, items, before, after }
}

fn item(action: String) -> CleanupItem {
    CleanupItem { action, freed_bytes: None }
}
