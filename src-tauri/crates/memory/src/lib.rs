//! Readings of this machine: what is there, what is used, how short it is.
//!
//! A [`Machine`] is read about once a second and gives a [`MemoryReading`]. Each figure is taken by a probe of its own;
//! a probe that fails gives `None`, never 0, and does not disturb the others. "Available" is what can be taken without
//! anything being compressed, swapped or killed: on macOS the complement of what Activity Monitor calls used (sysinfo's
//! figure there counts the live memory of every program and is refused for it), on Linux `MemAvailable`, lowered by the
//! limits of the control groups this process lives in.
//!
//! What is not here: any decision (a planner reads these figures elsewhere), any history, any clean-up beyond what the
//! allocator of this process holds ([`release_unused`]).

use std::path::Path;

use embedbar_contract::{DiskReading, MachineOverview, MemoryReading, ProgramMemory};

#[cfg(any(target_os = "macos", test))]
mod activity_monitor;
mod cached;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod disks;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod peak;
mod priority;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod programs;
#[cfg(unix)]
mod rates;
mod release;
mod scripted;

pub use cached::drop_cached;
#[cfg(unix)]
pub use peak::peak_resident_bytes;
pub use priority::step_back;
pub use release::{release_unused, return_large_blocks};
pub use scripted::Scripted;

/// A machine that can be read: its memory, who holds it, its disks.
pub trait Machine: Send {
    /// Takes a reading; `worker` is the process id of the worker, where there is one.
    ///
    /// It blocks for some milliseconds at most. Rates need two readings at least half a second apart: the first reading
    /// has none, and one that follows sooner repeats those of the reading before. Figures of the worker are `None` where
    /// there is no worker or it has ended.
    fn read(&mut self, worker: Option<u32>) -> MemoryReading;

    /// The programs that hold the most memory, the largest first; `None` where they cannot be listed.
    ///
    /// It may take some tens of milliseconds on a machine with many processes.
    fn programs(&mut self) -> Option<Vec<ProgramMemory>>;

    /// The disk on which a folder lies; `None` where it is not known.
    fn disk(&self, folder: &Path) -> Option<DiskReading>;

    /// Programs, and the disk with `folder`.
    fn overview(&mut self, folder: &Path) -> MachineOverview {
        MachineOverview { programs: self.programs(), disk: self.disk(folder) }
    }
}

/// The machine that this program runs on.
///
/// On systems other than Linux and macOS every probe fails: the readings are empty.
pub fn this_machine() -> Box<dyn Machine> {
    #[cfg(target_os = "linux")]
    return Box::new(linux::ThisMachine::new());
    #[cfg(target_os = "macos")]
    return Box::new(macos::ThisMachine::new());
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    return Box::new(Scripted::new(Vec::new()));
}

/// The system and its version, such as `macOS 15.6.1 Sequoia`.
pub fn system_version() -> String {
    sysinfo::System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned())
}

/// The build of macOS, such as `24G84`; `None` elsewhere.
pub fn system_build() -> Option<String> {
    #[cfg(target_os = "macos")]
    return macos::system_build();
    #[cfg(not(target_os = "macos"))]
    None
}

/// Total minus available, in bytes; `None` where one of them is unknown or they contradict each other.
pub fn used_bytes(reading: &MemoryReading) -> Option<u64> {
    reading.total_bytes?.checked_sub(reading.available_bytes?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(total: Option<u64>, available: Option<u64>) -> MemoryReading {
        MemoryReading { total_bytes: total, available_bytes: available, ..MemoryReading::default() }
    }

    #[test]
    fn used_is_what_is_not_available() {
        assert_eq!(used_bytes(&reading(Some(16), Some(5))), Some(11));
        assert_eq!(used_bytes(&reading(Some(16), Some(16))), Some(0));
    }

    #[test]
    fn used_is_unknown_where_a_half_is_unknown_or_the_halves_contradict_each_other() {
        assert_eq!(used_bytes(&reading(None, Some(5))), None);
        assert_eq!(used_bytes(&reading(Some(16), None)), None);
        assert_eq!(used_bytes(&reading(Some(16), Some(17))), None);
    }
}
