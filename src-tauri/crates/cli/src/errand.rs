//! One long piece of work for an owner, who speaks to this process in lines of JSON ([`embedbar_wire::errand`]).
//!
//! It has a process of its own so that it can be killed at any moment, and so that the system's killer takes it and not the menu
//! bar. The end of its input means that the owner is gone: it cancels, and ends even where that takes too long.
//!
//! What is not here: the work itself ([`crate::converter`], [`crate::installer`]), any queue.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use embedbar_contract::Failure;
use embedbar_wire::Role;
use embedbar_wire::errand::{Begin, FromChild, Progress, ToChild, from_line, to_line};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Between two lines of progress.
const INTERVAL: Duration = Duration::from_millis(100);

/// How long a child without an owner may take to clean up.
const FAREWELL: Duration = Duration::from_millis(500);

/// Higher is humbler: whoever waits for an answer goes first.
const NICENESS: i32 = 10;

/// Is called after each block and may take its time; [`ControlFlow::Break`] cancels.
pub(crate) type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Carries out the one order that comes.
pub(crate) fn run<Order: DeserializeOwned, Done: Serialize>(
    work: impl FnOnce(Order, Watch) -> Result<Done, Failure>,
) -> anyhow::Result<()> {
    let _logging = embedbar_app::log_to_standard_error();
    embedbar_memory::return_large_blocks();
    // It is a courtesy: a system that refuses it works all the same.
    let _ = rustix::process::nice(NICENESS);
    say(&match carry_out(work) {
        Ok(done) => FromChild::Done(done),
        Err(failure) => FromChild::Failed(failure),
    })
    .context("the owner does not listen any more")
}

fn carry_out<Order: DeserializeOwned, Done>(
    work: impl FnOnce(Order, Watch) -> Result<Done, Failure>,
) -> Result<Done, Failure> {
    let Begin { owner, order } = first_line()?;
    owner.check(Role::Owner)?;
    let reins = Arc::new(Reins::default());
    let listener = reins.clone();
    thread::Builder::new()
        .name("owner".to_owned())
        .spawn(move || listen_until_the_owner_is_gone(&listener))
        .map_err(|error| Failure::internal(format!("a thread cannot be started: {error}")))?;
    let mut teller = Teller::default();
    work(order, &mut |progress| {
        if teller.tell(progress).is_err() {
            return ControlFlow::Break(()); // the owner is gone
        }
        reins.go_on()
    })
}

fn first_line<Order: DeserializeOwned>() -> Result<Begin<Order>, Failure> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(|error| Failure::internal(format!("there is no order: {error}")))?;
    match from_line(&line) {
        Ok(ToChild::Begin(begin)) => Ok(begin),
        Ok(_) => Err(Failure::internal("the owner said something else before its order")),
        Err(error) => Err(Failure::internal(format!(
            "the order is not understood: {error}. `embedbar converter` and `embedbar installer` are started by Embedbar itself; \
             `embedbar convert` and `embedbar install` are for people"
        ))),
    }
}

fn listen_until_the_owner_is_gone(reins: &Reins) {
    for line in io::stdin().lines() {
        let Ok(line) = line else { break };
        match from_line::<ToChild<serde_json::Value>>(&line) {
            Ok(ToChild::Pause) => reins.set(Wish::Wait),
            Ok(ToChild::Resume) => reins.set(Wish::Go),
            Ok(ToChild::Cancel) => reins.set(Wish::Stop),
            Ok(ToChild::Begin(_)) | Err(_) => tracing::warn!("the owner said something that is not understood"),
        }
    }
    reins.set(Wish::Stop);
    // After the last word this is never reached: the process ends first.
    thread::sleep(FAREWELL);
    std::process::exit(1);
}

/// What the owner wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Wish {
    #[default]
    Go,
    Wait,
    Stop,
}

/// The owner's wish, for whoever works.
#[derive(Default)]
struct Reins {
    wish: Mutex<Wish>,
    changed: Condvar,
}

impl Reins {
    /// Takes a wish over. A stop stays one.
    fn set(&self, wish: Wish) {
        let mut present = self.lock();
        if *present != Wish::Stop {
            *present = wish;
        }
        self.changed.notify_all();
    }

    /// Waits while the owner wants that, and says whether to go on.
    fn go_on(&self) -> ControlFlow<()> {
        let present = self.lock();
        let present = self.changed.wait_while(present, |wish| *wish == Wish::Wait);
        match *present.expect("nobody panics while they hold the wish. This is a bug.") {
            Wish::Stop => ControlFlow::Break(()),
            Wish::Go | Wish::Wait => ControlFlow::Continue(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wish> {
        self.wish.lock().expect("nobody panics while they hold the wish. This is a bug.")
    }
}

/// Tells the owner how far it is, not too often.
#[derive(Default)]
struct Teller {
    last: Option<(Instant, String)>,
}

impl Teller {
    fn tell(&mut self, progress: Progress) -> io::Result<()> {
        if !self.is_due(&progress, Instant::now()) {
            return Ok(());
        }
        say(&FromChild::<()>::Progress(progress))
    }

    /// Whether to say it: after a while, and at once where a phase begins or the end is reached.
    fn is_due(&mut self, progress: &Progress, now: Instant) -> bool {
        let is_over = progress.bytes_done == progress.bytes_total;
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, phase)| is_over || *phase != progress.phase || now.duration_since(*at) >= INTERVAL);
        if due {
            self.last = Some((now, progress.phase.clone()));
        }
        due
    }
}

fn say(message: &FromChild<impl Serialize>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(to_line(message)?.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_waits_while_it_is_paused_and_a_stop_stays_one() {
        let reins = Reins::default();
        assert!(reins.go_on().is_continue());
        reins.set(Wish::Wait);
        thread::scope(|scope| {
            let working = scope.spawn(|| reins.go_on());
            thread::sleep(Duration::from_millis(50));
            assert!(!working.is_finished(), "it waits");
            reins.set(Wish::Go);
            assert!(working.join().expect("it does not panic").is_continue());
        });
        reins.set(Wish::Stop);
        reins.set(Wish::Wait);
        assert!(reins.go_on().is_break());
    }

    #[test]
    fn progress_is_told_at_intervals_and_wherever_a_phase_begins() {
        let (start, mut teller) = (Instant::now(), Teller::default());
        let mut due = |milliseconds: u64, phase: &str, bytes_done: u64| {
            let progress = Progress { phase: phase.to_owned(), item: String::new(), bytes_done, bytes_total: 100 };
            teller.is_due(&progress, start + Duration::from_millis(milliseconds))
        };
        let told =
            [due(0, "a", 1), due(50, "a", 2), due(120, "a", 3), due(130, "b", 4), due(140, "b", 5), due(150, "b", 100)];
        assert_eq!(told, [true, false, true, true, false, true]);
    }
}
