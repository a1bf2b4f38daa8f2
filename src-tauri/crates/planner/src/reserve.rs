//! What stays free: not only for now, but for what this machine usually grows to.

use std::fmt;

use crate::{History, Reading, System, Thresholds, text};

/// The least that stays free is never more than this part of all memory.
const LEAST_DIVISOR: u64 = 4;

/// Why so much stays free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReserveCause {
    /// It is the least on any machine.
    Least,
    /// It is a share of all memory.
    Share {
        /// In percent.
        percent: u32,
    },
    /// Everything else usually grows to this: the 90th percentile of the last seven days.
    UsualUse {
        /// What it grows to.
        used_bytes: u64,
    },
    /// The machine's habits are not known, and it is small.
    FirstStart {
        /// What everything else is assumed to use.
        working_set_bytes: u64,
    },
}

/// What stays free.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reserve {
    /// How much.
    pub bytes: u64,
    /// Why.
    pub cause: ReserveCause,
}

impl Reserve {
    /// The largest of the rules; `None` where the machine's memory is not known.
    ///
    /// What everything else uses now is all memory minus what is available and what the present model holds.
    pub fn of(reading: &Reading, history: &History, thresholds: &Thresholds) -> Option<Self> {
        let total = reading.memory.total_bytes?;
        let used = total.saturating_sub(reading.room_bytes()?);
        let always = Self::always(total, thresholds);
        let growth = match history.usual_use {
            Some(usual) => Some((usual.used_bytes, ReserveCause::UsualUse { used_bytes: usual.used_bytes })),
            // A person's laptop is filled by editors and browsers; of a server or a container nobody knows.
            None if reading.system != System::Linux && total <= thresholds.first_working_set_up_to_bytes => {
                let working_set_bytes = first_working_set(total, thresholds);
                Some((working_set_bytes, ReserveCause::FirstStart { working_set_bytes }))
            }
            None => None,
        };
        let growth = growth.map(|(to, cause)| Self { bytes: to.saturating_sub(used), cause });
        // The later of equals wins: one that says more than a rule for all machines.
        [Some(always), growth].into_iter().flatten().max_by_key(|reserve| reserve.bytes)
    }

    /// What stays free on a machine of this much memory, whatever its habits.
    pub fn always(total: u64, thresholds: &Thresholds) -> Self {
        // All of a small container would be too much to leave free.
        let least = thresholds.least_reserve_bytes.min(total / LEAST_DIVISOR);
        let share = (total as f64 * thresholds.reserve_share) as u64;
        if least > share {
            return Self { bytes: least, cause: ReserveCause::Least };
        }
        let percent = (thresholds.reserve_share * 100.0).round() as u32;
        Self { bytes: share, cause: ReserveCause::Share { percent } }
    }
}

/// 10 GB of 16 GB; of a smaller machine the same share, because 10 GB of 8 GB would leave no room for any model at all.
fn first_working_set(total: u64, thresholds: &Thresholds) -> u64 {
    let share = thresholds.first_working_set_bytes as f64 / thresholds.first_working_set_up_to_bytes.max(1) as f64;
    thresholds.first_working_set_bytes.min((total as f64 * share) as u64)
}

impl fmt::Display for Reserve {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} reserve ", text::bytes(self.bytes))?;
        match self.cause {
            ReserveCause::Least => write!(formatter, "(the least that is left)"),
            ReserveCause::Share { percent } => write!(formatter, "({percent} % of memory)"),
            ReserveCause::UsualUse { used_bytes } => {
                write!(formatter, "(the rest usually grows to {})", text::bytes(used_bytes))
            }
            ReserveCause::FirstStart { working_set_bytes } => {
                write!(formatter, "(first start: the rest is assumed to grow to {})", text::bytes(working_set_bytes))
            }
        }
    }
}
