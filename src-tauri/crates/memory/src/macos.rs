//! This machine on macOS: the system calls, and nothing else.
//!
//! The arithmetic is in `activity_monitor`. sysinfo lists processes and disks. It is not asked for memory: its available memory
//! over-promises here and its process memory is the resident set, which counts clean mapped weights and misses compressed
//! pages.
#![allow(
    unsafe_code,
    reason = "host_statistics64, sysctlbyname and proc_pid_rusage have no safe wrapper among our dependencies"
)]

use std::ffi::{CStr, c_int};
use std::mem::{MaybeUninit, size_of};
use std::path::Path;
use std::time::{Duration, Instant};

use embedbar_contract::{DiskReading, MemoryReading, ProgramMemory};
use libc::{integer_t, mach_port_t, rusage_info_v4, vm_statistics64, xsw_usage};

use crate::activity_monitor::{PageCounts, available_bytes, pressure};
use crate::rates::{ProcessMeter, RateMeter, SwapCounters};
use crate::{Machine, disks, programs};

/// The kernel answers all programs together that are not Apple's only 2 to 10 times a second with fresh counts and repeats
/// old ones otherwise (XNU, `osfmk/kern/host.c`), so that asking more often is of no use. A little under a second, so that
/// someone who reads once a second gets fresh counts every time.
const FRESH_FOR: Duration = Duration::from_millis(900);

#[derive(Clone, Copy)]
struct Statistics {
    taken: Instant,
    pages: PageCounts,
    swap: SwapCounters,
}

/// This Mac.
pub(crate) struct ThisMachine {
    host: mach_port_t,
    page_bytes: u64,
    statistics: Option<Statistics>,
    rates: RateMeter,
    worker_rate: ProcessMeter,
}

impl ThisMachine {
    pub(crate) fn new() -> Self {
        let page_bytes = rustix::param::page_size() as u64;
        // Each call of it adds a reference to the port's right, so that it is made once.
        #[allow(deprecated, reason = "libc points to mach2, a further dependency for one declaration")]
        // SAFETY: it takes nothing and returns a port right that this process keeps until it ends.
        let host = unsafe { libc::mach_host_self() };
        let (rates, worker_rate) = (RateMeter::new(page_bytes), ProcessMeter::new(page_bytes));
        Self { host, page_bytes, statistics: None, rates, worker_rate }
    }

    fn statistics(&mut self) -> Option<Statistics> {
        let now = Instant::now();
        let is_fresh = |known: &Statistics| now.saturating_duration_since(known.taken) < FRESH_FOR;
        if !self.statistics.as_ref().is_some_and(is_fresh) {
            self.statistics = host_statistics(self.host).map(|raw| Statistics {
                taken: now,
                pages: PageCounts {
                    internal: u64::from(raw.internal_page_count),
                    purgeable: u64::from(raw.purgeable_count),
                    wired: u64::from(raw.wire_count),
                    compressor: u64::from(raw.compressor_page_count),
                },
                swap: SwapCounters { pages_in: raw.swapins, pages_out: raw.swapouts },
            });
        }
        self.statistics
    }
}

impl Machine for ThisMachine {
    fn read(&mut self, worker: Option<u32>) -> MemoryReading {
        let total = sysctl::<u64>(c"hw.memsize");
        let statistics = self.statistics();
        let taken = statistics.map_or_else(Instant::now, |known| known.taken);
        let rates = self.rates.update(taken, statistics.map(|known| known.swap));
        let process = worker;
        let worker = worker.and_then(process_memory);
        let pages_in = worker.map(|usage| usage.ri_pageins);
        let worker_page_in_bytes_per_second = self.worker_rate.update(Instant::now(), process, pages_in);
        MemoryReading {
            total_bytes: total,
            available_bytes: total
                .zip(statistics)
                .map(|(total, known)| available_bytes(total, known.pages, self.page_bytes)),
            pressure: sysctl::<c_int>(c"kern.memorystatus_vm_pressure_level").and_then(pressure),
            swap_used_bytes: sysctl::<xsw_usage>(c"vm.swapusage").map(|swap| swap.xsu_used),
            swap_in_bytes_per_second: rates.in_bytes_per_second,
            swap_out_bytes_per_second: rates.out_bytes_per_second,
            own_bytes: process_memory(std::process::id()).map(|process| process.ri_phys_footprint),
            worker_bytes: worker.map(|process| process.ri_phys_footprint),
            worker_resident_bytes: worker.map(|process| process.ri_resident_size),
            worker_page_in_bytes_per_second,
            simulated: None,
        }
    }

