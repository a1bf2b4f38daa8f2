//! How long queries take when nothing is wrong, and when that is no longer so because memory is paged out.
//!
//! A query is compared only with warm ones of its own candidate and of about its own length. What was slow because of
//! paging never becomes part of the baseline; what became slow for another reason does, so that it is not taken for
//! paging for ever.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::{Candidate, GovernorRules};

/// Warm queries that are remembered for each candidate and length.
const REMEMBERED: usize = 32;

/// Fewer than these are no baseline.
const ENOUGH: usize = 5;

/// The weight of the newest rate in the usual rate of page-ins.
const NEWEST: f64 = 0.1;

/// Of each candidate and length, what warm queries took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baselines {
    known: HashMap<(Candidate, u32), VecDeque<Duration>>,
}

impl Baselines {
    /// A warm query that was not slowed by paging.
    pub(crate) fn add(&mut self, candidate: &Candidate, tokens: u64, elapsed: Duration) {
        let remembered = self.known.entry((candidate.clone(), class(tokens))).or_default();
        if remembered.len() == REMEMBERED {
            remembered.pop_front();
        }
        remembered.push_back(elapsed);
    }

    /// The median of warm queries of about this length; `None` where there are too few.
    pub(crate) fn of(&self, candidate: &Candidate, tokens: u64) -> Option<Duration> {
        let remembered = self.known.get(&(candidate.clone(), class(tokens))).filter(|known| known.len() >= ENOUGH)?;
        let mut sorted: Vec<Duration> = remembered.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// Lengths that are comparable: within a factor of two.
fn class(tokens: u64) -> u32 {
    tokens.max(1).ilog2()
}

/// The usual rate of page-ins, and whether the present one is above it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageIns {
    usual: f64,
}

impl PageIns {
    /// Takes the present rate; gives whether page-ins rise. A rate that is not known says nothing.
    pub(crate) fn rise(&mut self, bytes_per_second: Option<f64>, rules: &GovernorRules) -> bool {
        let Some(rate) = bytes_per_second.filter(|rate| rate.is_finite()) else { return false };
        let rises = rate >= rules.page_in_bytes_per_second && rate >= 2.0 * self.usual;
        if !rises {
            self.usual += NEWEST * (rate - self.usual);
        }
        rises
    }
}
