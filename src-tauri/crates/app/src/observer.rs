//! Puts the whole picture together: reads memory every two seconds, and publishes a snapshot whenever something has changed,
//! at most ten times a second. It also tells the jobs when memory is short.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use embedbar_contract::{
    DiskReading, IndexSummary, MachineOverview, MemoryHistory, MemoryPoint, MemoryReading, ModelState, Pressure,
    Snapshot,
};
use embedbar_memory::{Machine, used_bytes};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::governing::Seen;
use crate::jobs::Squeeze;

/// Between two readings of memory. macOS answers more often than about once a second from a cache.
const READING_INTERVAL: Duration = Duration::from_secs(2);
/// Between two snapshots.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);
/// The index is counted again this often while it grows.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// How far back the gauge's history reaches.
const HISTORY: Duration = Duration::from_mins(15);

struct Point {
    at: Instant,
    used_bytes: Option<u64>,
    pressure: Option<Pressure>,
}

/// The machine, its last reading and its history.
pub(crate) struct Gauge {
    machine: Mutex<Box<dyn Machine>>,
    readings: Mutex<(MemoryReading, VecDeque<Point>)>,
}

impl Gauge {
    pub(crate) fn new(machine: Box<dyn Machine>) -> Self {
        Self { machine: Mutex::new(machine), readings: Mutex::default() }
    }

    /// Takes a reading now and remembers it.
    pub(crate) fn read(&self, worker: Option<u32>) -> MemoryReading {
        let reading = self.machine.lock().expect("no reading panics. This is a bug.").read(worker);
        let point = Point { at: Instant::now(), used_bytes: used_bytes(&reading), pressure: reading.pressure };
        let mut readings = self.lock();
        readings.0 = reading.clone();
        readings.1.retain(|point| point.at.elapsed() <= HISTORY);
        readings.1.push_back(point);
        reading
    }

    /// The room on the disk with `folder`, where it is known.
    pub(crate) fn disk(&self, folder: &Path) -> Option<DiskReading> {
        self.machine.lock().expect("no reading panics. This is a bug.").disk(folder)
    }

    /// Who holds memory, and the room on the disk with `folder`. It blocks.
    pub(crate) fn overview(&self, folder: &Path) -> MachineOverview {
        self.machine.lock().expect("no reading panics. This is a bug.").overview(folder)
    }

    pub(crate) fn last(&self) -> MemoryReading {
        self.lock().0.clone()
    }

    pub(crate) fn history(&self) -> MemoryHistory {
        let points = self
            .lock()
            .1
            .iter()
            .map(|point| MemoryPoint {
                age_seconds: point.at.elapsed().as_secs_f64(),
                used_bytes: point.used_bytes,
                pressure: point.pressure,
            })
            .collect();
        MemoryHistory { points }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (MemoryReading, VecDeque<Point>)> {
        self.readings.lock().expect("nobody panics while they hold the readings. This is a bug.")
    }
}

/// The process id of the worker that serves.
pub(crate) fn worker_pid(state: &ModelState) -> Option<u32> {
    match state {
        ModelState::Ready { worker_pid, .. } => Some(*worker_pid),
        _ => None,
    }
}

/// Has the governor look at the newest reading, and carries out what it orders without waiting for it.
async fn govern(app: &Arc<App>, busy: bool) {
    let (running, state) = (app.lifecycle.running(), app.lifecycle.state().borrow().clone());
    let busy = busy || app.lifecycle.waiting() > 0 || running.is_some();
    let looking = app.clone();
    // It looks into the folder of models.
    let orders = tokio::task::spawn_blocking(move || {
        let reading = looking.gauge.last();
        let running = running.map(|running| (running.bytes, running.since.elapsed()));
        let seen = Seen { reading: &reading, state: &state, busy, running };
        looking.governing.tick(&looking.library, &seen)
    });
    for order in orders.await.unwrap_or_default() {
        let app = app.clone();
        tokio::spawn(async move { app.carry_out_order(order).await });
    }
}

/// Runs until the application is dropped or stops.
pub(crate) async fn observe(
    app: std::sync::Weak<App>,
    changed: Arc<Notify>,
    mut state: watch::Receiver<ModelState>,
    snapshots: watch::Sender<Arc<Snapshot>>,
) {
    let interval = {
        let Some(app) = app.upgrade() else { return };
        // A simulated machine that is played fast is read as often by its own time.
        READING_INTERVAL.div_f64(app.governing.world().speed.max(1.0)).max(SNAPSHOT_INTERVAL)
    };
    let mut reading = tokio::time::interval(interval);
    reading.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut index = IndexSummary::default();
    let mut counted: Option<Instant> = None;
    let mut was_busy = false;
    let mut squeeze = Squeeze::default();
    loop {
        let mut take_reading = false;
        tokio::select! {
            _ = reading.tick() => take_reading = true,
            () = changed.notified() => {}
            outcome = state.changed() => if outcome.is_err() { return },
        }
        let Some(app) = app.upgrade() else { return };
        if take_reading {
            let (reader, worker) = (app.clone(), worker_pid(&state.borrow_and_update()));
            // Reading a worker's page tables takes milliseconds.
            if let Ok(reading) = tokio::task::spawn_blocking(move || reader.gauge.read(worker)).await {
                app.jobs.set_memory_is_short(squeeze.is_short(reading.pressure, Instant::now()));
            }
        }
        let busy = app.jobs.indexing();
        if take_reading {
            govern(&app, busy).await;
        }
        if counted.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL && busy) || (was_busy && !busy) || app.index_changed()
        {
            let app = app.clone();
            match tokio::task::spawn_blocking(move || app.index.summary()).await {
                Ok(Ok(summary)) => index = summary,
                Ok(Err(error)) => tracing::warn!(%error, "the index cannot be counted"),
                Err(error) => tracing::warn!(%error, "the index cannot be counted"),
            }
            counted = Some(Instant::now());
        }
        was_busy = busy;
        snapshots.send_replace(Arc::new(app.picture(index.clone())));
        drop(app);
        tokio::time::sleep(SNAPSHOT_INTERVAL).await;
    }
}
