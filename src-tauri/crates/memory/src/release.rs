//! Gives the memory that this process's allocator holds without need back to the system.
//!
//! It returns no figure on purpose: what it gave back is the difference of two readings, taken by the caller. It does
//! nothing about weights: only the end of the worker process gives those back.
#![allow(unsafe_code, reason = "the allocators' own calls have no safe wrapper")]

/// Asks the allocator to return what it keeps: `malloc_trim` of glibc, `malloc_zone_pressure_relief` of macOS; elsewhere
/// nothing happens. It may take some tens of milliseconds.
pub fn release_unused() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes no pointer and may be called from any thread at any time.
        let released = unsafe { libc::malloc_trim(0) };
        tracing::debug!(released = released != 0, "asked the allocator for what it does not need");
    }
    #[cfg(target_os = "macos")]
    {
        // SAFETY: a null zone means all zones, a goal of 0 means as much as possible; it may be called from any thread.
        let released_bytes = unsafe { malloc_zone_pressure_relief(std::ptr::null_mut(), 0) };
        tracing::debug!(released_bytes, "asked the allocator for what it does not need");
    }
}

/// Has the allocator give every large block back to the system as soon as it is freed, for the rest of this process's life: for
/// programs that go through many of them one after the other and may not grow.
///
/// glibc otherwise keeps blocks of up to 32 MB for later once it has seen one go. Elsewhere nothing happens.
pub fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 1 << 20;
        // SAFETY: it takes no pointer and may be called at any time.
        let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
        tracing::debug!(set = set != 0, "large blocks are mapped by themselves");
    }
}

#[cfg(target_os = "macos")]
unsafe extern "C" {
    /// <https://github.com/apple-oss-distributions/libmalloc>, `include/malloc/malloc.h`; the libc crate lacks it.
    fn malloc_zone_pressure_relief(zone: *mut libc::malloc_zone_t, goal: libc::size_t) -> libc::size_t;
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_can_be_asked_at_any_time_and_twice() {
        let kept = vec![1_u8; 1 << 20];
        super::release_unused();
        super::release_unused();
        assert!(kept.iter().all(|byte| *byte == 1));
    }
}
