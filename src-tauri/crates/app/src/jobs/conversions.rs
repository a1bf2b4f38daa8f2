//! The task that converts, one checkpoint after the other, each in a process of its own.

use std::time::Instant;

use embedbar_contract::{Failure, FailureCode};
use embedbar_wire::converter::Made;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::Converted;
use super::board::{Board, Ending};
use super::wish::Wish;
use crate::conversion::Conversion;
use crate::errand::{self, ChildProgram};

/// A job that waits for its turn.
pub(super) struct Turn {
    pub(super) id: u64,
    pub(super) conversion: Conversion,
    pub(super) wishes: watch::Receiver<Wish>,
}

/// Starts the task; it ends with the last handle on its queue.
pub(super) fn start(board: Board, program: ChildProgram, converted: Converted) -> UnboundedSender<Turn> {
    let (queue, mut inbox) = unbounded_channel::<Turn>();
    tokio::spawn(async move {
        while let Some(turn) = inbox.recv().await {
            if board.begin(turn.id) {
                run(&board, &program, &converted, turn).await;
            }
        }
    });
    queue
}

async fn run(board: &Board, program: &ChildProgram, converted: &Converted, turn: Turn) {
    let Turn { id, conversion, mut wishes } = turn;
    let began = Instant::now();
    let outcome = convert(board, program, id, &conversion, &mut wishes).await;
    log(&conversion, &outcome);
    if let Ok(made) = &outcome {
        // The whole of it, whatever phase came last.
        let bytes = made.bytes_read + made.bytes_written;
        board.edit(id, |entry| entry.count_bytes(bytes, bytes));
        converted(made.bytes_read as f64 / began.elapsed().as_secs_f64().max(1e-3));
    }
    board.end(
        id,
        match outcome {
            Ok(made) => Ending::Done(summary(&made)),
            Err(failure) if failure.code == FailureCode::Cancelled => {
                Ending::Cancelled("cancelled; nothing was left behind".to_owned())
            }
            Err(failure) => Ending::Failed(failure),
        },
    );
}

async fn convert(
    board: &Board,
    program: &ChildProgram,
    id: u64,
    conversion: &Conversion,
    wishes: &mut watch::Receiver<Wish>,
) -> Result<Made, Failure> {
    errand::turn(wishes).await?;
    conversion.make_folder()?;
    let outcome = errand::run(program, conversion.order(), wishes, |progress| board.tell(id, progress)).await;
    if outcome.is_err() {
        let conversion = conversion.clone();
        // Thousands of blocks of a large file are given back: not on a thread of the runtime.
        let _done = tokio::task::spawn_blocking(move || conversion.remove_debris()).await;
    }
    outcome
}

fn log(conversion: &Conversion, outcome: &Result<Made, Failure>) {
    let (source, target) = (conversion.source.display(), conversion.target.display());
    match outcome {
        Ok(made) => tracing::info!(%source, %target, bytes = made.bytes_written, sha256 = made.sha256, "converted"),
        Err(failure) => tracing::warn!(%source, %target, %failure, "not converted"),
    }
}

/// What came of it, in a line.
fn summary(made: &Made) -> String {
    let sizes = format!("{} from {}", megabytes(made.bytes_written), megabytes(made.bytes_read));
    [&[sizes], made.notes.as_slice()].concat().join("; ")
}

/// A file's size, as the panel and the command line write it.
pub(crate) fn megabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.1} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_sizes_and_what_a_person_should_know() {
        let made = |notes: &[&str]| Made {
            bytes_read: 8_040_000_000,
            bytes_written: 90_900_000,
            sha256: "00".to_owned(),
            notes: notes.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(summary(&made(&[])), "90.9 MB from 8.0 GB");
        assert_eq!(summary(&made(&["one", "two"])), "90.9 MB from 8.0 GB; one; two");
    }
}
