//! The task that installs and verifies, one model after the other: fetched here, looked at and tested in a process of its own,
//! and put into the library by one rename.
//!
//! What a person pauses while it is being fetched leaves the line, so that the next one goes ahead; it comes to the end of the line
//! again when it is let go. What a child has in its hands waits where it is.
//!
//! ```text
//! download (resumes) ─► scratch: a tree of links ─► installer process: recognise, place, test ─► rename ─► library
//!                                                                                        └─► set aside, with its card
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use embedbar_contract::{Card, Failure, FailureCode, InstallRequest, ModelOrigin, OriginFile, Placing};
use embedbar_hub::choice::Kind;
use embedbar_hub::{HubClient, Target};
use embedbar_store::{Library, Model, write_card, write_origin};
use embedbar_wire::installer::{Brought, Done, Manner, Order};
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::board::{Board, Ending, RESUMABLE};
use super::wish::{Load, Reason, Wish};
use crate::agreed::Agreed;
use crate::arrivals::Download;
use crate::commands::blocking;
use crate::errand::{self, ChildProgram};
use crate::hub::{Hub, told};

/// A job that waits for its turn.
pub(super) struct Turn {
    pub(super) id: u64,
    pub(super) work: Work,
    pub(super) wishes: watch::Receiver<Wish>,
}

/// What is to be done.
pub(crate) enum Work {
    /// Install a model.
    Install(Box<Install>),
    /// Compare an installed model with what it was, and test it again.
    Verify(Verify),
}

/// An installation that a person has said yes to.
pub(crate) struct Install {
    /// As it was asked for.
    pub(crate) request: InstallRequest,
    /// The id that the model gets.
    pub(crate) name: String,
    /// Where it is from, for a person.
    pub(crate) source: String,
    /// Where its files are.
    pub(crate) files: Files,
    /// Whether it waits until a person lets it go on.
    pub(crate) held: bool,
}

/// Where the files of a model are.
pub(crate) enum Files {
    /// On this machine.
    Here(PathBuf),
    /// At the hub, or in its cache.
    Hub(HubClient, Box<Download>),
}

/// A model that is to be tested again.
pub(crate) struct Verify {
    /// The model.
    pub(crate) model: Model,
    /// Its folder, where its records are.
    pub(crate) folder: PathBuf,
    /// What its files were.
    pub(crate) files: Vec<OriginFile>,
    /// Whether it is set aside at present.
    pub(crate) aside: bool,
}

/// What an installation has come to, for whoever goes on from there.
pub(crate) struct Ended {
    /// As it was asked for.
    pub(crate) request: InstallRequest,
    /// The model's id; `None` where there is none.
    pub(crate) installed: Option<String>,
}

/// What the task works with.
pub(crate) struct Workshop {
    /// The program that looks into files.
    pub(crate) installer: ChildProgram,
    /// Where models go.
    pub(crate) library: Library,
    /// The hub.
    pub(crate) hub: Arc<Hub>,
    /// The home's folder for work in progress.
    pub(crate) scratch: PathBuf,
    /// The home's folder for matrices in the form that is computed with.
    pub(crate) packed: PathBuf,
    /// Installations that go on at the next start.
    pub(crate) agreed: Arc<Agreed>,
    /// Is told when an installation has ended, however it ended.
    pub(crate) ended: UnboundedSender<Ended>,
}

/// Starts the task; it ends with the last handle on its queue. `stopping` says whether the application is about to end.
pub(super) fn start(board: Board, workshop: Workshop, stopping: Arc<AtomicBool>) -> UnboundedSender<Turn> {
    let (queue, mut inbox) = unbounded_channel::<Turn>();
    let line = Arc::new(Line { board, workshop, stopping, queue: queue.downgrade() });
    tokio::spawn(async move {
        while let Some(turn) = inbox.recv().await {
            if let Some(held) = line.carry_out(turn).await {
                tokio::spawn(line.clone().keep(held));
            }
        }
    });
    queue
}

/// The line of jobs that wait for their turn.
struct Line {
    board: Board,
    workshop: Workshop,
    stopping: Arc<AtomicBool>,
    /// Its end. What is held must not keep the line open.
    queue: WeakUnboundedSender<Turn>,
}

