//! The most memory that this process has held at once.

#![allow(unsafe_code, reason = "getrusage has no safe wrapper among our dependencies")]

/// The highest resident size of this process so far, in bytes; mapped files that were read count, as the system counts them.
pub fn peak_resident_bytes() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the pointer is valid for one `rusage`, which the call fills where it returns 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    let peak = u64::try_from(usage.ru_maxrss).ok()?;
    // Kilobytes on Linux, bytes on macOS.
    Some(if cfg!(target_os = "macos") { peak } else { peak * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_grows_by_what_is_touched() {
        let before = peak_resident_bytes().expect("the system says it");
        let block = vec![1_u8; (before + (64 << 20)) as usize];
        assert!(std::hint::black_box(&block).iter().all(|byte| *byte == 1));
        let after = peak_resident_bytes().expect("the system says it");
        assert!(after >= before + (64 << 20), "{before} {after}");
    }
}
