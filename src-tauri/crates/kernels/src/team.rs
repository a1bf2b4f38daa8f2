//! A few threads that share one job after another, fork and join.
//!
//! It is for jobs of microseconds to milliseconds, of which a forward pass has some hundred: the threads look out for the
//! next job for a short time before they go to sleep, and the caller works as well. Items are handed out as they are asked
//! for; what no thread has begun the caller does itself, and it waits only for what others have begun, so that a thread
//! that the system has put aside costs nothing. It is no pool for tasks: there is one job at a time.

#![expect(unsafe_code, reason = "threads that outlive a job are lent what the job borrows")]

use std::{
    any::Any,
    cell::UnsafeCell,
    marker::PhantomData,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use crate::cores::Home;
use crate::urgency::{self, Urgency};

/// How a team is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a thread looks out for the next job, and the caller for the end of the last item, before it sleeps.
    pub spin: Duration,
    /// For whom jobs are done whose callers have not said it.
    pub urgency: Urgency,
}

impl Default for Options {
    fn default() -> Self {
        Self { spin: Duration::from_micros(50), urgency: Urgency::UserInitiated }
    }
}

/// Threads that compute together with whoever calls.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Whether a job is going on, whose items, or other threads, cannot start another.
    is_busy: AtomicBool,
    /// Of jobs whose callers have not said any.
    urgency: Urgency,
}

struct Worker {
    thread: Thread,
    is_asleep: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// What a job does with an item, on which thread.
type Function<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// What is being worked on. Written while there are no items left and none begun, read by who has taken an item.
struct Job {
    /// Valid as long as there are items left or begun.
    function: *const Function<'static>,
    items: usize,
    urgency: Urgency,
}

/// A line of its own, so that looking out for jobs does not slow down what lies next to it.
#[repr(align(128))]
struct Padded<T>(T);

struct Shared {
    /// How many items nobody has taken, in the upper half, and on how many workers items have begun, in the lower half.
    ///
    /// They are one number so that taking an item and having begun it cannot come apart.
    state: Padded<AtomicU64>,
    job: UnsafeCell<Job>,
    threads: usize,
    spin: Duration,
    is_over: AtomicBool,
    /// The caller, when it sleeps until the last item is done.
    waiting: Mutex<Option<Thread>>,
    is_waiting: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is written only while no thread may read it, and the function that it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; nothing else in it belongs to a thread.
unsafe impl Send for Shared {}

/// The two halves of [`Shared::state`].
#[derive(Clone, Copy)]
struct State {
    left: u64,
    running: u64,
}

impl State {
    fn of(bits: u64) -> Self {
        Self { left: bits >> 32, running: bits & u64::from(u32::MAX) }
    }

    fn bits(self) -> u64 {
        self.left << 32 | self.running
    }
}

impl Team {
    /// A team of `threads`, of which the caller is one; with one there is nobody else.
    ///
    /// # Panics
    ///
    /// If the system refuses a thread.
    pub fn new(threads: usize, options: Options) -> Self {
        let threads = threads.max(1);
        let nothing: &'static Function<'static> = &|_, _| {};
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            job: UnsafeCell::new(Job { function: nothing, items: 0, urgency: options.urgency }),
            threads,
            spin: options.spin,
            is_over: AtomicBool::new(false),
            waiting: Mutex::new(None),
            is_waiting: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let home = Home::of(threads);
        let workers = (1..threads).map(|number| Worker::start(number, &shared, home.clone())).collect();
        Self { shared, workers, is_busy: AtomicBool::new(false), urgency: options.urgency }
    }

