//! The list of jobs: what each is told to do, and what a person is told of it. Starts nothing and runs nothing.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use embedbar_contract::{Failure, FailureCode, Job, JobHold, JobId, JobKind, JobState, JobUnit};
use embedbar_documents::Control;
use embedbar_wire::errand::Progress;
use tokio::sync::{Notify, watch};

use super::pace::{Pace, seconds_for};
use super::wish::{Everywhere, Load, Reason, Wish};
use crate::conversion::Conversion;

/// What is told of a job whose turn has not come.
const WAITING: &str = "waiting to start";

/// What is told of a cancelled installation.
pub(super) const RESUMABLE: &str = "cancelled; what was downloaded is kept and goes on when you ask again";

/// Ended jobs that are still shown.
const KEPT_ENDED: usize = 8;

/// What a job is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Task {
    /// Index a folder or file.
    Index(PathBuf),
    /// Convert a checkpoint.
    Convert(Conversion),
    /// Install the model `name` from somewhere.
    Install {
        /// As it was asked for.
        source: String,
        /// The id that it gets.
        name: String,
    },
    /// Test an installed model again.
    Verify {
        /// Its id.
        name: String,
    },
}

impl Task {
    fn load(&self) -> Load {
        match self {
            // Indexing uses the model that is there, a download the network.
            Self::Index(_) | Self::Install { .. } => Load::Light,
            Self::Convert(_) | Self::Verify { .. } => Load::Heavy,
        }
    }
}

/// How whoever carries a job out is told to wait or to stop.
enum Reins {
    Index(Control),
    Work(watch::Sender<Wish>),
}