impl Line {
    /// Does what there is to do; gives a job back that a person holds.
    async fn carry_out(&self, turn: Turn) -> Option<Turn> {
        if *turn.wishes.borrow() == Wish::Wait(Reason::Held) {
            return Some(turn);
        }
        let mut bench =
            Bench { board: &self.board, workshop: &self.workshop, id: turn.id, wishes: turn.wishes.clone() };
        let goes_on = self.board.begin(turn.id);
        match &turn.work {
            Work::Install(install) => {
                let outcome = if goes_on { bench.install(install).await.transpose() } else { None };
                if goes_on && outcome.is_none() {
                    self.board.put_back(turn.id);
                    return Some(turn);
                }
                self.close(turn.id, install, outcome);
            }
            Work::Verify(verify) if goes_on => {
                let outcome = bench.verify(verify).await;
                self.end(turn.id, &verify.model.id, outcome);
            }
            Work::Verify(_) => {}
        }
        None
    }

    /// Keeps a held job until it is let go, and puts it at the end of the line.
    async fn keep(self: Arc<Self>, mut turn: Turn) {
        let held = Wish::Wait(Reason::Held);
        let Ok(wish) = turn.wishes.wait_for(|wish| *wish != held).await.map(|wish| *wish) else { return };
        match (&turn.work, wish) {
            // Whoever is at work may take hours; this one has ended, and the board knows.
            (Work::Install(install), Wish::Stop) => self.close(turn.id, install, None),
            _ => {
                if let Some(queue) = self.queue.upgrade() {
                    // Nobody listens any more where the application ends.
                    let _ = queue.send(turn);
                }
            }
        }
    }

    /// An installation is over; `None` where it was cancelled before it began, which the board knows.
    fn close(&self, id: u64, install: &Install, outcome: Option<Result<String, Failure>>) {
        let installed = matches!(outcome, Some(Ok(_))).then(|| install.name.clone());
        let cancelled = |failure: &Failure| failure.code == FailureCode::Cancelled;
        let broken_off = outcome.as_ref().is_none_or(|it| it.as_ref().is_err_and(cancelled));
        // What ends because the program does goes on at the next start.
        if !(broken_off && self.stopping.load(Ordering::Relaxed)) {
            self.workshop.agreed.remove(id);
        }
        if let Some(outcome) = outcome {
            self.end(id, &install.name, outcome);
        }
        // Nobody listens any more where the application ends.
        let _ = self.workshop.ended.send(Ended { request: install.request.clone(), installed });
    }

    fn end(&self, id: u64, name: &str, outcome: Result<String, Failure>) {
        match &outcome {
            Ok(summary) => tracing::info!(model = name, summary, "installed or verified"),
            Err(failure) => tracing::warn!(model = name, %failure, "not installed or verified"),
        }
        let ending = match outcome {
            Ok(summary) => Ending::Done(summary),
            Err(failure) if failure.code == FailureCode::Cancelled => Ending::Cancelled(RESUMABLE.to_owned()),
            Err(failure) => Ending::Failed(failure),
        };
        self.board.end(id, ending);
    }
}

/// One job at work.
struct Bench<'a> {
    board: &'a Board,
    workshop: &'a Workshop,
    id: u64,
    wishes: watch::Receiver<Wish>,
}

