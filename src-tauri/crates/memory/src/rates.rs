//! Turns the system's swap counters, which only grow, into bytes per second.
//!
//! It reads no clock and no counter itself.

use std::time::{Duration, Instant};

/// Readings that follow sooner than this are too close for a rate: one page would look like a storm.
const SHORTEST: Duration = Duration::from_millis(500);

/// Pages read back from and written to swap since the system started.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SwapCounters {
    pub(crate) pages_in: u64,
    pub(crate) pages_out: u64,
}

/// Bytes per second between two readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SwapRates {
    pub(crate) in_bytes_per_second: Option<f64>,
    pub(crate) out_bytes_per_second: Option<f64>,
}

/// The rate at which one process reads its pages back; it begins anew with every process.
#[derive(Debug)]
pub(crate) struct ProcessMeter {
    page_bytes: u64,
    process: Option<u32>,
    meter: RateMeter,
}

impl ProcessMeter {
    pub(crate) fn new(page_bytes: u64) -> Self {
        Self { page_bytes, process: None, meter: RateMeter::new(page_bytes) }
    }

    /// `pages_in` is what `process` has read back since it started.
    pub(crate) fn update(&mut self, taken: Instant, process: Option<u32>, pages_in: Option<u64>) -> Option<f64> {
        if process != self.process {
            (self.process, self.meter) = (process, RateMeter::new(self.page_bytes));
        }
        let counters = pages_in.map(|pages_in| SwapCounters { pages_in, pages_out: 0 });
        self.meter.update(taken, counters).in_bytes_per_second
    }
}

/// Remembers the reading before.
#[derive(Debug)]
pub(crate) struct RateMeter {
    page_bytes: u64,
    base: Option<(Instant, SwapCounters)>,
    last: SwapRates,
}

impl RateMeter {
    pub(crate) fn new(page_bytes: u64) -> Self {
        Self { page_bytes, base: None, last: SwapRates::default() }
    }

    /// The rates since the reading before; `taken` is when `counters` were read. A failed reading forgets the base, so
    /// that the next rate is never stretched over a gap.
    pub(crate) fn update(&mut self, taken: Instant, counters: Option<SwapCounters>) -> SwapRates {
        let Some(now) = counters else {
            self.base = None;
            self.last = SwapRates::default();
            return self.last;
        };
        if let Some((before_taken, before)) = self.base {
            let elapsed = taken.saturating_duration_since(before_taken);
            if elapsed < SHORTEST {
                return self.last;
            }
            let rate = |later: u64, earlier: u64| {
                let pages = later.checked_sub(earlier)?; // a counter that went back was reset
                Some(pages as f64 * self.page_bytes as f64 / elapsed.as_secs_f64())
            };
            self.last = SwapRates {
                in_bytes_per_second: rate(now.pages_in, before.pages_in),
                out_bytes_per_second: rate(now.pages_out, before.pages_out),
            };
        }
        self.base = Some((taken, now));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn update(meter: &mut RateMeter, taken: Instant, pages_in: u64, pages_out: u64) -> SwapRates {
        meter.update(taken, Some(SwapCounters { pages_in, pages_out }))
    }

    #[test]
    fn the_first_reading_has_no_rate_and_the_second_has_bytes_per_second() {
        let start = Instant::now();
        let mut meter = RateMeter::new(4096);
        assert_eq!(update(&mut meter, start, 100, 1000), SwapRates::default());
        let rates = update(&mut meter, start + Duration::from_secs(2), 110, 1000);
        assert_eq!(rates.in_bytes_per_second, Some(20480.0), "10 pages of 4096 bytes in 2 seconds");
        assert_eq!(rates.out_bytes_per_second, Some(0.0));
    }

    #[test]
    fn a_reading_that_follows_at_once_repeats_the_last_rate_and_keeps_the_base() {
        let start = Instant::now();
        let mut meter = RateMeter::new(1);
        update(&mut meter, start, 0, 0);
        let first = update(&mut meter, start + Duration::from_secs(1), 50, 0);
        assert_eq!(update(&mut meter, start + Duration::from_millis(1100), 60, 0), first);
        let third = update(&mut meter, start + Duration::from_secs(2), 80, 0);
        assert_eq!(third.in_bytes_per_second, Some(30.0), "counted from the reading at one second");
    }

    #[test]
    fn a_counter_that_goes_back_or_is_missing_gives_no_rate() {
        let start = Instant::now();
        let mut meter = RateMeter::new(1);
        update(&mut meter, start, 100, 100);
        let rates = update(&mut meter, start + Duration::from_secs(1), 90, 101);
        assert_eq!((rates.in_bytes_per_second, rates.out_bytes_per_second), (None, Some(1.0)));
        assert_eq!(meter.update(start + Duration::from_secs(2), None), SwapRates::default());
        assert_eq!(update(&mut meter, start + Duration::from_secs(3), 500, 500), SwapRates::default());
    }

    proptest! {
        #[test]
        fn rates_are_never_negative_nor_infinite(steps in prop::collection::vec((0_u64..5000, any::<u64>(), any::<u64>()), 0..20)) {
            let mut taken = Instant::now();
            let mut meter = RateMeter::new(16384);
            for (millis, pages_in, pages_out) in steps {
                taken += Duration::from_millis(millis);
                let rates = update(&mut meter, taken, pages_in, pages_out);
                for rate in [rates.in_bytes_per_second, rates.out_bytes_per_second].into_iter().flatten() {
                    prop_assert!(rate >= 0.0 && rate.is_finite());
                }
            }
        }
    }
}