    /// How many threads there are, the caller included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Calls `function` with each item, 0 to `items`, and the number of the thread that it is called on, and returns when
    /// all calls have.
    ///
    /// Numbers are below [`Self::threads`]; no two threads have the same, and that of the caller is 0. Items begin in order.
    /// While another job of the team goes on, whether it was started by another thread or by an item that calls this, the
    /// caller works alone.
    ///
    /// All of them compute for whom the caller does (see [`with_urgency`](urgency::with_urgency)). Where jobs of both kinds
    /// take turns, a thread that is woken for an urgent one may come late to the first: it knows of the urgency when it
    /// has an item. Until then the caller does the work itself.
    ///
    /// # Panics
    ///
    /// If a call does. Items that have not begun are left out then, and the others come to their end first. Also if there
    /// are 2^32 items or more.
    pub fn for_each(&self, items: usize, function: &Function<'_>) {
        assert!(u32::try_from(items).is_ok(), "fewer than 2^32 items");
        if items <= 1 || self.workers.is_empty() || self.is_busy.swap(true, SeqCst) {
            for item in 0..items {
                function(item, 0);
            }
            return;
        }
        self.publish(items, function);
        self.shared.work(0);
        self.shared.wait();
        let panic = self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_busy.store(false, SeqCst);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// [`Self::for_each`] that lends each thread one of the `states`.
    ///
    /// # Panics
    ///
    /// If there are fewer states than threads, or as [`Self::for_each`].
    pub fn for_each_with<S: Send>(&self, states: &mut [S], items: usize, function: impl Fn(usize, &mut S) + Sync) {
        assert!(states.len() >= self.threads(), "a state for each thread");
        let states = Parts::of(states);
        self.for_each(items, &|item, thread| {
            // SAFETY: no two threads have the same number.
            let state = unsafe { states.part(thread..thread + 1) };
            function(item, &mut state[0]);
        });
    }

    /// How many of `rows` a thread takes best at a time, where each is a microsecond or less: a quarter of its share, and not
    /// so few that another thread would need longer to begin.
    pub fn rows_at_a_time(&self, rows: usize) -> usize {
        const FEW: usize = 8;
        rows.div_ceil(self.threads() * 4).max(FEW)
    }

    /// [`Self::for_each`] over pieces of `numbers` of `length` each, the last of which may be shorter.
    ///
    /// # Panics
    ///
    /// If `length` is 0, or as [`Self::for_each`].
    pub fn for_each_piece<T: Send>(&self, numbers: &mut [T], length: usize, function: impl Fn(usize, &mut [T]) + Sync) {
        let total = numbers.len();
        let numbers = Parts::of(numbers);
        self.for_each(total.div_ceil(length), &|piece, _| {
            let first = piece * length;
            // SAFETY: pieces do not overlap, and each is one item.
            function(piece, unsafe { numbers.part(first..total.min(first + length)) });
        });
    }

    fn publish(&self, items: usize, function: &Function<'_>) {
        let function = std::ptr::from_ref(function);
        #[expect(clippy::transmute_ptr_to_ptr, reason = "a cast may not lengthen the lifetime of a trait object")]
        // SAFETY: the two types differ in a lifetime only, and `for_each` returns only after the last use.
        let function = unsafe { std::mem::transmute::<*const Function<'_>, *const Function<'static>>(function) };
        let urgency = urgency::current().unwrap_or(self.urgency);
        // SAFETY: there are no items, so that nobody reads it, and `is_busy` keeps other callers away.
        unsafe { *self.shared.job.get() = Job { function, items, urgency } };
        self.shared.state.0.store(State { left: items as u64, running: 0 }.bits(), SeqCst);
        // The caller does one item at least.
        let mut wanted = items - 1;
        for worker in &self.workers {
            if wanted == 0 {
                break;
            }
            // Who is awake finds the items itself.
            if worker.is_asleep.load(SeqCst) && worker.is_asleep.swap(false, SeqCst) {
                worker.thread.unpark();
            }
            wanted -= 1;
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        for worker in &mut self.workers {
            worker.thread.unpark();
            if let Some(handle) = worker.handle.take() {
                // It has caught the panics of the items, and has none of its own.
                handle.join().ok();
            }
        }
    }
}

impl Worker {
    fn start(number: usize, shared: &Arc<Shared>, home: Option<Home>) -> Self {
        let is_asleep = Arc::new(AtomicBool::new(false));
        let (for_thread, shared) = (is_asleep.clone(), shared.clone());
        let handle = thread::Builder::new()
            .name(format!("embedbar-compute-{number}"))
            .spawn(move || {
                if let Some(home) = home {
                    home.enter();
                }
                shared.serve(number, &for_thread);
            })
            .expect("a thread");
        Self { thread: handle.thread().clone(), is_asleep, handle: Some(handle) }
    }
}

impl Shared {
    /// What a worker does as long as there is a team.
    fn serve(&self, number: usize, is_asleep: &AtomicBool) {
        while self.look_out(is_asleep) {
            self.work(number);
        }
    }

    /// Returns when there are items, or false when the team is over.
    fn look_out(&self, is_asleep: &AtomicBool) -> bool {
        let mut spin = Spin::new(self.spin);
        loop {
            if State::of(self.state.0.load(SeqCst)).left > 0 {
                return true;
            }
            if self.is_over.load(SeqCst) {
                return false;
            }
            if spin.go_on() {
                continue;
            }
            is_asleep.store(true, SeqCst);
            // A job that was published before this was seen would not wake anybody.
            if State::of(self.state.0.load(SeqCst)).left == 0 && !self.is_over.load(SeqCst) {
                thread::park();
            }
            is_asleep.store(false, SeqCst);
            spin = Spin::new(self.spin);
        }
    }

    /// Takes items and does them until there are none; thread 0 is the caller.
    fn work(&self, thread: usize) {
        let mut has_begun = false;
        while let Some((Job { function, urgency, .. }, items)) = self.take(thread, has_begun) {
            if thread > 0 && !has_begun {
                urgency::set(*urgency);
            }
            has_begun = true;
            // SAFETY: the caller keeps the function until all that was begun is done.
            let function = unsafe { &**function };
            let result = catch_unwind(AssertUnwindSafe(|| {
                for item in items {
                    function(item, thread);
                }
            }));
            if let Err(panic) = result {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
                // Nobody is to begin another item.
                self.state.0.fetch_and(u64::from(u32::MAX), SeqCst);
            }
        }
    }

    /// The next items, or nothing if there are none left. `has_begun` is whether the thread has taken some before, which
    /// are done now.
    fn take(&self, thread: usize, has_begun: bool) -> Option<(&Job, Range<usize>)> {
        let is_worker = thread > 0;
        let mut bits = self.state.0.load(SeqCst);
        loop {
            let state = State::of(bits);
            // Several at a time while there are many.
            let count = (state.left / (8 * self.threads as u64)).max(1).min(state.left);
            let running = match (is_worker, has_begun, count > 0) {
                (true, false, true) => state.running + 1,
                (true, true, false) => state.running - 1,
                _ => state.running,
            };
            let next = State { left: state.left - count, running };
            if let Err(changed) = self.state.0.compare_exchange_weak(bits, next.bits(), SeqCst, SeqCst) {
                bits = changed;
                continue;
            }
            if count == 0 {
                if is_worker && has_begun && running == 0 {
                    self.wake_caller();
                }
                return None;
            }
            // SAFETY: an item was taken, so that the job stays as it is until it is done.
            let job = unsafe { &*self.job.get() };
            let first = job.items - state.left as usize;
            return Some((job, first..first + count as usize));
        }
    }

    /// Waits until no worker has begun an item that it has not done.
    fn wait(&self) {
        let is_done = || State::of(self.state.0.load(SeqCst)).running == 0;
        let mut spin = Spin::new(self.spin);
        while !is_done() {
            if spin.go_on() {
                continue;
            }
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
            self.is_waiting.store(true, SeqCst);
            while !is_done() {
                thread::park();
            }
            self.is_waiting.store(false, SeqCst);
        }
    }

    fn wake_caller(&self) {
        if self.is_waiting.load(SeqCst)
            && let Some(thread) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            thread.unpark();
        }
    }
}

/// Turns to wait before something that takes the system.
struct Spin {
    turns: u32,
    time: Duration,
    start: Option<Instant>,
}

impl Spin {
    /// Turns between two looks at the clock: about a microsecond.
    const TURNS: u32 = 32;

