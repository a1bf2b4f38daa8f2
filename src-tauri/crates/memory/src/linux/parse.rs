//! Reads the text of the kernel's files. Pure functions: text in, figures out, `None` for anything that is not as expected.

use embedbar_contract::Pressure;

use crate::rates::SwapCounters;

/// Some task waited for memory for more than this share of the last ten seconds, percent: the system is reclaiming.
const WARN_SOME_PERCENT: f64 = 10.0;
/// All tasks waited at once for more than this share, percent: nothing gets done.
const CRITICAL_FULL_PERCENT: f64 = 5.0;

/// What a process holds, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ProcessMemory {
    /// Anonymous and swapped pages.
    pub(super) footprint: u64,
    /// Resident pages, the mapped files' included.
    pub(super) resident: u64,
}

/// `/proc/pressure/memory`.
pub(super) fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let percent = line.split_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse::<f64>().ok()?;
        (0.0..=100.0).contains(&percent).then_some(percent)
    };
    let (some, full) = (average("some")?, average("full")?);
    Some(if full > CRITICAL_FULL_PERCENT {
        Pressure::Critical
    } else if some > WARN_SOME_PERCENT {
        Pressure::Warn
    } else {
        Pressure::Normal
    })
}

/// `/proc/vmstat`.
pub(super) fn vmstat(text: &str) -> Option<SwapCounters> {
    Some(SwapCounters { pages_in: figure(text, "pswpin")?, pages_out: figure(text, "pswpout")? })
}

/// `/proc/PID/stat`: the faults that had to wait for the disk, since the process started. The kernel reads more than a page at
/// a time, so that this is the least that was read.
pub(super) fn major_faults(text: &str) -> Option<u64> {
    // The program's name comes in brackets and may hold anything, brackets too.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(9)?.parse().ok()
}

/// `/proc/PID/smaps_rollup`.
pub(super) fn smaps_rollup(text: &str) -> Option<ProcessMemory> {
    let bytes = |key: &str| {
        let mut fields = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.split_whitespace();
        let kibibytes: u64 = fields.next()?.parse().ok()?;
        (fields.next() == Some("kB")).then(|| kibibytes.checked_mul(1024)).flatten()
    };
    Some(ProcessMemory { footprint: bytes("Anonymous")?.checked_add(bytes("Swap")?)?, resident: bytes("Rss")? })
}

/// `/proc/PID/statm`: resident pages less those of files and shared memory.
pub(super) fn statm(text: &str, page_bytes: u64) -> Option<ProcessMemory> {
    let mut fields = text.split_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(ProcessMemory {
        footprint: resident.checked_sub(shared)?.checked_mul(page_bytes)?,
        resident: resident.checked_mul(page_bytes)?,
    })
}

/// The figure after `key` in a file of lines `key figure`.
pub(super) fn figure(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMAPS_ROLLUP: &str = include_str!("../../samples/smaps_rollup.txt");
    const VMSTAT: &str = include_str!("../../samples/vmstat.txt");
    const PRESSURE: &str = include_str!("../../samples/pressure.txt");

    fn stalls(some: &str, full: &str) -> Option<Pressure> {
        pressure(&format!("some avg10={some} avg60=0.00 avg300=0.00 total=1\nfull avg10={full} avg60=0.00 total=1\n"))
    }

    #[test]
    fn pressure_is_judged_by_the_last_ten_seconds() {
        assert_eq!(pressure(PRESSURE), Some(Pressure::Warn));
        assert_eq!(stalls("0.00", "0.00"), Some(Pressure::Normal));
        assert_eq!(stalls("10.00", "5.00"), Some(Pressure::Normal), "the thresholds themselves are still calm");
        assert_eq!(stalls("10.01", "0.00"), Some(Pressure::Warn));
        assert_eq!(stalls("40.00", "5.01"), Some(Pressure::Critical));
    }

    #[test]
    fn a_pressure_file_that_is_not_as_expected_is_no_pressure() {
        for text in ["", "some", "some avg10=", "some avg10=1.00\n", "full avg10=1.00\n", "someavg10=1\nfull avg10=1"] {
            assert_eq!(pressure(text), None, "{text:?}");
        }
        for percent in ["NaN", "inf", "-1", "100.01", "1e999", "x", ""] {
            assert_eq!(stalls(percent, "0.00"), None, "{percent:?}");
            assert_eq!(stalls("0.00", percent), None, "{percent:?}");
        }
    }

    #[test]
    fn swap_counters_come_from_their_own_lines() {
        assert_eq!(vmstat(VMSTAT), Some(SwapCounters { pages_in: 1207, pages_out: 48211 }));
        assert_eq!(vmstat("pswpin 1\n"), None);
        assert_eq!(vmstat("pswpin 1\npswpout -2\n"), None);
        assert_eq!(vmstat("pswpin 1\npswpout 99999999999999999999\n"), None);
        assert_eq!(vmstat("pswpinner 1\npswpout 2\n"), None);
    }

    #[test]
    fn a_footprint_is_anonymous_and_swapped_pages_and_not_those_of_files() {
        let process = smaps_rollup(SMAPS_ROLLUP).expect("a real file");
        let kibibytes = |key: &str| -> u64 {
            let line = SMAPS_ROLLUP.lines().find(|line| line.starts_with(key)).expect("the line is there");
            line.chars().filter(char::is_ascii_digit).collect::<String>().parse().expect("a number")
        };
        assert_eq!(process.footprint, (kibibytes("Anonymous:") + 64) * 1024);
        assert_eq!(process.resident, kibibytes("Rss:") * 1024);
        assert!(process.footprint < process.resident);
    }

    #[test]
    fn a_rollup_that_is_cut_short_or_overflows_is_no_footprint() {
        let rss = "Rss: 10 kB\n";
        for rest in [
            "",
            "Anonymous: 5 kB\n",
            "Anonymous: 5 kB\nSwap:",
            "Anonymous: 5 kB\nSwap: 1",
            "Anonymous: 5 MB\nSwap: 1 kB",
            "Anonymous: 18446744073709551615 kB\nSwap: 1 kB",
            "Anonymous: 18014398509481983 kB\nSwap: 18014398509481983 kB",
            "Anonymous: 5 kB\nSwapPss: 1 kB",
        ] {
            assert_eq!(smaps_rollup(&format!("{rss}{rest}")), None, "{rest:?}");
        }
        assert_eq!(smaps_rollup(&SMAPS_ROLLUP[..SMAPS_ROLLUP.find("Swap:").expect("it is there") + 8]), None);
    }

    #[test]
    fn statm_counts_resident_pages_less_shared_ones() {
        assert_eq!(
            statm("5000 300 100 1 0 900 0\n", 4096),
            Some(ProcessMemory { footprint: 819_200, resident: 1_228_800 })
        );
        for text in ["", "5000", "5000 300", "5000 x 1", "5000 100 300", "1 18446744073709551615 0"] {
            assert_eq!(statm(text, 4096), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,300}", start in 0_usize..2000, length in 0_usize..400) {
            for whole in [SMAPS_ROLLUP, VMSTAT, PRESSURE] {
                let from = start.min(whole.len());
                let cut = format!("{}{text}", &whole[from..(from + length).min(whole.len())]);
                let _ = (pressure(&cut), vmstat(&cut), smaps_rollup(&cut), statm(&cut, 4096));
            }
        }
    }
}