    fn programs(&mut self) -> Option<Vec<ProgramMemory>> {
        programs::largest(|process| process_memory(process).map(|process| process.ri_phys_footprint))
    }

    fn disk(&self, folder: &Path) -> Option<DiskReading> {
        disks::holding(folder)
    }
}

fn host_statistics(host: mach_port_t) -> Option<vm_statistics64> {
    let mut statistics = MaybeUninit::<vm_statistics64>::zeroed();
    let mut count = libc::HOST_VM_INFO64_COUNT;
    // SAFETY: the buffer holds `count` integers; a kernel that knows fewer fields writes fewer and leaves the rest zero.
    let status = unsafe {
        libc::host_statistics64(host, libc::HOST_VM_INFO64, statistics.as_mut_ptr().cast::<integer_t>(), &raw mut count)
    };
    // SAFETY: the structure consists of integers, for which zeroes are a value, and it was zeroed.
    (status == libc::KERN_SUCCESS).then(|| unsafe { statistics.assume_init() })
}

/// What `sysctlbyname` may fill.
trait Plain: Copy {}
impl Plain for u64 {}
impl Plain for c_int {}
impl Plain for xsw_usage {}

fn sysctl<T: Plain>(name: &CStr) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut size = size_of::<T>();
    // SAFETY: the name ends with a zero byte, the buffer has `size` bytes, and nothing is set.
    let status =
        unsafe { libc::sysctlbyname(name.as_ptr(), value.as_mut_ptr().cast(), &raw mut size, std::ptr::null_mut(), 0) };
    // SAFETY: every `Plain` consists of integers, for which zeroes are a value, and it was zeroed.
    (status == 0 && size == size_of::<T>()).then(|| unsafe { value.assume_init() })
}

/// The build of the system, such as `24G84`.
pub(crate) fn system_build() -> Option<String> {
    let mut text = [0_u8; 64];
    let mut size = text.len();
    // SAFETY: the name ends with a zero byte, the buffer has `size` bytes, and nothing is set.
    let status = unsafe {
        let name = c"kern.osversion".as_ptr();
        libc::sysctlbyname(name, text.as_mut_ptr().cast(), &raw mut size, std::ptr::null_mut(), 0)
    };
    let text = CStr::from_bytes_until_nul(text.get(..size)?).ok()?.to_str().ok()?;
    (status == 0 && !text.is_empty()).then(|| text.to_owned())
}

/// The memory of a process of the same user; `None` for others and for one that has ended.
fn process_memory(process: u32) -> Option<rusage_info_v4> {
    let process = c_int::try_from(process).ok()?;
    let mut usage = MaybeUninit::<rusage_info_v4>::zeroed();
    // SAFETY: the flavour says which structure the buffer is. The declared type of the parameter, a pointer to a pointer, is
    // an oddity of the C header: the kernel writes the structure itself to that address.
    let status = unsafe { libc::proc_pid_rusage(process, libc::RUSAGE_INFO_V4, usage.as_mut_ptr().cast()) };
    // SAFETY: the structure consists of integers, for which zeroes are a value, and it was zeroed.
    (status == 0).then(|| unsafe { usage.assume_init() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_answers_on_a_mac() {
        let reading = ThisMachine::new().read(Some(std::process::id()));
        let total = reading.total_bytes.expect("hw.memsize");
        assert!(total >= 4 << 30, "{total}");
        assert!(reading.available_bytes.expect("host_statistics64") < total);
        assert!(reading.pressure.is_some());
        assert!(reading.swap_used_bytes.is_some());
        assert!(reading.own_bytes.expect("proc_pid_rusage") > 100_000);
        assert!(reading.worker_resident_bytes.expect("proc_pid_rusage") > 100_000);
    }

    #[test]
    fn a_name_that_does_not_exist_and_a_wrong_size_are_no_values() {
        assert_eq!(sysctl::<u64>(c"embedbar.none"), None);
        assert_eq!(sysctl::<u64>(c"kern.memorystatus_vm_pressure_level"), None);
    }

    #[test]
    fn the_build_has_letters_and_digits() {
        let build = system_build().expect("kern.osversion");
        assert!(build.len() > 3 && build.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{build}");
    }

    #[test]
    fn our_own_footprint_grows_by_what_is_touched() {
        let mut machine = ThisMachine::new();
        let before = machine.read(None).own_bytes.expect("proc_pid_rusage");
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = machine.read(None).own_bytes.expect("proc_pid_rusage");
        assert!(after >= before + (60 << 20), "{before} then {after}");
        drop(touched);
    }
}
