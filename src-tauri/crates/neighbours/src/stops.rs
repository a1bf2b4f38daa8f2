//! Stopping containers so that exactly those run again afterwards, whatever happens to this program in between.
//!
//! ```text
//! all checked ─► journal: all chosen ─► for each: journal: asked ─► stop ─► journal: stopped
//!                start again: for each: wait if it may still be stopping ─► start ─► journal: without it
//! ```
//!
//! Containers are stopped one after the other, the one that was started last first, and started in the order in which they had been
//! started: what needs a database finds it. A container that was not running is refused, so that it is never started; `docker start
//! $(docker ps -aq)` starts those too. An engine's own restart policy does not interfere: it leaves alone what was stopped by hand.
//!
//! What is not here: a lock against another process. One owner of a home has one [`Stops`].

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::NeighboursError;
use crate::docker::{CallError, Docker, Inspected, Refusal};
use crate::journal::{Journal, Pending, Stage, is_id};

/// How long is waited for an engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For a container to start.
    pub start: Duration,
    /// For a container to stop, beyond the time after which the engine kills it.
    pub stop_margin: Duration,
    /// Between two looks.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { start: Duration::from_mins(1), stop_margin: Duration::from_secs(5), look: Duration::from_millis(250) }
    }
}

/// The containers that we stopped.
#[derive(Debug)]
pub struct Stops {
    /// A task that was dropped may still be writing.
    journal: Arc<std::sync::Mutex<Journal>>,
    patience: Patience,
    /// Stopping and starting take turns.
    turn: Mutex<()>,
}

/// What came of stopping one container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StopOutcome {
    /// The id that was given.
    pub id: String,
    /// Its name; empty where it has none.
    pub name: String,
    /// What was done.
    pub result: StopResult,
}

/// What came of stopping a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StopResult {
    /// It has stopped and will be started again.
    Stopped,
    /// It was left alone.
    Refused {
        /// Why.
        refusal: Refusal,
    },
    /// It still runs.
    Failed {
        /// Why.
        reason: String,
    },
    /// Whether it has stopped is not known. If it has, it will be started again.
    Unclear {
        /// Why.
        reason: String,
    },
}

/// What came of starting one container again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StartOutcome {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub result: StartResult,
}

/// What came of starting a container again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StartResult {
    /// It runs again.
    Started,
    /// It ran already.
    AlreadyRunning,
    /// Somebody has removed it; it is no longer on the list.
    Gone,
    /// It does not run. It stays on the list.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its engine cannot be reached. It stays on the list.
    EngineAway {
        /// Why, as a sentence.
        reason: String,
    },
}

impl StartResult {
    /// Whether nothing is left to be done.
    pub fn done(&self) -> bool {
        matches!(self, Self::Started | Self::AlreadyRunning | Self::Gone)
    }
}

impl Stops {
    /// With the journal in this file, which need not be there yet.
    pub fn new(journal: impl Into<PathBuf>) -> Self {
        Self::with_patience(journal, Patience::default())
    }

    /// With other deadlines.
    pub fn with_patience(journal: impl Into<PathBuf>, patience: Patience) -> Self {
        Self { journal: Arc::new(std::sync::Mutex::new(Journal::new(journal.into()))), patience, turn: Mutex::new(()) }
    }

    /// The containers that are to be started again.
    pub async fn pending(&self) -> Result<Vec<Pending>, NeighboursError> {
        self.with_journal(Journal::read).await
    }

    /// Takes containers off the list without starting them. How many were on it.
    pub async fn forget(&self, ids: &[String]) -> Result<usize, NeighboursError> {
        let _turn = self.turn.lock().await;
        let ids = ids.to_vec();
        self.with_journal(move |journal| {
            let mut list = journal.read()?;
            let before = list.len();
            list.retain(|pending| !ids.contains(&pending.id));
            journal.write(&list)?;
            Ok(before - list.len())
        })
        .await
    }

