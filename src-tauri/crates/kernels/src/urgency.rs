//! For whom a thread computes, and how the system hears of it.
//!
//! A thread says it around a batch, [`with_urgency`], and the jobs that it gives to a [`Team`](crate::team::Team) meanwhile
//! are done for the same: it is the job that is urgent, and one team serves threads of both kinds.
//!
//! macOS takes it as a quality of service, in which a thread may go up and down as it likes. Linux is told nothing: what it
//! has for this is niceness, which a thread may raise but without privileges never lower again, and one that has computed
//! in the background once would stay there.

#![cfg_attr(target_os = "macos", expect(unsafe_code, reason = "calls of the C library"))]

use std::cell::Cell;

/// For whom a thread computes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// Somebody waits for it: macOS runs it on the fast cores.
    UserInitiated,
    /// It goes on in the background: macOS may run it on the efficient cores.
    Utility,
}

thread_local! {
    static CURRENT: Cell<Option<Urgency>> = const { Cell::new(None) };
}

/// For whom the calling thread said that it computes, if it did.
pub fn current() -> Option<Urgency> {
    CURRENT.get()
}

/// Does `work` on the calling thread, for whom `urgency` says; afterwards the thread computes for whom it did before, even if
/// `work` panics.
///
/// It is cheap enough for every batch: two calls of the system, a microsecond or so each, or none where the thread has this
/// urgency already or the system is not macOS. A thread whose policy was set by hand keeps that; its jobs are done for whom
/// it says nevertheless.
pub fn with_urgency<R>(urgency: Urgency, work: impl FnOnce() -> R) -> R {
    let previous = CURRENT.replace(Some(urgency));
    let _restored = (previous != Some(urgency)).then(|| Restore { previous, class: system::change(urgency) });
    work()
}

/// Puts back what was there before when it is dropped.
struct Restore {
    previous: Option<Urgency>,
    class: system::Class,
}

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.previous);
        system::restore(self.class);
    }
}

/// Has the calling thread compute for whom `urgency` says from now on: for threads that do nothing but jobs.
pub(crate) fn set(urgency: Urgency) {
    if CURRENT.replace(Some(urgency)) != Some(urgency) {
        system::change(urgency);
    }
}

/// Classes of the quality of service are numbers here: the system may know of more than are listed anywhere.
#[cfg(target_os = "macos")]
mod system {
    use std::ffi::{c_int, c_uint};

    use super::Urgency;

    pub(super) type Class = c_uint;

    unsafe extern "C" {
        safe fn qos_class_self() -> c_uint;
        safe fn pthread_set_qos_class_self_np(class: c_uint, relative_priority: c_int) -> c_int;
    }

    /// Tells the system, and gives the class that the thread had.
    pub(super) fn change(urgency: Urgency) -> Class {
        let previous = qos_class_self();
        let class = match urgency {
            Urgency::UserInitiated => libc::qos_class_t::QOS_CLASS_USER_INITIATED,
            Urgency::Utility => libc::qos_class_t::QOS_CLASS_UTILITY,
        };
        // It fails for a thread whose policy was set by hand, which then keeps it.
        pthread_set_qos_class_self_np(class as c_uint, 0);
        previous
    }

    pub(super) fn restore(class: Class) {
        // A thread that nobody classified cannot be made one again; the system runs those like the default class.
        let unspecified = libc::qos_class_t::QOS_CLASS_UNSPECIFIED as c_uint;
        let default = libc::qos_class_t::QOS_CLASS_DEFAULT as c_uint;
        pthread_set_qos_class_self_np(if class == unspecified { default } else { class }, 0);
    }
}

/// Systems that are told nothing.
#[cfg(not(target_os = "macos"))]
mod system {
    use super::Urgency;

    #[derive(Clone, Copy)]
    pub(super) struct Class;

    pub(super) fn change(_: Urgency) -> Class {
        Class
    }

    pub(super) fn restore(_: Class) {}
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    use super::*;

    #[test]
    fn an_urgency_lasts_as_long_as_the_work_and_may_be_nested() {
        assert_eq!(current(), None);
        let result = with_urgency(Urgency::Utility, || {
            assert_eq!(current(), Some(Urgency::Utility));
            with_urgency(Urgency::Utility, || assert_eq!(current(), Some(Urgency::Utility)));
            with_urgency(Urgency::UserInitiated, || assert_eq!(current(), Some(Urgency::UserInitiated)));
            assert_eq!(current(), Some(Urgency::Utility));
            7
        });
        assert_eq!((result, current()), (7, None));
    }

    #[test]
    fn a_panic_puts_back_what_was_there() {
        with_urgency(Urgency::UserInitiated, || {
            let result = catch_unwind(AssertUnwindSafe(|| with_urgency(Urgency::Utility, || panic!("in the batch"))));
            assert!(result.is_err());
            assert_eq!(current(), Some(Urgency::UserInitiated));
        });
    }

    #[test]
    fn other_threads_are_not_concerned() {
        with_urgency(Urgency::Utility, || {
            thread::scope(|scope| scope.spawn(|| assert_eq!(current(), None)).join().expect("no panic"));
        });
    }

    /// What the system would not let a thread take back without privileges.
    #[cfg(target_os = "linux")]
    #[test]
    fn linux_is_told_nothing_that_could_not_be_taken_back() {
        /// Policy, niceness and priority of the calling thread, as in proc(5).
        fn scheduling() -> Vec<String> {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it");
            let fields: Vec<&str> = stat.rsplit(')').next().expect("a rest").split_whitespace().collect();
            [15, 16, 37, 38].map(|field| fields[field].to_owned()).to_vec()
        }
        let before = scheduling();
        with_urgency(Urgency::Utility, || assert_eq!(scheduling(), before));
        assert_eq!(scheduling(), before);
    }
}
