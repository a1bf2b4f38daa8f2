//! This machine on Linux: reads the files below `/proc` and `/sys` and hands their text to the parsers.
//!
//! sysinfo reads total, available and swap, lists processes and disks. It is not asked for control-group limits: it gives up on all of them when one
//! file cannot be read, and counts the page cache (the mapped weights among it) as used. Pressure and footprints it does
//! not know.

mod cgroup;
mod parse;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use embedbar_contract::{DiskReading, MemoryReading, ProgramMemory};

use crate::rates::{ProcessMeter, RateMeter};
use crate::{Machine, disks, programs};

/// This Linux machine.
pub(crate) struct ThisMachine {
    files: Files,
    page_bytes: u64,
    rates: RateMeter,
    worker_rate: ProcessMeter,
}

/// Where `/proc` and `/sys` are looked for; tests have some of their own.
struct Files {
    root: PathBuf,
}

/// What the kernel says of the whole machine, control groups aside. Bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct WholeMachine {
    total: u64,
    available: u64,
    swap_used: u64,
}

impl Files {
    /// The text of `/proc/…` or `/sys/…`, or `None` where it cannot be read.
    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let bytes = fs::read(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl ThisMachine {
    pub(crate) fn new() -> Self {
        Self::at(PathBuf::from("/"))
    }

    fn at(root: PathBuf) -> Self {
        let page_bytes = rustix::param::page_size() as u64;
        let (rates, worker_rate) = (RateMeter::new(page_bytes), ProcessMeter::new(page_bytes));
        Self { files: Files { root }, page_bytes, rates, worker_rate }
    }

    fn process(&self, process: u32) -> Option<parse::ProcessMemory> {
        let file = |name: &str| self.files.read(format!("/proc/{process}/{name}"));
        // The first is exact but may be refused; the second counts by kinds of pages and is open to all.
        file("smaps_rollup")
            .and_then(|text| parse::smaps_rollup(&text))
            .or_else(|| file("statm").and_then(|text| parse::statm(&text, self.page_bytes)))
    }
}

impl Machine for ThisMachine {
    fn read(&mut self, worker: Option<u32>) -> MemoryReading {
        let whole = whole_machine();
        let limits = cgroup::limits(|path| self.files.read(path));
        let counters = self.files.read("/proc/vmstat").and_then(|text| parse::vmstat(&text));
        let rates = self.rates.update(Instant::now(), counters);
        let faults = worker.and_then(|process| self.files.read(format!("/proc/{process}/stat")));
        let faults = faults.and_then(|text| parse::major_faults(&text));
        let worker_page_in_bytes_per_second = self.worker_rate.update(Instant::now(), worker, faults);
        let worker = worker.and_then(|process| self.process(process));
        let (total_bytes, available_bytes) = within(whole.map(|whole| (whole.total, whole.available)), &limits);
        MemoryReading {
            total_bytes,
            available_bytes,
            pressure: self.files.read("/proc/pressure/memory").and_then(|text| parse::pressure(&text)),
            swap_used_bytes: whole.map(|whole| whole.swap_used),
            swap_in_bytes_per_second: rates.in_bytes_per_second,
            swap_out_bytes_per_second: rates.out_bytes_per_second,
            own_bytes: self.process(std::process::id()).map(|process| process.footprint),
            worker_bytes: worker.map(|process| process.footprint),
            worker_resident_bytes: worker.map(|process| process.resident),
            worker_page_in_bytes_per_second,
            simulated: None,
        }
    }

    fn programs(&mut self) -> Option<Vec<ProgramMemory>> {
        programs::largest(|process| self.process(process).map(|process| process.footprint))
    }

    fn disk(&self, folder: &Path) -> Option<DiskReading> {
        disks::holding(folder)
    }
}

fn whole_machine() -> Option<WholeMachine> {
    // A new one each time: after a failed refresh an old one would repeat old figures.
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::everything());
    // It has no error; a machine without memory is one that could not be read.
    let total = Some(system.total_memory()).filter(|total| *total > 0)?;
    Some(WholeMachine { total, available: system.available_memory(), swap_used: system.used_swap() })
}

/// Total and available memory of a machine as the control groups `limits` leave it.
fn within(machine: Option<(u64, u64)>, limits: &[cgroup::Limit]) -> (Option<u64>, Option<u64>) {
    let Some((installed, available)) = machine else { return (None, None) };
    let (mut total, mut available) = (installed, Some(available));
    // A limit beyond what there is limits nothing.
    for limit in limits.iter().filter(|limit| limit.bytes < installed) {
        total = total.min(limit.bytes);
        // A limit whose use cannot be read: how much is left is unknown, and the machine's own figure would be too much.
        available = available
            .zip(limit.working_set)
            .map(|(available, working_set)| available.min(limit.bytes.saturating_sub(working_set)));
    }
    (Some(total), available)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn kibibytes_of(meminfo: &str, key: &str) -> u64 {
        let line = meminfo.lines().find(|line| line.starts_with(key)).expect("the line is there");
        line.split_whitespace().nth(1).expect("a figure").parse().expect("a number")
    }

    #[test]
    fn the_whole_machine_is_what_the_kernels_system_call_says() {
        let whole = whole_machine().expect("sysinfo reads /proc/meminfo");
        let told = rustix::system::sysinfo();
        let unit = u64::from(told.mem_unit);
        assert_eq!(whole.total / 1024, told.totalram * unit / 1024);
        let swap_used = (told.totalswap - told.freeswap) * unit;
        assert!(whole.swap_used.abs_diff(swap_used) <= 64 << 20, "{} and {swap_used}", whole.swap_used);
        let meminfo = fs::read_to_string("/proc/meminfo").expect("it can be read");
        let available = kibibytes_of(&meminfo, "MemAvailable:") * 1024;
        assert!(
            whole.available.abs_diff(available) < whole.total / 10,
            "{} and {available} of {}",
            whole.available,
            whole.total
        );
    }

    #[test]
    fn a_reading_of_this_machine_has_what_free_shows_unless_a_control_group_has_less() {
        let reading = ThisMachine::new().read(None);
        let (total, available) = (reading.total_bytes.expect("total"), reading.available_bytes.expect("available"));
        assert!(available < total);
        if let Ok(output) = Command::new("free").arg("-b").output() {
            let text = String::from_utf8(output.stdout).expect("text");
            let figures: Vec<u64> = text
                .lines()
                .find(|line| line.starts_with("Mem:"))
                .expect("the line of memory")
                .split_whitespace()
                .skip(1)
                .map(|figure| figure.parse().expect("a number"))
                .collect();
            assert!(total <= figures[0]);
            assert!(available <= figures[5] + figures[0] / 10, "{available} and {}", figures[5]);
        }
        assert_eq!(reading.worker_bytes, None);
        assert_eq!(reading.swap_in_bytes_per_second, None, "one reading has no rate");
        assert_eq!(reading.pressure.is_some(), fs::read("/proc/pressure/memory").is_ok());
    }

    #[test]
    fn our_own_footprint_grows_by_what_is_touched() {
        let mut machine = ThisMachine::new();
        let before = machine.read(Some(std::process::id()));
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = machine.read(Some(std::process::id()));
        let own = |reading: &MemoryReading| reading.own_bytes.expect("own footprint");
        assert!(own(&after) >= own(&before) + (60 << 20), "{} then {}", own(&before), own(&after));
        let worker = after.worker_bytes.expect("this process as the worker");
        assert!(worker.abs_diff(own(&after)) < 16 << 20, "the same process, read twice");
        assert!(after.worker_resident_bytes.expect("resident") > 0);
        drop(touched);
    }

    #[test]
    fn a_worker_that_has_ended_has_no_figures() {
        let mut child = Command::new("true").spawn().expect("true can be started");
        let process = child.id();
        child.wait().expect("it ends");
        let reading = ThisMachine::new().read(Some(process));
        assert_eq!((reading.worker_bytes, reading.worker_resident_bytes), (None, None));
        assert!(reading.own_bytes.is_some());
    }

    #[test]
    fn without_proc_and_sys_each_probe_fails_alone() {
        let empty = tempfile::tempdir().expect("a folder");
        let reading = ThisMachine::at(empty.path().to_owned()).read(Some(1));
        assert!(reading.total_bytes.is_some(), "sysinfo reads the real one");
        let rest = MemoryReading { total_bytes: None, available_bytes: None, swap_used_bytes: None, ..reading };
        assert_eq!(rest, MemoryReading::default());
    }

    #[test]
    fn a_planted_tree_is_read_through_its_files() {
        let tree = tempfile::tempdir().expect("a folder");
        let plant = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        };
        plant("proc/pressure/memory", include_str!("../samples/pressure.txt"));
        plant("proc/77/statm", "5000 3000 1000 1 0 900 0\n");
        plant("proc/self/cgroup", "0::/box\n");
        plant("proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        plant("sys/fs/cgroup/box/memory.max", "16777216\n");
        plant("sys/fs/cgroup/box/memory.current", "10485760\n");
        plant("sys/fs/cgroup/box/memory.stat", "inactive_file 2097152\n");
        let reading = ThisMachine::at(tree.path().to_owned()).read(Some(77));
        assert_eq!(reading.total_bytes, Some(16 << 20));
        assert_eq!(reading.available_bytes, Some(8 << 20), "16 MB less the 10 MB in use, of which 2 MB are idle cache");
        assert_eq!(reading.pressure, Some(embedbar_contract::Pressure::Warn));
        let page = rustix::param::page_size() as u64;
        assert_eq!(reading.worker_bytes, Some(2000 * page));
        assert_eq!(reading.worker_resident_bytes, Some(3000 * page));
    }

    #[test]
    fn the_narrowest_limit_counts_for_the_total_and_the_fullest_for_what_is_available() {
        let limit = |bytes, working_set| cgroup::Limit { bytes, working_set };
        let machine = Some((1000, 700));
        assert_eq!(within(machine, &[]), (Some(1000), Some(700)));
        assert_eq!(within(machine, &[limit(5000, None)]), (Some(1000), Some(700)));
        assert_eq!(within(machine, &[limit(400, Some(100))]), (Some(400), Some(300)));
        assert_eq!(within(machine, &[limit(400, Some(100)), limit(800, Some(790))]), (Some(400), Some(10)));
        assert_eq!(within(machine, &[limit(400, Some(900))]), (Some(400), Some(0)));
        assert_eq!(within(machine, &[limit(400, None)]), (Some(400), None));
        assert_eq!(within(None, &[limit(400, Some(1))]), (None, None));
    }
}