impl Bench<'_> {
    /// Installs it and says so in a line; nothing where a person holds it.
    async fn install(&mut self, install: &Install) -> Result<Option<String>, Failure> {
        let scratch = self.workshop.scratch.join(self.id.to_string());
        let fetched = match &install.files {
            Files::Here(_) => None,
            Files::Hub(client, download) => match self.fetch(client, download).await? {
                Some(folder) => Some(folder),
                None => return Ok(None),
            },
        };
        // It may have been paused as the download ended: going on from there fetches nothing.
        if *self.wishes.borrow() == Wish::Wait(Reason::Held) {
            return Ok(None);
        }
        // From here on a model is opened, which takes memory.
        self.board.set_load(self.id, Load::Heavy);
        let staging = self.workshop.library.stage(&install.name)?;
        let (path, manner) = match (&install.files, &fetched) {
            (Files::Hub(_, download), Some(folder)) => {
                let (files, scratch) = (download.clone(), scratch.join("fetched"));
                let (folder, name) = (folder.clone(), install.name.clone());
                blocking(move || lay_out(&files, &folder, &scratch, &name)).await??
            }
            (Files::Here(path), _) if install.request.leave_in_place => (path.clone(), Manner::Link),
            (Files::Here(path), _) => (path.clone(), Manner::Copy),
            (Files::Hub(..), None) => return Err(Failure::internal("a download without a folder")),
        };
        let unpacked = scratch.join("unpacked");
        fs::create_dir_all(&unpacked).map_err(|error| unwritable(&unpacked, &error))?;
        let order = Order::Bring {
            path,
            scratch: unpacked,
            folder: staging.folder().to_owned(),
            id: install.name.clone(),
            manner,
            packed: self.workshop.packed.clone(),
        };
        let outcome = self.child(order).await;
        let (cleared, kept) = (scratch.clone(), staging.folder().to_owned());
        let outcome = match outcome {
            Ok(Done::Brought(brought)) => Ok(brought),
            Ok(_) => Err(Failure::internal("the installer has answered something else")),
            Err(failure) => Err(failure),
        };
        // Thousands of blocks of a large file are given back: not on a thread of the runtime.
        blocking(move || drop(fs::remove_dir_all(cleared))).await?;
        let brought = match outcome {
            Ok(brought) => brought,
            Err(failure) => {
                blocking(move || drop(fs::remove_dir_all(kept))).await?;
                return Err(failure);
            }
        };
        let Brought { inspection, placed, files, card } = *brought;
        let (commit, licence) = match &install.files {
            Files::Hub(_, download) => (Some(download.snapshot.commit.clone()), download.licence.clone()),
            Files::Here(_) => (None, None),
        };
        let origin = ModelOrigin {
            source: install.source.clone(),
            commit,
            licence: licence.or(inspection.licence),
            kind: inspection.kind,
            placed,
            installed_at: card.tested_at,
            files,
        };
        let (folder, fetched_to) = (staging.folder().to_owned(), fetched);
        let own_download =
            matches!(&install.files, Files::Hub(_, download) if matches!(download.target, Target::Folder(_)));
        let written = card.clone();
        let place = blocking(move || {
            write_origin(&folder, &origin)?;
            write_card(&folder, &written)?;
            let place = if written.passed { staging.install()? } else { staging.set_aside()? };
            if let Some(download) = fetched_to.filter(|_| own_download) {
                // The model has the files under names of its own.
                let _ = fs::remove_dir_all(download);
            }
            Ok::<PathBuf, Failure>(place)
        })
        .await??;
        if !card.passed {
            return Err(set_aside(&install.name, &card));
        }
        // As the list of models has it.
        let target = embedbar_store::model_in(&place).unwrap_or(place).display().to_string();
        self.board.edit(self.id, |entry| entry.job.target = Some(target));
        Ok(Some(summary(&card, placed)))
    }

    async fn verify(&mut self, verify: &Verify) -> Result<String, Failure> {
        self.board.set_load(self.id, Load::Heavy);
        let order = Order::Test {
            model: verify.model.path.clone(),
            folder: verify.folder.clone(),
            id: verify.model.id.clone(),
            files: verify.files.clone(),
            packed: self.workshop.packed.clone(),
        };
        let Done::Tested(card) = self.child(order).await? else {
            return Err(Failure::internal("the installer has answered something else"));
        };
        let (folder, id, written) = (verify.folder.clone(), verify.model.id.clone(), card.clone());
        let (library, aside, bundled) = (self.workshop.library.clone(), verify.aside, verify.model.bundled);
        blocking(move || {
            fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
            write_card(&folder, &written)?;
            match (written.passed, aside) {
                (true, true) => {
                    let found = library.set_aside().into_iter().find(|aside| aside.id == id);
                    found.map(|aside| library.unstage(&aside).install()).transpose()?;
                }
                // The bundled model is the last that there is: it is told and stays.
                (false, false) if !bundled => drop(library.set_installed_aside(&id)?),
                _ => {}
            }
            Ok::<(), Failure>(())
        })
        .await??;
        if card.passed { Ok(tested(&card)) } else { Err(set_aside(&verify.model.id, &card)) }
    }

    /// Brings the files of a download to where they are kept; nowhere where a person holds it, and what was fetched stays.
    async fn fetch(&mut self, client: &HubClient, download: &Download) -> Result<Option<PathBuf>, Failure> {
        let transfer = self.workshop.hub.begin(self.id);
        let mut progress = transfer.progress();
        let repository = download.snapshot.repository.to_string();
        let work = client.download(&download.snapshot, &download.target, &transfer);
        tokio::pin!(work);
        let mut held = false;
        let outcome = loop {
            match *self.wishes.borrow_and_update() {
                // The connections go to whoever is next.
                Wish::Wait(Reason::Held) => {
                    held = true;
                    transfer.cancel();
                }
                Wish::Go => transfer.resume(),
                Wish::Wait(_) => transfer.pause(),
                Wish::Stop => transfer.cancel(),
            }
            tokio::select! {
                outcome = &mut work => break outcome,
                Ok(()) = progress.changed() => {
                    let seen = *progress.borrow_and_update();
                    self.board.edit(self.id, |entry| {
                        entry.count_bytes(seen.done, seen.total);
                        entry.job.detail = format!("downloading {repository}");
                    });
                }
                Ok(()) = self.wishes.changed() => {}
            }
        };
        self.workshop.hub.end(self.id);
        match outcome.map_err(told) {
            Err(failure) if held && failure.code == FailureCode::Cancelled => Ok(None),
            Err(failure) => Err(failure),
            Ok(folder) => {
                let (hub, snapshot) = (self.workshop.hub.clone(), download.snapshot.clone());
                blocking(move || hub.first_use().record(&snapshot)).await?;
                Ok(Some(folder))
            }
        }
    }

    async fn child(&mut self, order: Order) -> Result<Done, Failure> {
        errand::turn(&mut self.wishes).await?;
        let (board, id) = (self.board, self.id);
        errand::run(&self.workshop.installer, order, &mut self.wishes, |progress| board.tell(id, progress)).await
    }
}

