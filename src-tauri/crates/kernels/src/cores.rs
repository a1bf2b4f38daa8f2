//! How many threads are worth it on this processor, and on which of its cores.
//!
//! A product is done when its slowest part is, so a slow core next to fast ones is no help, and neither is the second
//! thread of a core whose multipliers are busy. Where all cores are alike, the system decides which of them a thread runs
//! on: it knows what else runs. Where they are not, Linux is told which are the fast ones; macOS knows that from the
//! [`urgency`](crate::urgency).

#![cfg_attr(any(target_os = "linux", target_os = "macos"), expect(unsafe_code, reason = "calls of the C library"))]

use std::thread::available_parallelism;

/// How many threads compute fastest together: the fast cores that this process may use, or as many as it gets the time of
/// if those are fewer.
pub fn compute_threads() -> usize {
    // Looks at the quotas of control groups as well.
    let allowed = available_parallelism().map_or(1, usize::from);
    fast_cores().map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// The processors that threads of a team are to stay on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Home(Vec<usize>);

impl Home {
    /// For a team of `threads`; `None` where they may go wherever the calling thread may.
    pub(crate) fn of(threads: usize) -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            fast_cores_of(&linux::read, &linux::allowed()?)?.home(threads)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = threads;
            None
        }
    }

    /// Moves the calling thread there, if the system lets it.
    pub(crate) fn enter(&self) {
        #[cfg(target_os = "linux")]
        linux::stay_on(&self.0);
        #[cfg(not(target_os = "linux"))]
        let Self(_) = self;
    }
}

/// The cores of the fastest kind, if the system says.
#[cfg(target_os = "macos")]
fn fast_cores() -> Option<usize> {
    // The second is for processors with cores of one kind, of which some systems know no kinds.
    macos::number(c"hw.perflevel0.physicalcpu").or_else(|| macos::number(c"hw.physicalcpu"))
}

/// The cores of the fastest kind, if the system says.
#[cfg(target_os = "linux")]
fn fast_cores() -> Option<usize> {
    Some(fast_cores_of(&linux::read, &linux::allowed()?)?.count)
}

/// The cores of the fastest kind, if the system says.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn fast_cores() -> Option<usize> {
    None
}

#[cfg(target_os = "macos")]
mod macos {
    use std::ffi::{CStr, c_int};

    /// A number that the system knows by this name.
    pub(super) fn number(name: &CStr) -> Option<usize> {
        let mut number: c_int = 0;
        let mut size = size_of_val(&number);
        // SAFETY: the name ends in a zero, and `number` has room for `size` bytes.
        let status = unsafe {
            libc::sysctlbyname(name.as_ptr(), (&raw mut number).cast(), &raw mut size, std::ptr::null_mut(), 0)
        };
        (status == 0 && size == size_of_val(&number)).then(|| usize::try_from(number).ok()).flatten()
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::path::Path;

    /// A file below the folder of devices.
    pub(super) fn read(path: &str) -> Option<String> {
        std::fs::read_to_string(Path::new("/sys/devices").join(path)).ok()
    }

    /// The processors that the calling thread may run on. `None` where they are more than the C library counts.
    pub(super) fn allowed() -> Option<Vec<usize>> {
        // SAFETY: it is an array of bits, which may all be zero.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is as large as stated; 0 is the calling thread.
        let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
        let limit = libc::CPU_SETSIZE as usize;
        // SAFETY: the numbers are below the size of the set.
        (status == 0).then(|| (0..limit).filter(|&number| unsafe { libc::CPU_ISSET(number, &set) }).collect())
    }

    /// Restricts the calling thread to these processors.
    pub(super) fn stay_on(processors: &[usize]) {
        // SAFETY: as above.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for &number in processors.iter().filter(|&&number| number < libc::CPU_SETSIZE as usize) {
            // SAFETY: the number is below the size of the set.
            unsafe { libc::CPU_SET(number, &mut set) };
        }
        // Where it fails the thread runs wherever it did: slower, maybe.
        // SAFETY: as above.
        unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
    }
}

/// The cores of the fastest kind among those that may be used.
#[cfg(any(target_os = "linux", test))]
#[derive(Debug, Eq, PartialEq)]
struct FastCores {
    count: usize,
    /// All that Linux counts as their processors and that may be used, in ascending order.
    processors: Vec<usize>,
    /// Whether there are others, which are slower.
    is_hybrid: bool,
}

