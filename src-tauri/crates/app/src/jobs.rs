//! Long work, apart from the queries: indexing on a thread of its own, conversions and installations in processes of their own,
//! each one at a time.
//!
//! A job is known from the moment it is asked for; it can be cancelled at any time, paused with all bulk work (an installation
//! also by itself), and is shown for a while after it has ended. The list does not survive the process: what was indexed is kept by
//! the index, and the next start goes on from there, as it does with installations, paused ones included ([`crate::agreed`]); of a
//! conversion nothing is left but what the next start sweeps away.
//!
//! ```text
//! commands, observer ─► board (what each is to do, what is told of it)
//!                         ├─► indexing ────► documents
//!                         ├─► conversions ─► converter process
//!                         └─► installs ────► hub, installer process
//! ```

mod board;
mod conversions;
mod indexing;
mod installs;
mod pace;
mod wish;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use embedbar_contract::{Failure, Job, JobHold, JobId, JobKind};
use embedbar_documents::Index;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use self::board::{Added, Board};
pub(crate) use self::conversions::megabytes;
pub(crate) use self::installs::{Ended, Files, Install, Verify, Work, Workshop};
#[cfg(test)]
pub(crate) use self::wish::Reason;
pub(crate) use self::wish::{Squeeze, Wish};
use crate::conversion::Conversion;
use crate::embedder::BulkEmbedder;
use crate::errand::ChildProgram;

/// Between two looks at whether the conversions have ended.
const POLL: Duration = Duration::from_millis(20);

/// Is told how many bytes of its source a conversion read per second, its comparison included.
pub(crate) type Converted = Arc<dyn Fn(f64) + Send + Sync>;

/// The jobs of an owner.
pub(crate) struct Jobs {
    board: Board,
    indexing: mpsc::Sender<indexing::Turn>,
    conversions: UnboundedSender<conversions::Turn>,
    installs: UnboundedSender<installs::Turn>,
    /// Whether the application is about to end: what is broken off by that goes on at the next start.
    stopping: Arc<AtomicBool>,
}

impl Jobs {
    /// Starts the thread that indexes and the tasks that convert and install. `changed` is told whenever a job moves; thread and task end
    /// with the last handle on their queues. Must be called on a tokio runtime.
    pub(crate) fn start(
        index: Index,
        embedder: BulkEmbedder,
        converter: ChildProgram,
        changed: Arc<Notify>,
        converted: Converted,
        workshop: Workshop,
    ) -> Result<Self, Failure> {
        let board = Board::new(changed);
        let indexing = indexing::start(board.clone(), index, embedder)?;
        let conversions = conversions::start(board.clone(), converter, converted);
        let stopping = Arc::new(AtomicBool::new(false));
        let installs = installs::start(board.clone(), workshop, stopping.clone());
        Ok(Self { board, indexing, conversions, installs, stopping })
    }

    /// Queues the indexing of `path`; a job for the same path that has not ended is returned instead of a second one.
    pub(crate) fn index(&self, path: PathBuf) -> Result<Job, Failure> {
        match self.board.add_index(path.clone())? {
            Added::Known(job) => Ok(job),
            Added::New(job, control) => {
                self.indexing
                    .send(indexing::Turn { id: job.id, path, control })
                    .map_err(|_| Failure::internal("the thread that indexes has ended; restart Embedbar"))?;
                Ok(job)
            }
        }
    }

    /// Queues a conversion; the same one that has not ended is returned instead of a second one.
    pub(crate) fn convert(&self, conversion: Conversion) -> Result<Job, Failure> {
        match self.board.add_conversion(conversion.clone())? {
            Added::Known(job) => Ok(job),
            Added::New(job, wishes) => {
                self.conversions
                    .send(conversions::Turn { id: job.id, conversion, wishes })
                    .map_err(|_| Failure::internal("the task that converts has ended; restart Embedbar"))?;
                Ok(job)
            }
        }
    }

    /// Queues an installation or a test; the same one that has not ended is returned instead of a second one.
    pub(crate) fn install(&self, work: Work) -> Result<Job, Failure> {
        let added = match &work {
            Work::Install(install) => self.board.add_install(&install.name, Some(&install.source), install.held)?,
            Work::Verify(verify) => self.board.add_install(&verify.model.id, None, false)?,
        };
        match added {
            Added::Known(job) => Ok(job),
            Added::New(job, wishes) => {
                self.installs
                    .send(installs::Turn { id: job.id, work, wishes })
                    .map_err(|_| Failure::internal("the task that installs has ended; restart Embedbar"))?;
                Ok(job)
            }
        }
    }

    pub(crate) fn cancel(&self, id: JobId) -> Result<(), Failure> {
        self.board.cancel(id)
    }

    /// Has one installation wait, or lets it go on.
    pub(crate) fn hold(&self, hold: JobHold) -> Result<(), Failure> {
        self.board.hold(hold)
    }

    /// Cancels all of them and waits until no child is left, which takes a few seconds at most.
    pub(crate) async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.board.close();
        while [JobKind::Convert, JobKind::Install, JobKind::Verify].iter().any(|kind| self.board.has_open(*kind)) {
            tokio::time::sleep(POLL).await;
        }
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.board.set_paused(paused);
    }

    /// Has what takes memory wait while it is short.
    pub(crate) fn set_memory_is_short(&self, short: bool) {
        self.board.set_memory_is_short(short);
    }

    pub(crate) fn paused(&self) -> bool {
        self.board.paused()
    }

    /// Whether something is being indexed, or is to be.
    pub(crate) fn indexing(&self) -> bool {
        self.board.has_open(JobKind::Index)
    }

    /// Newest first.
    pub(crate) fn snapshot(&self) -> Vec<Job> {
        self.board.snapshot()
    }
}
