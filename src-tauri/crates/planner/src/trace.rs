//! Simulated machines: days of a Mac as small committed files, played by time.
//!
//! A trace says what everything but Embedbar uses, at some moments; between them it is interpolated. What a worker
//! holds comes on top, so that a step down relieves the machine as it would a real one: [`TraceMachine::reading`]
//! derives pressure and swapping from how full that makes it. Scaled by a factor, a small model sees a large model's
//! day.
//!
//! The form: lines of words. `total 16 GB`, then one line a moment with seconds, used GB, the pressure that the others
//! alone cause, and the MB that they alone page in per second; `#` begins a comment. What is not here: a clock, and the
//! memory crate's trait, behind which the simulation puts a player.

use std::sync::OnceLock;
use std::time::Duration;

use embedbar_contract::{MemoryReading, Pressure};

use crate::text;

/// The committed traces by name.
const BUILTIN: [(&str, &str); 5] = [
    ("8gb-browser", include_str!("../traces/8gb-browser.txt")),
    ("16gb-docker", include_str!("../traces/16gb-docker.txt")),
    ("16gb-full", include_str!("../traces/16gb-full.txt")),
    ("32gb-build", include_str!("../traces/32gb-build.txt")),
    ("64gb-calm", include_str!("../traces/64gb-calm.txt")),
];

/// Less available than this share of all memory, and a simulated machine reports WARN.
const WARN_BELOW: f64 = 0.06;

/// More wanted than there is by this share of all memory, and it reports CRITICAL.
const CRITICAL_BEYOND: f64 = 0.05;

/// What a simulated machine that has less than is wanted moves to and from swap: 40 MB/s on a machine of 16 GB.
const SWAP_SHARE_PER_SECOND: f64 = 40.0 / 16_384.0;

/// What can be wrong with a trace.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// A line is not of the form.
    #[error("line {line} of the trace, `{text}`: {problem}")]
    Malformed {
        /// The line's number, from 1.
        line: usize,
        /// What it says.
        text: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// It has no total or no moment.
    #[error("the trace has no {0}")]
    Incomplete(&'static str),
}

/// A recorded day.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    total_bytes: f64,
    /// In ascending order; not empty.
    moments: Vec<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    at: f64,
    used_bytes: f64,
    pressure: Pressure,
    page_in: f64,
}

impl Trace {
    /// Reads a trace.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut total_bytes = None;
        let mut moments: Vec<Moment> = Vec::new();
        for (number, whole) in text.lines().enumerate() {
            let line = whole.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = |problem| TraceError::Malformed { line: number + 1, text: whole.to_owned(), problem };
            let quantity = |word: &str| {
                let number = word.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
                number.ok_or_else(|| wrong("a quantity is no number from 0"))
            };
            match words.as_slice() {
                [] => {}
                ["total", amount, "GB"] => {
                    total_bytes = Some(quantity(amount)? * gigabyte()).filter(|total| *total > 0.0);
                }
                [at, used, pressure, page_in] => {
                    let moment = Moment {
                        at: quantity(at)?,
                        used_bytes: quantity(used)? * gigabyte(),
                        pressure: match *pressure {
                            "normal" => Pressure::Normal,
                            "warn" => Pressure::Warn,
                            "critical" => Pressure::Critical,
                            _ => return Err(wrong("the pressure is none of normal, warn, critical")),
                        },
                        page_in: quantity(page_in)? * f64::from(1 << 20),
                    };
                    if moments.last().is_some_and(|last| last.at >= moment.at) {
                        return Err(wrong("it is not later than the line before"));
                    }
                    moments.push(moment);
                }
                _ => return Err(wrong("it is neither `total N GB` nor seconds, used GB, pressure, paged-in MB/s")),
            }
        }
        let total_bytes = total_bytes.ok_or(TraceError::Incomplete("total"))?;
        if moments.is_empty() {
            return Err(TraceError::Incomplete("moment"));
        }
        Ok(Self { total_bytes, moments })
    }

    /// The committed trace called `name`.
    pub fn builtin(name: &str) -> Option<&'static Self> {
        static PARSED: OnceLock<Vec<Trace>> = OnceLock::new();
        let parsed = PARSED.get_or_init(|| {
            let parse = |(name, text): &(&str, &str)| {
                Self::parse(text).unwrap_or_else(|error| panic!("`{name}`: {error}. This is a bug."))
            };
            BUILTIN.iter().map(parse).collect()
        });
        let place = BUILTIN.iter().position(|(known, _)| *known == name)?;
        parsed.get(place)
    }

    /// The names of the committed traces.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILTIN.iter().map(|(name, _)| *name)
    }

    /// How long it is; its last moment stays for ever.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.moments.last().map_or(0.0, |last| last.at))
    }

    /// The machine's memory.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes as u64
    }

    /// The others at a time: quantities interpolated, the pressure that of the moment before.
    fn others(&self, at: Duration) -> Moment {
        let at = at.as_secs_f64();
        let next = self.moments.partition_point(|moment| moment.at <= at);
        let before = self.moments[next.saturating_sub(1)];
        let Some(after) = self.moments.get(next).filter(|_| next > 0) else { return Moment { at, ..before } };
        let share = (at - before.at) / (after.at - before.at);
        let between = |before: f64, after: f64| before + share * (after - before);
        Moment {
            at,
            used_bytes: between(before.used_bytes, after.used_bytes),
            page_in: between(before.page_in, after.page_in),
            pressure: before.pressure,
        }
    }
}

