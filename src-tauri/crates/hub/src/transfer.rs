//! The handle of a running download: pause, resume, cancel, a cap on its rate, and how far it is.
//!
//! What is not here: a clock of its own. Progress is told when bytes arrive; who shows it looks when it likes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::HubError;

/// Over how many seconds the rate is smoothed.
const SMOOTHED: f64 = 3.0;

/// How often progress is told, at most.
const TOLD: Duration = Duration::from_millis(200);

/// How far a download is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes that are there, those of earlier runs included.
    pub done: u64,
    /// Bytes in all; 0 until it is known.
    pub total: u64,
    /// Bytes per second, smoothed over some seconds; `None` until there is something to smooth.
    pub rate: Option<f64>,
    /// What is left at that rate.
    pub left: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Run,
    Pause,
    Cancel,
}

/// The handle of a download. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Transfer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    wish: watch::Sender<Wish>,
    progress: watch::Sender<Progress>,
    meter: Mutex<Meter>,
    /// When the next byte may come, and how many bytes per second may.
    bucket: Mutex<(Option<Instant>, Option<u64>)>,
}

impl Default for Transfer {
    fn default() -> Self {
        Self::new()
    }
}

impl Transfer {
    /// A handle for a download that has not begun: it runs, without a cap.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            wish: watch::Sender::new(Wish::Run),
            progress: watch::Sender::new(Progress::default()),
            meter: Mutex::new(Meter::default()),
            bucket: Mutex::new((None, None)),
        }))
    }

    /// Breaks the connections off and keeps what they brought. Nothing happens to a cancelled one.
    pub fn pause(&self) {
        self.wish(Wish::Pause);
    }

    /// Goes on where it was.
    pub fn resume(&self) {
        self.wish(Wish::Run);
        lock(&self.0.meter).window = None;
    }

    /// Ends it with [`HubError::Cancelled`]; what is there is kept for the next time.
    pub fn cancel(&self) {
        self.wish(Wish::Cancel);
    }

    /// At most so many bytes per second from now on, over all connections; `None` and 0 are no cap.
    pub fn limit(&self, bytes_per_second: Option<u64>) {
        *lock(&self.0.bucket) = (None, bytes_per_second.filter(|rate| *rate > 0));
    }

    /// How far it is, to be looked at or waited for.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    fn wish(&self, wish: Wish) {
        self.0.wish.send_if_modified(|now| {
            let changes = *now != Wish::Cancel && *now != wish;
            if changes {
                *now = wish;
            }
            changes
        });
    }

    /// Waits while paused.
    pub(crate) async fn running(&self) -> Result<(), HubError> {
        let mut wish = self.0.wish.subscribe();
        let wish = wish.wait_for(|wish| *wish != Wish::Pause).await;
        if wish.is_ok_and(|wish| *wish == Wish::Run) { Ok(()) } else { Err(HubError::Cancelled) }
    }

    /// Ends when it is paused or cancelled.
    pub(crate) async fn interrupted(&self) {
        // An error would mean that the sender, which we hold, is gone.
        let _ = self.0.wish.subscribe().wait_for(|wish| *wish != Wish::Run).await;
    }

    /// Ends when it is cancelled.
    pub(crate) async fn cancelled(&self) {
        let _ = self.0.wish.subscribe().wait_for(|wish| *wish == Wish::Cancel).await;
    }

    /// Waits until the cap allows so many bytes more.
    pub(crate) async fn allow(&self, bytes: u64) {
        let until = {
            let mut bucket = lock(&self.0.bucket);
            let (next, Some(rate)) = *bucket else { return };
            let now = Instant::now();
            let next = next.map_or(now, |next| next.max(now)) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            bucket.0 = Some(next);
            next
        };
        sleep_until(until).await;
    }

    /// A new whole, of which some is there.
    pub(crate) fn begin(&self, done: u64, total: u64) {
        let mut meter = lock(&self.0.meter);
        *meter = Meter { done, total, ..Meter::default() };
        self.0.progress.send_replace(meter.progress());
    }

    /// Bytes that were there already turn up, or (negative) turn out to be no good.
    pub(crate) fn found(&self, bytes: i64) {
        let mut meter = lock(&self.0.meter);
        meter.done = meter.done.saturating_add_signed(bytes);
        self.0.progress.send_replace(meter.progress());
    }

    /// Bytes have come.
    pub(crate) fn received(&self, bytes: u64) {
        let mut meter = lock(&self.0.meter);
        if meter.add(bytes, Instant::now()) {
            self.0.progress.send_replace(meter.progress());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What stands behind these locks is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts bytes and smooths their rate.
#[derive(Debug, Default)]
struct Meter {
    done: u64,
    total: u64,
    rate: Option<f64>,
    /// Since when bytes are gathered for the next reading, and how many.
    window: Option<(Instant, u64)>,
}

impl Meter {
    /// Whether there is something to tell.
    fn add(&mut self, bytes: u64, now: Instant) -> bool {
        self.done += bytes;
        let (since, gathered) = self.window.get_or_insert((now, 0));
        *gathered += bytes;
        let passed = now.duration_since(*since);
        if passed < TOLD {
            return self.done >= self.total;
        }
        let seconds = passed.as_secs_f64();
        let reading = *gathered as f64 / seconds;
        let kept = (-seconds / SMOOTHED).exp();
        self.rate = Some(self.rate.map_or(reading, |rate| rate * kept + reading * (1.0 - kept)));
        self.window = Some((now, 0));
        true
    }

    fn progress(&self) -> Progress {
        let left = self.total.saturating_sub(self.done) as f64;
        let time = |rate: f64| Duration::try_from_secs_f64(left / rate).ok();
        Progress { done: self.done, total: self.total, rate: self.rate, left: self.rate.and_then(time) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_smoothed_and_tells_the_time_left() {
        let start = Instant::now();
        let mut meter = Meter { total: 100_000, ..Meter::default() };
        let mut told = 0;
        for step in 0..=50u64 {
            told += u32::from(meter.add(100, start + Duration::from_millis(step * 100)));
        }
        let progress = meter.progress();
        assert_eq!((progress.done, told), (5100, 25));
        let rate = progress.rate.expect("a rate");
        assert!((rate - 1000.0).abs() < 150.0, "{rate}");
        let left = progress.left.expect("a time").as_secs_f64();
        assert!((left - 94_900.0 / rate).abs() < 1e-3, "{left}");
        meter.add(0, start + Duration::from_mins(1));
        assert!(meter.progress().rate.expect("a rate") < 1.0, "a stall is seen");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cap_holds_over_all_who_share_it() {
        let transfer = Transfer::new();
        transfer.limit(Some(1000));
        let start = Instant::now();
        tokio::join!(transfer.allow(500), transfer.allow(1500));
        transfer.allow(1000).await;
        assert_eq!(start.elapsed().as_millis(), 3000);
        transfer.limit(None);
        transfer.allow(1 << 40).await;
        assert_eq!(start.elapsed().as_millis(), 3000);
    }

    #[tokio::test]
    async fn what_is_cancelled_stays_so() {
        let transfer = Transfer::new();
        transfer.pause();
        transfer.interrupted().await;
        transfer.resume();
        transfer.running().await.expect("it runs");
        transfer.cancel();
        transfer.resume();
        assert!(matches!(transfer.running().await, Err(HubError::Cancelled)));
    }
}