impl Reins {
    fn pull(&self, wish: Wish) {
        match (self, wish) {
            (Self::Index(control), Wish::Go) => control.set_paused(false),
            (Self::Index(control), Wish::Wait(_)) => control.set_paused(true),
            (Self::Index(control), Wish::Stop) => control.cancel(),
            (Self::Work(sender), wish) => drop(sender.send_replace(wish)),
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// In its queue since then.
    Waiting(Instant),
    /// At work since then.
    Begun(Instant),
    /// In its queue once more, after it was at work first at that time.
    Again(Instant),
    /// Over, after that long.
    Ended(Duration),
}

/// A job.
pub(crate) struct Entry {
    pub(crate) job: Job,
    task: Task,
    load: Load,
    reins: Reins,
    wish: Wish,
    stage: Stage,
    pace: Pace,
}

/// How a job has ended.
pub(crate) enum Ending {
    /// As it should, with a line that says what came of it.
    Done(String),
    /// On request, with a line.
    Cancelled(String),
    /// On an error.
    Failed(Failure),
}

impl Entry {
    /// Follows a wish, unless there is nothing to be changed any more.
    fn follow(&mut self, wish: Wish) {
        if self.is_over() || self.wish == Wish::Stop {
            return;
        }
        self.wish = wish;
        self.job.state = wish.state();
        if wish != Wish::Go {
            self.pace.clear();
        }
        self.reins.pull(wish);
    }

    /// What it is to do under these circumstances, unless it was asked to stop.
    fn wanted(&self, everywhere: Everywhere) -> Wish {
        if self.job.held { Wish::Wait(Reason::Held) } else { Wish::of(self.load, everywhere) }
    }

    fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    fn elapsed(&self) -> Duration {
        match self.stage {
            Stage::Waiting(since) | Stage::Begun(since) | Stage::Again(since) => since.elapsed(),
            Stage::Ended(took) => took,
        }
    }

    /// Counts bytes, for a job that is told how far it is in them.
    pub(crate) fn count_bytes(&mut self, done: u64, total: u64) {
        (self.job.unit, self.job.done, self.job.total) = (JobUnit::Bytes, done, Some(total));
        // What a job says as it comes to rest belongs to no rate.
        if self.wish == Wish::Go {
            self.pace.record(done, Instant::now());
        }
    }

    fn end(&mut self, ending: Ending) {
        self.stage = Stage::Ended(self.elapsed());
        self.pace.clear();
        (self.job.state, self.job.detail) = match ending {
            Ending::Done(summary) => (JobState::Done, summary),
            Ending::Cancelled(summary) => (JobState::Cancelled, summary),
            Ending::Failed(failure) => {
                let message = failure.message.clone();
                (JobState::Failed { failure }, message)
            }
        };
    }

    fn snapshot(&self) -> Job {
        let mut job = Job { elapsed_ms: self.elapsed().as_secs_f64() * 1e3, ..self.job.clone() };
        job.bytes_per_second = self.pace.rate(Instant::now());
        let left = job.total.map(|total| total.saturating_sub(job.done));
        job.seconds_left = left.zip(job.bytes_per_second).and_then(|(left, rate)| seconds_for(left, rate));
        match self.wish {
            Wish::Wait(Reason::Memory) if !self.is_over() => "paused: memory is short".clone_into(&mut job.detail),
            Wish::Wait(Reason::Held) if !self.is_over() => match self.stage {
                // A child has it, which holds a model.
                Stage::Begun(_) if self.load == Load::Heavy => "paused; what is behind it waits, too",
                _ => "paused; the next one goes ahead",
            }
            .clone_into(&mut job.detail),
            _ => {}
        }
        job
    }
}

#[derive(Default)]
struct Registry {
    last_id: u64,
    everywhere: Everywhere,
    /// Whether nothing is taken any more, because the application is about to end.
    closed: bool,
    entries: VecDeque<Entry>,
}

impl Registry {
    /// Tells every job what it is to do now.
    fn tell_all(&mut self) {
        for entry in &mut self.entries {
            entry.follow(entry.wanted(self.everywhere));
        }
    }

    fn open(&self, is_it: impl Fn(&Task) -> bool) -> Option<&Entry> {
        self.entries.iter().find(|entry| !entry.is_over() && is_it(&entry.task))
    }

    fn forget_the_oldest(&mut self) {
        let mut ended = 0;
        self.entries.retain(|entry| {
            ended += usize::from(entry.is_over());
            !entry.is_over() || ended <= KEPT_ENDED
        });
    }
}

/// A job that was asked for.
pub(crate) enum Added<R> {
    /// There is one at it already.
    Known(Job),
    /// A new one; whoever carries it out listens to the reins.
    New(Job, R),
}

/// The list of jobs; a handle that can be copied.
#[derive(Clone)]
pub(crate) struct Board {
    registry: Arc<Mutex<Registry>>,
    changed: Arc<Notify>,
}

impl Board {
    /// An empty list. `changed` is told whenever a job moves.
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self { registry: Arc::default(), changed }
    }

    /// Adds the indexing of `path`.
    pub(crate) fn add_index(&self, path: PathBuf) -> Result<Added<Control>, Failure> {
        let title = path.display().to_string();
        let control = Control::default();
        self.add(&mut self.lock(), Task::Index(path), control.clone(), Reins::Index(control), |job| job.title = title)
    }

    /// Adds a conversion; refuses a second one to a target that another one is making.
    pub(crate) fn add_conversion(&self, conversion: Conversion) -> Result<Added<watch::Receiver<Wish>>, Failure> {
        let mut registry = self.lock();
        let target = &conversion.target;
        let rival =
            |task: &Task| matches!(task, Task::Convert(other) if other != &conversion && &other.target == target);
        if let Some(entry) = registry.open(rival) {
            return Err(Failure::new(
                FailureCode::Overloaded,
                format!("`{}` is being made by another conversion: {}", target.display(), entry.job.title),
            )
            .hint("Wait until it is done, cancel it, or name another target."));
        }
        let (title, target) = (conversion.title.clone(), target.display().to_string());
        self.add_work(&mut registry, Task::Convert(conversion), |job| {
            (job.kind, job.title, job.target) = (JobKind::Convert, title, Some(target));
        })
    }

    /// Adds the installation of the model `name` from `source`, or a test of an installed one where there is no source; refuses
    /// a second piece of work on the same model. One that is `held` waits until a person lets it go on.
    pub(crate) fn add_install(
        &self,
        name: &str,
        source: Option<&str>,
        held: bool,
    ) -> Result<Added<watch::Receiver<Wish>>, Failure> {
        let mut registry = self.lock();
        let name = name.to_owned();
        let task = match source {
            Some(source) => Task::Install { source: source.to_owned(), name: name.clone() },
            None => Task::Verify { name: name.clone() },
        };
        let rival = |other: &Task| match other {
            Task::Install { name: other_name, .. } | Task::Verify { name: other_name } => {
                *other_name == name && *other != task
            }
            Task::Index(_) | Task::Convert(_) => false,
        };
        if let Some(entry) = registry.open(rival) {
            let message = format!("`{name}` is being worked on already: {}", entry.job.title);
            return Err(Failure::new(FailureCode::Overloaded, message)
                .hint("Wait until that is done, cancel it, or choose another name."));
        }
        let (kind, title) = match source {
            Some(source) if source.ends_with(&name) => (JobKind::Install, format!("Install {source}")),
            Some(source) => (JobKind::Install, format!("Install {name} from {source}")),
            None => (JobKind::Verify, format!("Verify {name}")),
        };
        self.add_work(&mut registry, task, |job| {
            (job.kind, job.title, job.held) = (kind, title, held);
        })
    }

    fn add_work(
        &self,
        registry: &mut Registry,
        task: Task,
        describe: impl FnOnce(&mut Job),
    ) -> Result<Added<watch::Receiver<Wish>>, Failure> {
        let (sender, receiver) = watch::channel(Wish::Go);
        self.add(registry, task, receiver, Reins::Work(sender), |job| {
            job.unit = JobUnit::Bytes;
            describe(job);
        })
    }

    /// A job takes something else of the machine from now on.
    pub(crate) fn set_load(&self, id: u64, load: Load) {
        self.change(id, |entry| entry.load = load);
    }

    /// Has one job wait, or lets it go on; refuses what cannot wait by itself.
    pub(crate) fn hold(&self, JobHold { id, held }: JobHold) -> Result<(), Failure> {
        let told = self.change(id, |entry| match entry.job.kind {
            _ if entry.is_over() => Err(unknown(id)),
            JobKind::Install => {
                entry.job.held = held;
                Ok(())
            }
            _ => Err(Failure::new(FailureCode::InvalidRequest, format!("job {id} cannot be paused by itself"))
                .hint("Only installations can; pause all bulk work instead.")),
        });
        told.unwrap_or_else(|| Err(unknown(id)))
    }

    /// Changes one job, and tells it what it is to do now; `None` where there is none.
    fn change<T>(&self, id: u64, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut registry = self.lock();
        let everywhere = registry.everywhere;
        let changed = registry.entries.iter_mut().find(|entry| entry.job.id == id).map(|entry| {
            let changed = change(entry);
            entry.follow(entry.wanted(everywhere));
            changed
        });
        drop(registry);
        self.changed.notify_one();
        changed
    }

    fn add<R>(
        &self,
        registry: &mut Registry,
        task: Task,
        listener: R,
        reins: Reins,
        describe: impl FnOnce(&mut Job),
    ) -> Result<Added<R>, Failure> {
        if registry.closed {
            return Err(Failure::new(FailureCode::Cancelled, "Embedbar is about to end"));
        }
        if let Some(entry) = registry.open(|other| *other == task) {
            return Ok(Added::Known(entry.snapshot()));
        }
        registry.last_id += 1;
        let mut job = Job {
            id: registry.last_id,
            kind: JobKind::Index,
            title: String::new(),
            target: None,
            state: JobState::Running,
            held: false,
            unit: JobUnit::Files,
            done: 0,
            total: None,
            bytes_per_second: None,
            seconds_left: None,
            detail: WAITING.to_owned(),
            elapsed_ms: 0.0,
        };
        describe(&mut job);
        let load = task.load();
        let stage = Stage::Waiting(Instant::now());
        let mut entry = Entry { job, task, load, reins, wish: Wish::Go, stage, pace: Pace::default() };
        entry.follow(entry.wanted(registry.everywhere));
        let job = entry.snapshot();
        registry.entries.push_front(entry);
        registry.forget_the_oldest();
        self.changed.notify_one();
        Ok(Added::New(job, listener))
    }

    /// Says that a job's turn has come, be it again; false where it was cancelled while it waited.
    pub(crate) fn begin(&self, id: u64) -> bool {
        let mut registry = self.lock();
        let waiting = |entry: &&mut Entry| entry.job.id == id && !entry.is_over();
        match registry.entries.iter_mut().find(waiting) {
            Some(entry) => {
                entry.stage = match entry.stage {
                    Stage::Again(since) => Stage::Begun(since),
                    _ => Stage::Begun(Instant::now()),
                }
            }
            None => return false,
        }
        drop(registry);
        self.changed.notify_one();
        true
    }

    /// A job that was at work waits in its queue once more.
    pub(crate) fn put_back(&self, id: u64) {
        self.edit(id, |entry| {
            if let Stage::Begun(since) = entry.stage {
                entry.stage = Stage::Again(since);
                WAITING.clone_into(&mut entry.job.detail);
                if entry.wish == Wish::Stop {
                    stop(entry);
                }
            }
        });
    }

    /// Changes what is told of a job.
    pub(crate) fn edit(&self, id: u64, edit: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().entries.iter_mut().find(|entry| entry.job.id == id) {
            edit(entry);
        }
        self.changed.notify_one();
    }

    /// Passes on how far a child says that it is; a phase without a total leaves the count as it is.
    pub(crate) fn tell(&self, id: u64, progress: Progress) {
        self.edit(id, |entry| {
            if progress.bytes_total > 0 {
                entry.count_bytes(progress.bytes_done, progress.bytes_total);
            }
            entry.job.detail = match progress.item.as_str() {
                "" => progress.phase,
                item => format!("{} {item}", progress.phase),
            };
        });
    }

    /// Says how a job has ended.
    pub(crate) fn end(&self, id: u64, ending: Ending) {
        self.edit(id, |entry| entry.end(ending));
    }

    /// Asks a job to stop. One that waits for its turn has stopped with that.
    pub(crate) fn cancel(&self, id: JobId) -> Result<(), Failure> {
        let mut registry = self.lock();
        stop(registry.entries.iter_mut().find(|entry| entry.job.id == id.id).ok_or_else(|| unknown(id.id))?);
        drop(registry);
        self.changed.notify_one();
        Ok(())
    }

    /// Asks every job to stop and takes no more, because the application is about to end.
    pub(crate) fn close(&self) {
        let mut registry = self.lock();
        registry.closed = true;
        registry.entries.iter_mut().for_each(stop);
        drop(registry);
        self.changed.notify_one();
    }

    /// Pauses or resumes all of them.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut registry = self.lock();
        registry.everywhere.paused = paused;
        registry.tell_all();
        drop(registry);
        self.changed.notify_one();
    }

