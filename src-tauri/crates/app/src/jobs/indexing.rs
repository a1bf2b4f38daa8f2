//! The thread that indexes, one folder after the other.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use embedbar_contract::{Failure, JobUnit};
use embedbar_documents::{Control, Index, Outcome};

use super::board::{Board, Ending};
use crate::embedder::BulkEmbedder;

/// A job that waits for its turn.
pub(super) struct Turn {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) control: Control,
}

/// Starts the thread; it ends with the last handle on its queue.
pub(super) fn start(board: Board, index: Index, embedder: BulkEmbedder) -> Result<mpsc::Sender<Turn>, Failure> {
    let (queue, inbox) = mpsc::channel::<Turn>();
    thread::Builder::new()
        .name("jobs".to_owned())
        .spawn(move || {
            for turn in inbox {
                if board.begin(turn.id) {
                    run(&board, &index, &embedder, &turn);
                }
            }
        })
        .map_err(|error| Failure::internal(format!("a thread cannot be started: {error}")))?;
    Ok(queue)
}

fn run(board: &Board, index: &Index, embedder: &BulkEmbedder, Turn { id, path, control }: &Turn) {
    // The index is told which generation to make; an idle model is woken for that.
    let woken = embedder.runtime.block_on(embedder.lifecycle.wake()).map(drop);
    let mut files = (0, None);
    let outcome = woken.and_then(|()| {
        index
            .refresh(path, embedder, control, &mut |progress| {
                files = (progress.files_done, progress.files_total);
                board.edit(*id, |entry| {
                    // Passages are counted once all files are read.
                    (entry.job.unit, entry.job.done, entry.job.total) = match progress.passages_total {
                        Some(total) => (JobUnit::Passages, progress.passages_done, Some(total)),
                        None => (JobUnit::Files, progress.files_done, progress.files_total),
                    };
                    entry.job.detail = progress.current.display().to_string();
                });
            })
            .map_err(Failure::from)
    });
    log(path, &outcome);
    board.edit(*id, |entry| (entry.job.unit, entry.job.done, entry.job.total) = (JobUnit::Files, files.0, files.1));
    board.end(
        *id,
        match outcome {
            Ok(outcome) if outcome.cancelled => Ending::Cancelled(summary(&outcome)),
            Ok(outcome) => Ending::Done(summary(&outcome)),
            Err(failure) => Ending::Failed(failure),
        },
    );
}

fn log(path: &Path, outcome: &Result<Outcome, Failure>) {
    match outcome {
        Ok(outcome) => tracing::info!(path = %path.display(), summary = summary(outcome), "indexed"),
        Err(failure) => tracing::warn!(path = %path.display(), %failure, "indexing failed"),
    }
}

fn summary(outcome: &Outcome) -> String {
    let Outcome { added, changed, unchanged, removed, skipped, chunks, .. } = outcome;
    format!(
        "{added} added, {changed} changed, {unchanged} unchanged, {removed} removed, {skipped} skipped, {chunks} passages"
    )
}
