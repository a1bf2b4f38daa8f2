//! The arithmetic of macOS's Activity Monitor, over plain counts.
//!
//! Used = app memory (internal minus purgeable pages) + wired + pages that the compressor occupies; available is the rest:
//! free, file-backed and purgeable pages. Pages on the active queue are live memory of other programs and are not counted
//! as available, which is where sysinfo's `available_memory` misleads. No system call is made here, so that the numbers can
//! be checked on any system.

use embedbar_contract::Pressure;

/// Page counts of `vm_statistics64`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PageCounts {
    /// Anonymous pages (`internal_page_count`).
    pub(crate) internal: u64,
    /// Volatile purgeable pages (`purgeable_count`), a part of `internal`.
    pub(crate) purgeable: u64,
    /// `wire_count`; GPU buffers in use are among them.
    pub(crate) wired: u64,
    /// Pages that the compressor occupies (`compressor_page_count`), not the pages stored in it.
    pub(crate) compressor: u64,
}

/// What can be taken without anything being compressed or swapped, in bytes.
///
/// The counts are not taken at one instant by the kernel: where they add up to more than there is, nothing is available.
pub(crate) fn available_bytes(total_bytes: u64, pages: PageCounts, page_bytes: u64) -> u64 {
    let app = pages.internal.saturating_sub(pages.purgeable);
    let used_pages = app.saturating_add(pages.wired).saturating_add(pages.compressor);
    total_bytes.saturating_sub(used_pages.saturating_mul(page_bytes))
}

/// The meaning of `kern.memorystatus_vm_pressure_level`: the bits of a dispatch source, not the kernel's own 0 to 4.
pub(crate) fn pressure(level: i32) -> Option<Pressure> {
    match level {
        1 => Some(Pressure::Normal),
        2 => Some(Pressure::Warn),
        4 => Some(Pressure::Critical),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: u64 = 16384;
    const SIXTEEN_GIB: u64 = 17_179_869_184;

    #[test]
    fn a_busy_16_gb_mac_has_what_activity_monitor_does_not_call_used() {
        // By hand: app memory 400,000 - 20,000 = 380,000 pages (5.80 GiB), wired 150,000 (2.29 GiB), compressed 200,000
        // (3.05 GiB): 730,000 of 1,048,576 pages are used (11.14 GiB), 318,576 are not (4.86 GiB).
        let pages = PageCounts { internal: 400_000, purgeable: 20_000, wired: 150_000, compressor: 200_000 };
        assert_eq!(available_bytes(SIXTEEN_GIB, pages, PAGE), 318_576 * 16_384);
        assert_eq!(available_bytes(SIXTEEN_GIB, pages, PAGE), 5_219_549_184);
    }

    #[test]
    fn a_mac_filled_by_live_programs_has_little_though_nothing_is_compressed() {
        // All but 40,000 pages are anonymous or wired. With 500,000 of them on the active queue and 100,000 on the inactive
        // one, sysinfo's formula (active + inactive + free) would promise over 9 GiB.
        let pages = PageCounts { internal: 868_576, purgeable: 0, wired: 140_000, compressor: 0 };
        assert_eq!(available_bytes(SIXTEEN_GIB, pages, PAGE), 40_000 * 16_384);
    }

    #[test]
    fn counts_beyond_what_there_is_leave_nothing() {
        let pages = PageCounts { internal: u64::MAX, purgeable: 0, wired: u64::MAX, compressor: u64::MAX };
        assert_eq!(available_bytes(SIXTEEN_GIB, pages, PAGE), 0);
        let contradictory = PageCounts { internal: 5, purgeable: 9, wired: 1, compressor: 1 };
        assert_eq!(available_bytes(10 * PAGE, contradictory, PAGE), 8 * PAGE);
    }

    #[test]
    fn the_pressure_level_is_read_as_the_dispatch_bits() {
        let seen: Vec<_> = (0..=5).map(pressure).collect();
        let (normal, warn, critical) = (Some(Pressure::Normal), Some(Pressure::Warn), Some(Pressure::Critical));
        assert_eq!(seen, [None, normal, warn, None, critical, None]);
        assert_eq!(pressure(-1), None);
    }

    proptest! {
        #[test]
        fn available_never_exceeds_the_total(
            total in any::<u64>(), internal in any::<u64>(), purgeable in any::<u64>(),
            wired in any::<u64>(), compressor in any::<u64>(),
        ) {
            let pages = PageCounts { internal, purgeable, wired, compressor };
            prop_assert!(available_bytes(total, pages, PAGE) <= total);
        }

        #[test]
        fn what_is_taken_from_the_free_pages_is_missing_from_what_is_available(
            internal in 0_u64..500_000, wired in 0_u64..200_000, compressor in 0_u64..200_000, taken in 0_u64..100_000,
        ) {
            let before = PageCounts { internal, purgeable: 0, wired, compressor };
            let after = PageCounts { internal: internal + taken, ..before };
            let fell = available_bytes(SIXTEEN_GIB, before, PAGE) - available_bytes(SIXTEEN_GIB, after, PAGE);
            prop_assert_eq!(fell, taken * PAGE);
        }
    }
}