    /// Has those wait that take memory, or lets them go on.
    pub(crate) fn set_memory_is_short(&self, short: bool) {
        let mut registry = self.lock();
        if registry.everywhere.memory_is_short == short {
            return;
        }
        registry.everywhere.memory_is_short = short;
        registry.tell_all();
        drop(registry);
        self.changed.notify_one();
    }

    pub(crate) fn paused(&self) -> bool {
        self.lock().everywhere.paused
    }

    /// Whether a job of this kind has not ended.
    pub(crate) fn has_open(&self, kind: JobKind) -> bool {
        self.lock().entries.iter().any(|entry| entry.job.kind == kind && !entry.is_over())
    }

    /// Newest first.
    pub(crate) fn snapshot(&self) -> Vec<Job> {
        self.lock().entries.iter().map(Entry::snapshot).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("nobody panics while they hold the jobs. This is a bug.")
    }
}

fn unknown(id: u64) -> Failure {
    Failure::new(FailureCode::NotFound, format!("there is no job {id} at work"))
        .hint("It may have ended; `embedbar jobs` lists them.")
}

/// Asks a job to stop; one whose turn has not come has nothing to finish.
fn stop(entry: &mut Entry) {
    entry.follow(Wish::Stop);
    match entry.stage {
        Stage::Waiting(_) => entry.end(Ending::Cancelled("cancelled before it began".to_owned())),
        Stage::Again(_) => entry.end(Ending::Cancelled(RESUMABLE.to_owned())),
        Stage::Begun(_) | Stage::Ended(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use embedbar_contract::{ConvertFormat, ConvertPrecision};

    use super::*;

    fn conversion(source: &str, target: &str) -> Conversion {
        Conversion {
            title: format!("{source} to INT8 GGUF"),
            source: source.into(),
            target: target.into(),
            own_folder: None,
            precision: ConvertPrecision::Int8,
            format: ConvertFormat::Gguf,
        }
    }

    fn board() -> Board {
        Board::new(Arc::default())
    }

    fn added<R>(added: Added<R>) -> (u64, R) {
        match added {
            Added::New(job, listener) => (job.id, listener),
            Added::Known(job) => panic!("there is {job:?}"),
        }
    }

    fn job(board: &Board, id: u64) -> Job {
        board.snapshot().into_iter().find(|job| job.id == id).expect("it is on the board")
    }

    #[test]
    fn the_same_conversion_is_one_job_and_another_one_to_its_target_is_refused() {
        let board = board();
        let (id, _wishes) = added(board.add_conversion(conversion("/a", "/x.gguf")).expect("it is free"));
        let again = board.add_conversion(conversion("/a", "/x.gguf"));
        assert!(matches!(again, Ok(Added::Known(job)) if job.id == id));
        let Err(failure) = board.add_conversion(conversion("/b", "/x.gguf")) else { panic!("it is being made") };
        assert_eq!(failure.code, FailureCode::Overloaded);
        board.end(id, Ending::Done(String::new()));
        let (other, _wishes) = added(board.add_conversion(conversion("/b", "/x.gguf")).expect("it is free again"));
        assert_ne!(other, id);
    }

    #[test]
    fn short_memory_holds_conversions_and_says_so_while_indexing_goes_on() {
        let board = board();
        let (index, _control) = added(board.add_index("/docs".into()).expect("it is free"));
        let (id, wishes) = added(board.add_conversion(conversion("/a", "/x.gguf")).expect("it is free"));
        assert!(board.begin(id) && board.begin(index));
        board.set_memory_is_short(true);
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Memory));
        assert_eq!(job(&board, id).state, JobState::Paused);
        assert_eq!(job(&board, id).detail, "paused: memory is short");
        assert_eq!(job(&board, index).state, JobState::Running);
        board.set_paused(true);
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Person));
        assert_eq!(job(&board, index).state, JobState::Paused);
        board.set_paused(false);
        board.set_memory_is_short(false);
        assert_eq!(*wishes.borrow(), Wish::Go);
        assert_eq!(job(&board, id).state, JobState::Running);
        assert_ne!(job(&board, id).detail, "paused: memory is short");
    }

    #[test]
    fn a_job_that_is_added_while_memory_is_short_waits_from_the_beginning() {
        let board = board();
        board.set_memory_is_short(true);
        let (id, wishes) = added(board.add_conversion(conversion("/a", "/x.gguf")).expect("it is free"));
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Memory));
        assert_eq!(job(&board, id).state, JobState::Paused);
    }

    #[test]
    fn an_installation_waits_for_memory_only_once_it_opens_the_model() {
        let board = board();
        board.set_memory_is_short(true);
        let (id, wishes) = added(board.add_install("mine", Some("owner/mine"), false).expect("it is free"));
        assert_eq!(*wishes.borrow(), Wish::Go, "a download takes no memory");
        board.set_load(id, Load::Heavy);
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Memory));
        board.set_memory_is_short(false);
        assert_eq!(*wishes.borrow(), Wish::Go);
        assert!(matches!(board.add_install("mine", Some("owner/mine"), false), Ok(Added::Known(job)) if job.id == id));
        let Err(failure) = board.add_install("mine", Some("elsewhere"), false) else { panic!("it is being installed") };
        assert_eq!(failure.code, FailureCode::Overloaded);
        assert!(board.add_install("mine", None, false).is_err() && board.add_install("other", None, false).is_ok());
    }

    #[test]
    fn one_installation_is_held_alone_whatever_else_is_paused_or_short() {
        let board = board();
        let (id, wishes) = added(board.add_install("mine", Some("owner/mine"), false).expect("it is free"));
        let (other, others) = added(board.add_install("other", Some("owner/other"), false).expect("it is free"));
        board.hold(JobHold { id, held: true }).expect("it is an installation");
        for (paused, short) in [(true, false), (true, true), (false, true), (false, false)] {
            board.set_paused(paused);
            board.set_memory_is_short(short);
            assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Held));
        }
        assert!(job(&board, id).held && !job(&board, other).held);
        assert_eq!((job(&board, id).state, *others.borrow()), (JobState::Paused, Wish::Go));
        board.set_paused(true);
        board.hold(JobHold { id, held: false }).expect("it is an installation");
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Person), "what is paused with all stays so");
        board.set_paused(false);
        assert_eq!((*wishes.borrow(), job(&board, id).held), (Wish::Go, false));

        let (index, _control) = added(board.add_index("/docs".into()).expect("it is free"));
        let code = |held| board.hold(held).expect_err("it cannot be held").code;
        assert_eq!(code(JobHold { id: index, held: true }), FailureCode::InvalidRequest);
        board.end(id, Ending::Done(String::new()));
        assert_eq!(code(JobHold { id, held: true }), FailureCode::NotFound);
    }

    #[test]
    fn an_installation_that_is_added_held_waits_and_keeps_its_beginning_when_its_turn_comes_again() {
        let board = board();
        let (id, wishes) = added(board.add_install("mine", Some("owner/mine"), true).expect("it is free"));
        assert_eq!(*wishes.borrow(), Wish::Wait(Reason::Held));
        board.hold(JobHold { id, held: false }).expect("it is an installation");
        assert!(board.begin(id));
        std::thread::sleep(Duration::from_millis(30));
        board.put_back(id);
        assert!(board.begin(id) && job(&board, id).elapsed_ms >= 30.0);
    }

    #[test]
    fn a_cancel_cannot_be_taken_back_and_ends_at_once_what_has_not_begun() {
        let board = board();
        let (running, wishes) = added(board.add_conversion(conversion("/a", "/x.gguf")).expect("it is free"));
        let (waiting, _wishes) = added(board.add_conversion(conversion("/b", "/y.gguf")).expect("it is free"));
        assert!(board.begin(running));
        board.close();
        board.set_paused(true);
        board.set_paused(false);
        assert_eq!((*wishes.borrow(), job(&board, running).state), (Wish::Stop, JobState::Cancelling));
        assert_eq!(job(&board, waiting).state, JobState::Cancelled);
        assert!(!board.begin(waiting), "its turn never comes");
        let late = board.add_conversion(conversion("/c", "/z.gguf")).err().map(|failure| failure.code);
        assert_eq!(late, Some(FailureCode::Cancelled), "nothing new is taken while the application ends");
    }

    #[test]
    fn what_is_in_its_queue_once_more_is_cancelled_at_once() {
        let board = board();
        let (id, wishes) = added(board.add_install("mine", Some("owner/mine"), false).expect("it is free"));
        assert!(board.begin(id));
        board.edit(id, |entry| entry.count_bytes(5, 10));
        board.hold(JobHold { id, held: true }).expect("it is an installation");
        board.put_back(id);
        board.hold(JobHold { id, held: false }).expect("it is an installation");
        assert_eq!(job(&board, id).detail, WAITING);
        assert_eq!(*wishes.borrow(), Wish::Go);
        board.cancel(JobId { id }).expect("it is there");
        assert_eq!((job(&board, id).state, board.begin(id)), (JobState::Cancelled, false));
        // The same where the cancel came while it was still at work.
        let (id, _wishes) = added(board.add_install("mine", Some("owner/mine"), false).expect("it is free"));
        assert!(board.begin(id));
        board.cancel(JobId { id }).expect("it is there");
        assert_eq!(job(&board, id).state, JobState::Cancelling);
        board.put_back(id);
        assert_eq!(job(&board, id).state, JobState::Cancelled);
    }

    #[test]
    fn bytes_have_a_rate_and_an_end_only_while_they_move() {
        let board = board();
        let (id, _wishes) = added(board.add_conversion(conversion("/a", "/x.gguf")).expect("it is free"));
        assert!(board.begin(id));
        board.edit(id, |entry| entry.count_bytes(0, 1000));
        std::thread::sleep(Duration::from_millis(600));
        board.edit(id, |entry| entry.count_bytes(500, 1000));
        let running = job(&board, id);
        assert_eq!((running.unit, running.done, running.total), (JobUnit::Bytes, 500, Some(1000)));
        assert!(running.bytes_per_second.is_some_and(|rate| rate > 0.0 && rate < 1000.0), "{running:?}");
        assert!(running.seconds_left.is_some_and(|left| left > 0.5), "{running:?}");
        board.set_paused(true);
        board.edit(id, |entry| entry.count_bytes(510, 1000));
        let paused = job(&board, id);
        assert_eq!((paused.done, paused.bytes_per_second, paused.seconds_left), (510, None, None));
    }

    #[test]
    fn only_the_newest_of_those_that_have_ended_are_kept() {
        let board = board();
        let open = added(board.add_index("/open".into()).expect("it is free")).0;
        for number in 0..20 {
            let id = added(board.add_index(format!("/{number}").into()).expect("it is free")).0;
            board.end(id, Ending::Done(String::new()));
        }
        let last = added(board.add_index("/last".into()).expect("it is free")).0;
        let ids: Vec<u64> = board.snapshot().iter().map(|job| job.id).collect();
        assert_eq!((ids.len(), ids[0], ids.contains(&open)), (KEPT_ENDED + 2, last, true), "{ids:?}");
    }
}
