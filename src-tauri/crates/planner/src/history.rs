//! What this machine has shown so far.

use crate::Candidate;

/// What was measured of one candidate after it was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Of which.
    pub candidate: Candidate,
    /// What it took while it ran.
    pub running_bytes: u64,
    /// A warm query's median, milliseconds, where queries were asked.
    pub query_ms: Option<f64>,
}

/// What everything but Embedbar usually uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UsualUse {
    /// The 90th percentile of the last seven days, without what Embedbar's own worker held.
    pub used_bytes: u64,
}

/// What this machine has shown so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Of each candidate at most one: the last.
    pub measured: Vec<Measured>,
    /// `None` on a first start.
    pub usual_use: Option<UsualUse>,
    /// How fast a conversion reads its source, with all that follows; `None` before the first one.
    pub conversion_bytes_per_second: Option<f64>,
}

impl History {
    /// What was measured of `candidate`.
    pub fn of(&self, candidate: &Candidate) -> Option<&Measured> {
        self.measured.iter().find(|measured| measured.candidate == *candidate)
    }

    pub(crate) fn query_ms(&self, candidate: &Candidate) -> Option<f64> {
        self.of(candidate)?.query_ms
    }
}
