//! How fast bytes go by: the rate over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(5);

/// A rate over less than this says nothing.
const LEAST: Duration = Duration::from_millis(500);

/// Counts of bytes and when they were told.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    points: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// Takes a new count into account.
    pub(crate) fn record(&mut self, bytes: u64, now: Instant) {
        // Another phase counts from the beginning.
        if self.points.back().is_some_and(|(_, before)| bytes < *before) {
            self.points.clear();
        }
        self.points.push_back((now, bytes));
        // The newest of the points that are too old stays: the window then reaches over its whole length.
        while self.points.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.points.pop_front();
        }
    }

    /// Forgets everything, as at a pause.
    pub(crate) fn clear(&mut self) {
        self.points.clear();
    }

    /// Bytes per second until now; `None` until there is enough to go by.
    pub(crate) fn rate(&self, now: Instant) -> Option<f64> {
        let ((began, first), (_, last)) = (self.points.front()?, self.points.back()?);
        let took = now.duration_since(*began);
        (took >= LEAST).then(|| last.saturating_sub(*first) as f64 / took.as_secs_f64())
    }
}

/// Seconds that `left` bytes take at a rate; `None` where nothing moves.
pub(crate) fn seconds_for(left: u64, rate: f64) -> Option<f64> {
    (rate > 0.0).then(|| left as f64 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_falls_while_nothing_moves() {
        let (start, mut pace) = (Instant::now(), Pace::default());
        let at = |milliseconds: u64| start + Duration::from_millis(milliseconds);
        pace.record(0, at(0));
        assert_eq!(pace.rate(at(0)), None);
        // Slow for ten seconds, then a hundred times as fast for ten.
        for second in 1..=10 {
            pace.record(second * 10, at(second * 1000));
        }
        assert_eq!(pace.rate(at(10_000)), Some(10.0));
        for second in 11..=20 {
            pace.record(100 + (second - 10) * 1000, at(second * 1000));
        }
        assert_eq!(pace.rate(at(20_000)), Some(1000.0), "the slow start is forgotten");
        assert_eq!(pace.rate(at(25_000)), Some(500.0));
        pace.record(7, at(25_000));
        assert_eq!(pace.rate(at(25_000)), None, "a new phase begins");
        pace.record(8, at(26_000));
        assert_eq!(pace.rate(at(26_000)), Some(1.0));
        pace.clear();
        assert_eq!(pace.rate(at(26_000)), None);
    }

    #[test]
    fn what_stands_still_has_no_end() {
        assert_eq!(seconds_for(500, 250.0), Some(2.0));
        assert_eq!(seconds_for(500, 0.0), None);
    }
}
