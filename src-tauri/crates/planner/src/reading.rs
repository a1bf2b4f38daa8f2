//! What the machine is like now, and what is loaded on it.

use embedbar_contract::{MemoryReading, Pressure};

use crate::{Candidate, Thresholds, text};

/// What kind of machine it is: which backends there are and in which order they are preferred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum System {
    /// Core ML, Metal and the processor.
    Mac,
    /// The processor, and packages interpreted.
    Linux,
    /// The processor stands in for Core ML, so that a Mac's ladder is seen where there is none.
    SimulatedMac,
}

/// What is loaded now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Present {
    /// Which.
    pub candidate: Candidate,
    /// What comes back when it is unloaded: the measured footprint; for Core ML what the system's used memory gained.
    pub held_bytes: u64,
    /// What it needs resident while it runs, mapped weights and the largest batch included. Mapped weights are no part of
    /// [`Self::held_bytes`] where the system counts them as available.
    pub running_bytes: u64,
}

/// The machine now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What kind it is.
    pub system: System,
    /// Its memory. What is available does not count what [`Self::present`] holds.
    pub memory: MemoryReading,
    /// Metal's `recommendedMaxWorkingSetSize`; `None` where there is no GPU or it was not asked.
    pub gpu_working_set_bytes: Option<u64>,
    /// What can still be written on the disk with the models.
    pub disk_free_bytes: Option<u64>,
    /// What is loaded now and would make room.
    pub present: Option<Present>,
}

impl Reading {
    /// A machine of which only its memory is known.
    pub fn new(system: System, memory: MemoryReading) -> Self {
        Self { system, memory, gpu_working_set_bytes: None, disk_free_bytes: None, present: None }
    }

    /// What comes back from what is loaded.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.present.as_ref().map_or(0, |present| present.held_bytes)
    }

    /// What one model could have once the present one is gone; `None` where it is not known.
    pub fn room_bytes(&self) -> Option<u64> {
        Some(self.memory.available_bytes?.saturating_add(self.held_bytes()))
    }

    /// Why nothing large should be loaded now, where that is so.
    pub fn shortage(&self, thresholds: &Thresholds) -> Option<String> {
        match self.memory.pressure {
            Some(Pressure::Critical) => return Some("the system reports CRITICAL memory pressure".to_owned()),
            Some(Pressure::Warn) => return Some("the system reports WARN memory pressure".to_owned()),
            Some(Pressure::Normal) | None => {}
        }
        let rate =
            self.memory.swap_out_bytes_per_second.filter(|&rate| rate >= thresholds.swap_out_bytes_per_second)?;
        Some(format!("the system writes {} per second to swap", text::bytes(rate as u64)))
    }
}
