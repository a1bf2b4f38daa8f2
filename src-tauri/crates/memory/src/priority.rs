//! Has a thread step back behind the others.
//!
//! It is a one-way street on Linux, where only an administrator may raise a thread's priority again: for threads that end
//! with their work.
#![cfg_attr(target_os = "macos", allow(unsafe_code, reason = "the quality of service has no safe wrapper"))]

/// Gives the calling thread a low priority: on Linux the nice value 10, on macOS the quality of service "utility". Where
/// the system refuses, the thread goes on as it was.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    // Without a process named, Linux means the calling thread (setpriority(2), "C library/kernel differences").
    if let Err(error) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!(%error, "a thread could not step back");
    }
    #[cfg(target_os = "macos")]
    {
        // SAFETY: it takes no pointer and concerns the calling thread only.
        let status = unsafe { libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_UTILITY, 0) };
        if status != 0 {
            tracing::debug!(status, "a thread could not step back");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_steps_back_does() {
        let nice = || rustix::process::getpriority_process(None).expect("it can be asked");
        let before = nice();
        let inside = std::thread::spawn(move || {
            step_back();
            nice()
        });
        assert_eq!(inside.join().expect("it ends"), before.max(10));
        assert_eq!(nice(), before);
    }
}