fn gigabyte() -> f64 {
    f64::from(1 << 30)
}

/// Plays a trace as a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceMachine {
    trace: Trace,
    factor: f64,
}

impl TraceMachine {
    /// A machine as large as the trace says.
    pub fn new(trace: Trace) -> Self {
        Self { trace, factor: 1.0 }
    }

    /// The same day on a machine that is `factor` times as large.
    ///
    /// # Panics
    /// Where `factor` is not a positive number.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        assert!(factor > 0.0 && factor.is_finite(), "`{factor}` is no size. This is a bug.");
        Self { factor, ..self }
    }

    /// The factor that makes a model whose widest precision needs `widest_bytes` take five sixteenths of the machine,
    /// as 5 GB do of 16: idle that fits, beside Docker and an editor it does not.
    pub fn factor_for(trace: &Trace, widest_bytes: u64) -> f64 {
        widest_bytes as f64 * 16.0 / 5.0 / trace.total_bytes
    }

    /// How much larger than the trace's own the machine is; the planner's thresholds are scaled by the same.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// The reading at a time, where a worker holds `held_bytes`; `None` where there is no worker.
    pub fn reading(&self, at: Duration, held_bytes: Option<u64>) -> MemoryReading {
        let others = self.trace.others(at);
        let (total, used) = (self.trace.total_bytes * self.factor, others.used_bytes * self.factor);
        let left = total - used - held_bytes.unwrap_or(0) as f64;
        let derived = if left < -CRITICAL_BEYOND * total {
            Pressure::Critical
        } else if left < WARN_BELOW * total {
            Pressure::Warn
        } else {
            Pressure::Normal
        };
        let swaps = self.swap_rate(left);
        MemoryReading {
            total_bytes: Some(total as u64),
            available_bytes: Some(left.max(0.0) as u64),
            pressure: Some(derived.max(others.pressure)),
            swap_used_bytes: Some((-left).max(0.0) as u64),
            swap_in_bytes_per_second: Some(swaps),
            swap_out_bytes_per_second: Some(swaps),
            own_bytes: None,
            worker_bytes: held_bytes,
            worker_resident_bytes: held_bytes,
            worker_page_in_bytes_per_second: held_bytes.map(|_| self.page_ins_per_second(at, held_bytes)),
            simulated: None,
        }
    }

    /// Bytes that are paged in per second at a time, where a worker holds `held_bytes`.
    pub fn page_ins_per_second(&self, at: Duration, held_bytes: Option<u64>) -> f64 {
        let others = self.trace.others(at);
        let left = self.trace.total_bytes - others.used_bytes;
        let left = left * self.factor - held_bytes.unwrap_or(0) as f64;
        others.page_in * self.factor + self.swap_rate(left)
    }

    fn swap_rate(&self, left: f64) -> f64 {
        if left < 0.0 { SWAP_SHARE_PER_SECOND * self.trace.total_bytes * self.factor } else { 0.0 }
    }

    /// A line about a time, such as `16.0 GB, the others use 10.2 GB`.
    pub fn describe(&self, at: Duration) -> String {
        let scaled = |bytes: f64| text::bytes((bytes * self.factor) as u64);
        format!("{}, the others use {}", scaled(self.trace.total_bytes), scaled(self.trace.others(at).used_bytes))
    }
}