#[cfg(any(target_os = "linux", test))]
impl FastCores {
    /// Where a team of `threads` stays: on these cores, if there are others and it needs no more than these.
    fn home(self, threads: usize) -> Option<Home> {
        (self.is_hybrid && threads <= self.count).then_some(Home(self.processors))
    }
}

/// One of the processors that Linux counts: a core, or one thread of it.
#[cfg(any(target_os = "linux", test))]
struct Processor {
    number: usize,
    /// Its capacity or its highest frequency, whichever is known: only comparable with the others.
    speed: Option<u64>,
    /// All processors of the core, as Linux writes them.
    siblings: String,
}

/// The fast ones of the `allowed` processors, by the files below `/sys/devices` that `read` reads.
#[cfg(any(target_os = "linux", test))]
fn fast_cores_of(read: &dyn Fn(&str) -> Option<String>, allowed: &[usize]) -> Option<FastCores> {
    let numbers = |file: &str| read(file).map(|list| numbers_in(list.trim()).collect::<Vec<_>>());
    let online = numbers("system/cpu/online")?;
    let mut fast: Vec<usize> = online.into_iter().filter(|number| allowed.contains(number)).collect();
    let all = fast.len();
    // Intel's, in whose newer hybrids the slow cores have nearly the frequency of the fast ones. Only those have this file.
    if let Some(kind) = numbers("cpu_core/cpus")
        && fast.iter().any(|number| kind.contains(number))
    {
        fast.retain(|number| kind.contains(number));
    }
    let mut processors: Vec<Processor> = fast
        .into_iter()
        .map(|number| {
            let of = |file: &str| read(&format!("system/cpu/cpu{number}/{file}")).map(|text| text.trim().to_owned());
            let speed = of("cpu_capacity").or_else(|| of("cpufreq/cpuinfo_max_freq"));
            Processor {
                number,
                speed: speed.and_then(|speed| speed.parse().ok()),
                siblings: of("topology/core_cpus_list").unwrap_or_else(|| number.to_string()),
            }
        })
        .collect();
    let fastest = processors.iter().filter_map(|processor| processor.speed).max().unwrap_or(0);
    // The favoured cores of one kind differ by some percent, those of two kinds by a fourth or more.
    processors.retain(|processor| processor.speed.is_none_or(|speed| speed * 5 >= fastest * 4));
    let cores: std::collections::BTreeSet<&str> =
        processors.iter().map(|processor| processor.siblings.as_str()).collect();
    let count = cores.len();
    let processors: Vec<usize> = processors.iter().map(|processor| processor.number).collect();
    (count > 0).then_some(FastCores { count, is_hybrid: processors.len() < all, processors })
}