/// Lays the chosen files out as one model, whatever else lies beside them in a cache that others fill, too: by links into the
/// cache, or as further names of what was downloaded for this. What to bring, and how.
fn lay_out(download: &Download, folder: &Path, scratch: &Path, name: &str) -> Result<(PathBuf, Manner), Failure> {
    let is_ours = matches!(download.target, Target::Folder(_));
    let top = match download.choice.kind {
        Kind::Package => format!("{name}.mlpackage"),
        Kind::Checkpoint | Kind::Gguf => name.to_owned(),
    };
    let top = scratch.join(top);
    let within = Path::new(&download.choice.folder);
    let mut only = None;
    for file in &download.choice.files {
        let below = Path::new(file.as_str());
        let target = top.join(below.strip_prefix(within).unwrap_or(below));
        let parent = target.parent().unwrap_or(&top);
        fs::create_dir_all(parent).map_err(|error| unwritable(parent, &error))?;
        let source = folder.join(below);
        let laid = if is_ours { fs::hard_link(&source, &target) } else { std::os::unix::fs::symlink(&source, &target) };
        laid.map_err(|error| unwritable(&target, &error))?;
        if target.extension().is_some_and(|suffix| suffix == "gguf") {
            only = Some(target);
        }
    }
    let path = only.filter(|_| download.choice.kind == Kind::Gguf).unwrap_or(top);
    let manner = match (is_ours, download.choice.kind) {
        (true, _) => Manner::Take,
        // The system compiles a package as a whole; what it makes of links in it, nobody knows.
        (false, Kind::Package) => Manner::Copy,
        (false, _) => Manner::Link,
    };
    Ok((path, manner))
}

/// What came of an installation, in a line.
fn summary(card: &Card, placed: Placing) -> String {
    let placed = match placed {
        Placing::Cloned => "cloned, so that it takes no room of its own",
        Placing::Copied => "copied",
        Placing::Linked => "left where its files are",
        Placing::Moved => "moved into the library",
    };
    format!("{placed}; {}", tested(card))
}

fn tested(card: &Card) -> String {
    let dims = card.dims.map_or_else(String::new, |dims| format!("{dims} dimensions, "));
    let speed = card.tokens_per_second.map_or_else(String::new, |rate| format!(", {rate:.0} tokens a second"));
    format!("{dims}all {} checks passed{speed}", card.checks.len())
}

fn set_aside(name: &str, card: &Card) -> Failure {
    let reason = card.first_failure().unwrap_or_default();
    Failure::new(FailureCode::ModelInvalid, format!("`{name}` fails its self-test and is set aside: {reason}"))
        .hint(format!("It is never active. `embedbar show {name}` has its card; `embedbar remove {name}` removes it."))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureCode::Io, format!("`{}` cannot be written: {error}", path.display()))
        .hint("Check that the home is yours and that its disk is not full.")
}