    /// Stops the chosen containers. None is stopped before all of them are on the list.
    ///
    /// An error means that the journal could not be read or written and nothing was stopped. Where it cannot be written any more half
    /// way, the rest is left running and says so.
    pub async fn stop(&self, docker: &Docker, chosen: &[String]) -> Result<Vec<StopOutcome>, NeighboursError> {
        let _turn = self.turn.lock().await;
        let mut outcomes = Vec::new();
        let mut stoppable: Vec<(String, Inspected)> = Vec::new();
        for id in chosen {
            if stoppable.iter().any(|(other, _)| other == id) || outcomes.iter().any(|o: &StopOutcome| o.id == *id) {
                continue;
            }
            match check(docker, id).await {
                Ok(inspected) => stoppable.push((id.clone(), inspected)),
                Err((name, result)) => outcomes.push(StopOutcome { id: id.clone(), name, result }),
            }
        }
        if stoppable.is_empty() {
            return Ok(outcomes);
        }
        stoppable.sort_by(|(_, one), (_, other)| other.started_at.cmp(&one.started_at));
        let socket = docker.socket().to_owned();
        let added: Vec<Pending> = stoppable
            .iter()
            .map(|(id, inspected)| Pending {
                id: id.clone(),
                name: inspected.name.clone(),
                socket: socket.clone(),
                started_at: inspected.started_at.clone(),
                stage: Stage::Chosen,
            })
            .collect();
        self.with_journal(move |journal| {
            let mut list = journal.read()?;
            // One that is left from before runs by now: it was checked.
            list.retain(|pending| !added.iter().any(|new| new.id == pending.id));
            list.extend(added);
            list.sort_by(|one, other| one.started_at.cmp(&other.started_at));
            journal.write(&list)
        })
        .await?;
        let mut broken: Option<String> = None;
        for (id, inspected) in stoppable {
            let result = match &broken {
                None => match self.stop_one(docker, &id, inspected.grace).await {
                    (result, Ok(())) => result,
                    (result, Err(error)) => {
                        broken = Some(error.to_string());
                        result
                    }
                },
                Some(reason) => StopResult::Failed { reason: reason.clone() },
            };
            tracing::info!(id, name = inspected.name, ?result, "asked the engine to stop a container");
            outcomes.push(StopOutcome { id, name: inspected.name, result });
        }
        Ok(outcomes)
    }

    /// Stops one container that is on the list, and says whether the journal still holds.
    async fn stop_one(&self, docker: &Docker, id: &str, grace: Duration) -> (StopResult, Result<(), NeighboursError>) {
        let asked = Stage::Asked { when_ms: now_ms(), grace_ms: grace.as_millis() as u64 };
        if let Err(error) = self.set(id, Some(asked)).await {
            return (StopResult::Failed { reason: error.to_string() }, Err(error));
        }
        let (result, verdict) = judge(docker, id, docker.stop(id, grace + self.patience.stop_margin).await).await;
        let kept = match verdict {
            Verdict::Known(stage) => self.set(id, stage).await,
            Verdict::Unknown => Ok(()),
        };
        (result, kept)
    }

    /// Starts what is on the list, and nothing else. What runs already, or has been removed, leaves the list; what cannot be started
    /// stays on it.
    pub async fn start_again(&self) -> Result<Vec<StartOutcome>, NeighboursError> {
        let _turn = self.turn.lock().await;
        let mut outcomes = Vec::new();
        let mut engines: Vec<(PathBuf, Result<Docker, String>)> = Vec::new();
        for pending in self.pending().await? {
            if !engines.iter().any(|(socket, _)| *socket == pending.socket) {
                let engine = Docker::connect(&pending.socket).await.map_err(|error| error.to_string());
                engines.push((pending.socket.clone(), engine));
            }
            let (_, engine) = engines
                .iter()
                .find(|(socket, _)| *socket == pending.socket)
                .expect("the engine was added above. This is a bug.");
            let result = match engine {
                Ok(docker) => self.start(docker, &pending).await,
                Err(reason) => StartResult::EngineAway { reason: reason.clone() },
            };
            if result.done() {
                self.set(&pending.id, None).await?;
            }
            tracing::info!(id = pending.id, name = pending.name, ?result, "started a container again");
            outcomes.push(StartOutcome { id: pending.id, name: pending.name, result });
        }
        Ok(outcomes)
    }

    /// Starts again what a program that ended before its time had stopped: for the next start of ours.
    ///
    /// An engine that starts with the session, as we do, may not be there yet: it is waited for, for `engine` at most.
    pub async fn recover(&self, engine: Duration) -> Result<Vec<StartOutcome>, NeighboursError> {
        let deadline = Instant::now() + engine;
        let mut all: Vec<StartOutcome> = Vec::new();
        loop {
            let outcomes = self.start_again().await?;
            let away = outcomes.iter().any(|outcome| matches!(outcome.result, StartResult::EngineAway { .. }));
            // The last word about each counts.
            all.retain(|old| !outcomes.iter().any(|new| new.id == old.id));
            all.extend(outcomes);
            if !away || Instant::now() >= deadline {
                return Ok(all);
            }
            sleep(self.patience.look).await;
        }
    }