/// The numbers in a list such as `0-3,8`.
#[cfg(any(target_os = "linux", test))]
fn numbers_in(list: &str) -> impl Iterator<Item = usize> {
    let ranges = list.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse().ok()?)
    });
    ranges.flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A folder of devices with these files.
    struct Devices(HashMap<String, String>);

    impl Devices {
        /// Processors with the text of a file of speeds, if there is any, and their siblings.
        fn new(file: &str, processors: &[(Option<u64>, &str)]) -> Self {
            let mut files = HashMap::new();
            if let Some(last) = processors.len().checked_sub(1) {
                files.insert("system/cpu/online".to_owned(), format!("0-{last}\n"));
            }
            for (number, (speed, siblings)) in processors.iter().enumerate() {
                let name = |file: &str| format!("system/cpu/cpu{number}/{file}");
                if let Some(speed) = speed {
                    files.insert(name(file), format!("{speed}\n"));
                }
                files.insert(name("topology/core_cpus_list"), format!("{siblings}\n"));
            }
            Self(files)
        }

        fn with(mut self, file: &str, text: &str) -> Self {
            self.0.insert(file.to_owned(), text.to_owned());
            self
        }

        fn fast(&self, allowed: &[usize]) -> Option<FastCores> {
            fast_cores_of(&|file| self.0.get(file).cloned(), allowed)
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "it is compared with what may be nothing")]
    fn cores(count: usize, processors: &[usize], is_hybrid: bool) -> Option<FastCores> {
        Some(FastCores { count, processors: processors.to_vec(), is_hybrid })
    }

    const FREQUENCY: &str = "cpufreq/cpuinfo_max_freq";
    const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    /// Two fast cores with two threads each and four slow ones.
    fn hybrid(slow: u64) -> Devices {
        let fast = [(5_000_000, "0-1"), (5_000_000, "0-1"), (5_200_000, "2-3"), (5_200_000, "2-3")];
        let slow = ["4", "5", "6", "7"].map(|siblings| (slow, siblings));
        let all: Vec<_> = fast.into_iter().chain(slow).map(|(speed, siblings)| (Some(speed), siblings)).collect();
        Devices::new(FREQUENCY, &all)
    }

    #[test]
    fn slow_cores_and_second_threads_do_not_count() {
        assert_eq!(hybrid(3_800_000).fast(&ALL), cores(2, &[0, 1, 2, 3], true));
        // Capacities of an ARM with three kinds.
        let arm =
            Devices::new("cpu_capacity", &[(Some(160), "0"), (Some(160), "1"), (Some(498), "2"), (Some(1024), "3")]);
        assert_eq!(arm.fast(&ALL), cores(1, &[3], true));
        // Fast cores that are about alike, with two threads each.
        let alike =
            [(Some(5_700_000), "0,2"), (Some(5_500_000), "1,3"), (Some(5_700_000), "0,2"), (Some(5_500_000), "1,3")];
        assert_eq!(Devices::new(FREQUENCY, &alike).fast(&ALL), cores(2, &[0, 1, 2, 3], false));
        // A virtual machine that says nothing of speeds.
        assert_eq!(Devices::new("", &[(None, "0"), (None, "1")]).fast(&ALL), cores(2, &[0, 1], false));
        assert_eq!(Devices::new("", &[]).fast(&ALL), None);
    }

    #[test]
    fn what_intel_says_of_kinds_counts_more_than_frequencies() {
        let devices = hybrid(4_600_000);
        assert_eq!(devices.fast(&ALL).map(|cores| cores.count), Some(6));
        let devices = devices.with("cpu_core/cpus", "0-3\n").with("cpu_atom/cpus", "4-7\n");
        assert_eq!(devices.fast(&ALL), cores(2, &[0, 1, 2, 3], true));
    }

    #[test]
    fn only_processors_that_may_be_used_are_counted() {
        let devices = hybrid(3_800_000).with("cpu_core/cpus", "0-3").with("cpu_atom/cpus", "4-7");
        // One thread of each fast core, and some slow ones.
        assert_eq!(devices.fast(&[1, 3, 6, 7]), cores(2, &[1, 3], true));
        assert_eq!(devices.fast(&[0, 1, 6]), cores(1, &[0, 1], true));
        assert_eq!(devices.fast(&[2, 3]), cores(1, &[2, 3], false));
        // Slow ones alone are the fastest there are.
        assert_eq!(devices.fast(&[4, 5, 7]), cores(3, &[4, 5, 7], false));
        assert_eq!(devices.fast(&[]), None);
        // Some are off.
        assert_eq!(devices.with("system/cpu/online", "0,4-7").fast(&ALL), cores(1, &[0], true));
    }

    #[test]
    fn teams_stay_on_fast_cores_where_there_are_others_and_enough_of_them() {
        let home = |devices: Devices, threads| devices.fast(&ALL).and_then(|cores| cores.home(threads));
        assert_eq!(home(hybrid(3_800_000), 1), Some(Home(vec![0, 1, 2, 3])));
        assert_eq!(home(hybrid(3_800_000), 2), Some(Home(vec![0, 1, 2, 3])));
        assert_eq!(home(hybrid(3_800_000), 3), None);
        assert_eq!(home(hybrid(5_000_000), 2), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_stays_where_it_is_put() {
        let allowed = linux::allowed().expect("no more processors than the C library counts");
        let last = allowed[allowed.len() - 1];
        let found = std::thread::spawn(move || {
            Home(vec![last]).enter();
            linux::allowed()
        });
        assert_eq!(found.join().expect("no panic"), Some(vec![last]));
        // And none other is.
        assert_eq!(linux::allowed(), Some(allowed));
    }

    #[test]
    fn lists_are_read_as_linux_writes_them() {
        assert_eq!(numbers_in("0-3,8,10-11").collect::<Vec<_>>(), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(numbers_in("0").collect::<Vec<_>>(), [0]);
        assert_eq!(numbers_in("").count(), 0);
    }

    #[test]
    fn there_is_at_least_one_thread_and_no_more_than_allowed() {
        let allowed = available_parallelism().map_or(1, usize::from);
        assert!((1..=allowed).contains(&compute_threads()));
    }
}
