//! A simulated machine: plays readings from a list.
//!
//! It stands in for the real one in tests and in a simulation. It invents nothing: a figure that the list does not hold
//! stays unknown.

use std::collections::VecDeque;
use std::path::Path;

use embedbar_contract::{DiskReading, MemoryReading, ProgramMemory};

use crate::Machine;

/// Plays a list of readings, one per call, and stays at the last one.
#[derive(Clone, Debug, Default)]
pub struct Scripted {
    coming: VecDeque<MemoryReading>,
    present: MemoryReading,
}

impl Scripted {
    /// A machine that gives `readings` in their order; an empty list gives empty readings.
    pub fn new(readings: impl IntoIterator<Item = MemoryReading>) -> Self {
        Self { coming: readings.into_iter().collect(), present: MemoryReading::default() }
    }

    /// How many readings have not been played yet.
    pub fn remaining(&self) -> usize {
        self.coming.len()
    }
}

impl Machine for Scripted {
    fn read(&mut self, worker: Option<u32>) -> MemoryReading {
        if let Some(next) = self.coming.pop_front() {
            self.present = next;
        }
        let mut reading = self.present.clone();
        if worker.is_none() {
            // The contract says so of every machine: without a worker there is nothing to say about one.
            reading.worker_bytes = None;
            reading.worker_resident_bytes = None;
            reading.worker_page_in_bytes_per_second = None;
        }
        reading
    }

    fn programs(&mut self) -> Option<Vec<ProgramMemory>> {
        None
    }

    fn disk(&self, _: &Path) -> Option<DiskReading> {
        None
    }
}

#[cfg(test)]
mod tests {
    use embedbar_contract::Pressure;

    use super::*;

    fn with(pressure: Pressure) -> MemoryReading {
        MemoryReading { pressure: Some(pressure), worker_bytes: Some(7), ..MemoryReading::default() }
    }

    #[test]
    fn readings_come_in_order_and_the_last_one_stays() {
        let mut machine = Scripted::new([with(Pressure::Normal), with(Pressure::Warn)]);
        assert_eq!(machine.remaining(), 2);
        let seen: Vec<_> = (0..4).map(|_| machine.read(Some(1)).pressure).collect();
        assert_eq!(seen, [Some(Pressure::Normal), Some(Pressure::Warn), Some(Pressure::Warn), Some(Pressure::Warn)]);
    }

    #[test]
    fn an_empty_script_gives_empty_readings() {
        assert_eq!(Scripted::new([]).read(Some(1)), MemoryReading::default());
    }

    #[test]
    fn without_a_worker_there_are_no_figures_of_one() {
        let mut machine = Scripted::new([with(Pressure::Normal)]);
        assert_eq!(machine.read(None).worker_bytes, None);
        assert_eq!(machine.read(Some(1)).worker_bytes, Some(7));
    }
}