    async fn start(&self, docker: &Docker, pending: &Pending) -> StartResult {
        // The engine may have been asked to stop it a moment ago by a program that was killed then. Docker says that it runs, and it
        // will not for long; podman says that it does not, and refuses to start it yet.
        let stopping = pending.stage.still_stopping(now_ms(), self.patience.stop_margin);
        let deadline = Instant::now() + stopping;
        loop {
            let last = Instant::now() >= deadline;
            match self.start_now(docker, &pending.id).await {
                StartResult::AlreadyRunning | StartResult::Failed { .. } if !last => sleep(self.patience.look).await,
                result => return result,
            }
        }
    }

    async fn start_now(&self, docker: &Docker, id: &str) -> StartResult {
        let started = match docker.inspect(id).await {
            Ok(inspected) if inspected.running => return StartResult::AlreadyRunning,
            Ok(_) => docker.start(id, self.patience.start).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(()) => StartResult::Started,
            Err(CallError::NotThere) => StartResult::Gone,
            Err(error) => StartResult::Failed { reason: error.sentence() },
        }
    }

    /// Changes one entry, or takes it off the list.
    async fn set(&self, id: &str, stage: Option<Stage>) -> Result<(), NeighboursError> {
        let id = id.to_owned();
        self.with_journal(move |journal| {
            let mut list = journal.read()?;
            match stage {
                None => list.retain(|pending| pending.id != id),
                Some(stage) => list.iter_mut().filter(|pending| pending.id == id).for_each(|one| one.stage = stage),
            }
            journal.write(&list)
        })
        .await
    }

    /// A flush can take long on a machine that swaps: not on a thread that others wait for.
    async fn with_journal<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<T, NeighboursError> + Send + 'static,
    ) -> Result<T, NeighboursError> {
        let journal = Arc::clone(&self.journal);
        let done =
            tokio::task::spawn_blocking(move || work(&journal.lock().unwrap_or_else(PoisonError::into_inner))).await;
        done.expect("the journal's work does not panic. This is a bug.")
    }
}

/// What is known after a stop.
enum Verdict {
    /// The entry's next stage, `None` where it leaves the list.
    Known(Option<Stage>),
    /// The entry stays as it is.
    Unknown,
}

/// What came of a stop, and what the journal says from now on.
async fn judge(docker: &Docker, id: &str, stopped: Result<(), CallError>) -> (StopResult, Verdict) {
    match stopped {
        Ok(()) => (StopResult::Stopped, Verdict::Known(Some(Stage::Stopped))),
        Err(CallError::NotThere) => (StopResult::Refused { refusal: Refusal::NotThere }, Verdict::Known(None)),
        // Without an answer it may stop at any moment: it stays on the list.
        Err(CallError::Lost(reason)) => (StopResult::Unclear { reason }, Verdict::Unknown),
        // An engine that gave up waiting may still get its way later, so this too stays on the list. If it does not, starting
        // again finds it running.
        Err(CallError::Said(reason)) => match docker.inspect(id).await {
            Ok(inspected) if inspected.running => (StopResult::Failed { reason }, Verdict::Unknown),
            Ok(_) => (StopResult::Stopped, Verdict::Known(Some(Stage::Stopped))),
            Err(_) => (StopResult::Unclear { reason }, Verdict::Unknown),
        },
    }
}

async fn check(docker: &Docker, id: &str) -> Result<Inspected, (String, StopResult)> {
    let refused = |refusal| StopResult::Refused { refusal };
    if !is_id(id) {
        return Err((String::new(), refused(Refusal::NotAnId)));
    }
    match docker.inspect(id).await {
        Ok(inspected) => match inspected.refusal {
            None => Ok(inspected),
            Some(refusal) => Err((inspected.name, refused(refusal))),
        },
        Err(CallError::NotThere) => Err((String::new(), refused(Refusal::NotThere))),
        Err(error) => Err((String::new(), StopResult::Failed { reason: error.sentence() })),
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