    fn new(time: Duration) -> Self {
        Self { turns: 0, time, start: None }
    }

    /// Waits a little, or says that the time is over.
    fn go_on(&mut self) -> bool {
        self.turns += 1;
        if self.turns.is_multiple_of(Self::TURNS) && self.start.get_or_insert_with(Instant::now).elapsed() >= self.time
        {
            return false;
        }
        std::hint::spin_loop();
        true
    }
}

/// A slice of which several threads change different parts.
pub(crate) struct Parts<'a, T> {
    first: *mut T,
    length: usize,
    borrowed: PhantomData<&'a mut [T]>,
}

// SAFETY: `part` hands each thread parts that no other has, and they may be sent there.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn of(slice: &'a mut [T]) -> Self {
        Self { first: slice.as_mut_ptr(), length: slice.len(), borrowed: PhantomData }
    }

    /// # Safety
    ///
    /// Nothing else refers to a part that overlaps.
    #[expect(clippy::mut_from_ref, reason = "that is what it is for")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "within the slice");
        // SAFETY: it lies within the slice, which is borrowed as long as `self`, and the caller has it alone.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn team(threads: usize) -> Team {
        Team::new(threads, Options::default())
    }

    #[test]
    fn each_item_is_done_once_whatever_the_numbers() {
        for threads in [1, 2, 3, 8] {
            // Without turns every job wakes the threads anew.
            for spin in [Duration::ZERO, Duration::from_micros(50)] {
                let team = Team::new(threads, Options { spin, ..Options::default() });
                for items in [0, 1, 2, 3, 7, 100, 1000] {
                    let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                    for _ in 0..20 {
                        team.for_each(items, &|item, thread| {
                            assert!(thread < threads);
                            counts[item].fetch_add(1, Relaxed);
                        });
                    }
                    assert!(counts.iter().all(|count| count.load(Relaxed) == 20), "{threads} threads, {items} items");
                }
            }
        }
    }

    #[test]
    fn many_tiny_jobs_see_what_the_last_one_wrote() {
        let team = team(3);
        let mut sums = vec![0_u64; 5];
        for job in 0..20_000_u64 {
            team.for_each_piece(&mut sums, 1, |_, sum| sum[0] += job);
        }
        assert_eq!(sums, [19_999 * 10_000; 5]);
    }

    #[test]
    fn no_two_threads_have_the_same_number_at_a_time() {
        let team = team(4);
        let mut states = vec![(0_usize, false); 4];
        for _ in 0..200 {
            team.for_each_with(&mut states, 50, |_, (count, is_used)| {
                assert!(!*is_used);
                *is_used = true;
                *count += 1;
                std::hint::spin_loop();
                *is_used = false;
            });
        }
        assert_eq!(states.iter().map(|(count, _)| count).sum::<usize>(), 200 * 50);
    }

    #[test]
    fn the_threads_take_part_and_have_names() {
        let team = team(3);
        let names = Mutex::new(std::collections::BTreeSet::new());
        // Nobody returns before all three are there.
        let all = std::sync::Barrier::new(3);
        team.for_each(3, &|_, _| {
            names.lock().unwrap().insert(thread::current().name().map(str::to_owned));
            all.wait();
        });
        let names = names.into_inner().unwrap();
        for name in ["embedbar-compute-1", "embedbar-compute-2"] {
            assert!(names.contains(&Some(name.to_owned())), "{names:?}");
        }
    }

    #[test]
    fn a_job_wakes_threads_that_have_gone_to_sleep() {
        let team = Team::new(2, Options { spin: Duration::ZERO, ..Options::default() });
        for _ in 0..5 {
            while !team.workers[0].is_asleep.load(SeqCst) {
                thread::yield_now();
            }
            let both = std::sync::Barrier::new(2);
            team.for_each(2, &|_, _| {
                both.wait();
            });
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_after_all_have_stopped() {
        for threads in [1, 2, 4] {
            let team = team(threads);
            for bad in [0, 1, 50, 99] {
                let running = AtomicUsize::new(0);
                let result = catch_unwind(AssertUnwindSafe(|| {
                    team.for_each(100, &|item, _| {
                        running.fetch_add(1, SeqCst);
                        if item == bad {
                            running.fetch_sub(1, SeqCst);
                            panic!("item {item}");
                        }
                        thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    });
                }));
                assert_eq!(running.load(SeqCst), 0);
                assert_eq!(result.unwrap_err().downcast_ref::<String>(), Some(&format!("item {bad}")));
                // And it can go on.
                let count = AtomicUsize::new(0);
                team.for_each(100, &|_, _| {
                    count.fetch_add(1, Relaxed);
                });
                assert_eq!(count.load(Relaxed), 100);
            }
        }
    }

    #[test]
    fn after_a_panic_no_more_items_are_taken() {
        let team = team(2);
        let begun = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            team.for_each(400, &|item, _| {
                begun.fetch_add(1, Relaxed);
                if item == 0 {
                    // Without the message, whose backtrace takes as long as all the other items.
                    resume_unwind(Box::new("item 0"));
                }
                thread::sleep(Duration::from_micros(100));
            });
        }));
        assert!(result.is_err());
        // Both had taken some: the sixteenth part of what was left.
        assert!(begun.load(Relaxed) < 200);
    }

    #[test]
    fn items_may_start_jobs_and_drop_teams() {
        let outer = team(3);
        let count = AtomicUsize::new(0);
        outer.for_each(10, &|_, _| {
            outer.for_each(10, &|_, thread| {
                assert_eq!(thread, 0);
                count.fetch_add(1, Relaxed);
            });
            let inner = team(2);
            inner.for_each(10, &|_, _| {
                count.fetch_add(1, Relaxed);
            });
            drop(inner);
        });
        assert_eq!(count.load(Relaxed), 200);
    }

    #[test]
    fn several_threads_may_call_one_team() {
        let team = team(3);
        let count = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        team.for_each(7, &|_, _| {
                            count.fetch_add(1, Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(Relaxed), 4 * 500 * 7);
    }

    #[test]
    fn the_caller_sleeps_while_a_worker_is_long_and_is_woken() {
        let team = Team::new(2, Options { spin: Duration::ZERO, ..Options::default() });
        for _ in 0..20 {
            let both = std::sync::Barrier::new(2);
            team.for_each(2, &|_, thread| {
                both.wait();
                if thread == 1 {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    }

    /// Urgencies of all three threads of a team while they do a job.
    fn urgencies(team: &Team) -> Vec<Option<Urgency>> {
        let found = Mutex::new(Vec::new());
        let all = std::sync::Barrier::new(3);
        team.for_each(3, &|_, thread| {
            // Nobody returns before all three are there.
            all.wait();
            found.lock().unwrap().push((thread, urgency::current()));
        });
        let mut found = found.into_inner().unwrap();
        found.sort_by_key(|&(thread, _)| thread);
        found.into_iter().map(|(_, urgency)| urgency).collect()
    }

    #[test]
    fn a_job_is_done_for_whom_its_caller_computes() {
        let team = team(3);
        for urgency in [Urgency::Utility, Urgency::UserInitiated, Urgency::Utility] {
            let found = urgency::with_urgency(urgency, || urgencies(&team));
            assert_eq!(found, [Some(urgency); 3]);
            // The caller has said nothing any more.
            assert_eq!(urgencies(&team), [None, Some(Urgency::UserInitiated), Some(Urgency::UserInitiated)]);
        }
        let background = Team::new(3, Options { urgency: Urgency::Utility, ..Options::default() });
        assert_eq!(urgencies(&background), [None, Some(Urgency::Utility), Some(Urgency::Utility)]);
    }

    #[test]
    fn callers_of_two_kinds_do_not_change_each_others_jobs() {
        let team = team(3);
        thread::scope(|scope| {
            for urgency in [Urgency::Utility, Urgency::UserInitiated] {
                let team = &team;
                scope.spawn(move || {
                    urgency::with_urgency(urgency, || {
                        for _ in 0..2_000 {
                            team.for_each(8, &|_, _| assert_eq!(urgency::current(), Some(urgency)));
                        }
                    });
                });
            }
        });
    }

    #[test]
    fn teams_come_and_go() {
        for threads in 0..30 {
            let team = team(threads % 5);
            if threads % 2 == 0 {
                team.for_each(3, &|_, _| {});
            }
        }
    }
}
