//! How many threads are worth it on this processor, and how a thread tells the system for whom it computes.
//!
//! A product is done when its slowest part is, so a slow core next to fast ones is no help, and neither is the second
//! thread of a core whose multipliers are busy. Which core a thread runs on stays the system's affair: it knows what else
//! runs.

#![cfg_attr(target_os = "macos", expect(unsafe_code, reason = "calls of the C library"))]

use std::thread::available_parallelism;

/// For whom a thread computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Urgency {
    /// Somebody waits for it: macOS runs it on the fast cores.
    UserInitiated = 0,
    /// It goes on in the background: macOS may run it on the efficient cores.
    Utility = 1,
}

impl Urgency {
    pub(crate) fn of(number: u8) -> Self {
        if number == Self::Utility as u8 { Self::Utility } else { Self::UserInitiated }
    }
}

/// How many threads compute fastest together: the fast cores, or as many as this process may use if those are fewer.
pub fn compute_threads() -> usize {
    let allowed = available_parallelism().map_or(1, usize::from);
    fast_cores().map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Tells the system for whom the calling thread computes. Only macOS wants to know.
#[cfg(target_os = "macos")]
pub(crate) fn set_urgency(urgency: Urgency) {
    let class = match urgency {
        Urgency::UserInitiated => libc::qos_class_t::QOS_CLASS_USER_INITIATED,
        Urgency::Utility => libc::qos_class_t::QOS_CLASS_UTILITY,
    };
    // It fails for a thread whose policy was set by hand, which then keeps it.
    // SAFETY: it concerns the calling thread alone, and takes any class with a relative priority of 0.
    unsafe { libc::pthread_set_qos_class_self_np(class, 0) };
}

/// Tells the system for whom the calling thread computes. Only macOS wants to know.
#[cfg(not(target_os = "macos"))]
pub(crate) fn set_urgency(_: Urgency) {}

/// The cores of the fastest kind, if the system says.
#[cfg(target_os = "macos")]
fn fast_cores() -> Option<usize> {
    let mut count: libc::c_int = 0;
    let mut size = size_of_val(&count);
    // SAFETY: the name ends in a zero, and `count` has room for `size` bytes, which is what this value takes.
    let status = unsafe {
        libc::sysctlbyname(
            c"hw.perflevel0.physicalcpu".as_ptr(),
            (&raw mut count).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    (status == 0 && size == size_of_val(&count)).then(|| usize::try_from(count).ok()).flatten()
}

/// The cores of the fastest kind, if the system says.
#[cfg(target_os = "linux")]
fn fast_cores() -> Option<usize> {
    let folder = std::path::Path::new("/sys/devices/system/cpu");
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let online = read(folder.join("online"))?;
    let processors: Vec<Processor> = numbers_in(&online)
        .map(|number| {
            let of = |file: &str| read(folder.join(format!("cpu{number}")).join(file));
            let speed = of("cpu_capacity").or_else(|| of("cpufreq/cpuinfo_max_freq"));
            Processor {
                speed: speed.and_then(|speed| speed.parse().ok()),
                siblings: of("topology/core_cpus_list").unwrap_or_else(|| number.to_string()),
            }
        })
        .collect();
    fast_cores_of(&processors)
}

/// The cores of the fastest kind, if the system says.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn fast_cores() -> Option<usize> {
    None
}

/// One of the processors that Linux counts: a core, or one thread of it.
#[cfg(any(target_os = "linux", test))]
struct Processor {
    /// Its capacity or its highest frequency, whichever is known: only comparable with the others.
    speed: Option<u64>,
    /// All processors of the core, as Linux writes them.
    siblings: String,
}

/// How many cores are about as fast as the fastest.
#[cfg(any(target_os = "linux", test))]
fn fast_cores_of(processors: &[Processor]) -> Option<usize> {
    let fastest = processors.iter().filter_map(|processor| processor.speed).max().unwrap_or(0);
    // The favoured cores of one kind differ by some percent, those of two kinds by a fourth or more.
    let is_fast = |processor: &&Processor| processor.speed.is_none_or(|speed| speed * 5 >= fastest * 4);
    let cores: std::collections::BTreeSet<&str> =
        processors.iter().filter(is_fast).map(|processor| processor.siblings.as_str()).collect();
    (!cores.is_empty()).then_some(cores.len())
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
    use super::*;

    fn processors(list: &[(Option<u64>, &str)]) -> Vec<Processor> {
        let all = list.iter().map(|&(speed, siblings)| Processor { speed, siblings: siblings.to_owned() });
        all.collect()
    }

    #[test]
    fn slow_cores_and_second_threads_do_not_count() {
        // Two fast cores with two threads each and four slow ones.
        let hybrid: Vec<_> = [(Some(5_000_000), "0-1"), (Some(5_000_000), "0-1"), (Some(5_200_000), "2-3")]
            .into_iter()
            .chain([(Some(5_200_000), "2-3"), (Some(3_800_000), "4"), (Some(3_800_000), "5")])
            .collect();
        assert_eq!(fast_cores_of(&processors(&hybrid)), Some(2));
        // Capacities of an ARM with three kinds.
        let arm = [(Some(160), "0"), (Some(160), "1"), (Some(498), "2"), (Some(1024), "3")];
        assert_eq!(fast_cores_of(&processors(&arm)), Some(1));
        // A virtual machine that says nothing of speeds.
        assert_eq!(fast_cores_of(&processors(&[(None, "0"), (None, "1")])), Some(2));
        assert_eq!(fast_cores_of(&[]), None);
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

    #[test]
    fn urgencies_survive_being_numbers() {
        for urgency in [Urgency::UserInitiated, Urgency::Utility] {
            assert_eq!(Urgency::of(urgency as u8), urgency);
        }
    }
}
