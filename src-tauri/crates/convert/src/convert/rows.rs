//! Rows of a block through all processors: decoded, and handed on in their order.
//!
//! Rows are independent of each other. Each thread gets neighbouring rows and a state of its own, so that how rows are divided
//! shows nowhere but in the time that it takes.

use std::num::NonZero;
use std::ops::Range;
use std::thread;

use crate::ConvertError;
use crate::checkpoint::{Shard, Tensor};
use crate::decode::Decoder;
use crate::quantise::OutOfRange;
use crate::stream::Block;

/// More threads than this would only wait for the disk.
const MOST: usize = 4;

/// The threads' decoders.
pub(super) struct Crew {
    decoders: Vec<Decoder>,
}

/// The tensor that a block is of, and what it becomes.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) shard: &'a Shard,
    pub(super) tensor: &'a Tensor,
    /// Rows that are wanted; the others are passed over.
    pub(super) first: usize,
    pub(super) end: usize,
    /// For messages.
    pub(super) stored_as: &'static str,
}

impl Crew {
    pub(super) fn new() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
        Self { decoders: (0..threads).map(|_| Decoder::default()).collect() }
    }

    /// States that [`Crew::each`] wants.
    pub(super) fn states<S>(&self, state: impl Fn() -> S) -> Vec<S> {
        self.decoders.iter().map(|_| state()).collect()
    }

    /// Calls `work` with each wanted row of the block; the first state gets the first rows, and so on.
    pub(super) fn each<S: Send>(
        &mut self,
        block: &Block,
        subject: Subject<'_>,
        states: &mut [S],
        work: impl Fn(&mut S, &[f32]) -> Result<(), OutOfRange> + Sync,
    ) -> Result<(), ConvertError> {
        let rows = block.bytes.len() / subject.tensor.row_bytes();
        let wanted = subject.first.saturating_sub(block.first_row).min(rows)
            ..subject.end.saturating_sub(block.first_row).min(rows);
        // Even, so that two rows whose numbers share a byte are not parted.
        let share = wanted.len().div_ceil(self.decoders.len()).next_multiple_of(2);
        let work = &work;
        thread::scope(|scope| {
            let mut running = Vec::with_capacity(self.decoders.len());
            for (part, (decoder, state)) in self.decoders.iter_mut().zip(states).enumerate() {
                let rows =
                    (wanted.start + part * share).min(wanted.end)..(wanted.start + (part + 1) * share).min(wanted.end);
                if rows.is_empty() {
                    continue;
                }
                running.push(scope.spawn(move || each_row(block, subject, rows, decoder, |row| work(state, row))));
            }
            // The first failure in the order of the rows, so that the same damage always gives the same message.
            running.into_iter().try_for_each(|part| part.join().expect("no row panics. This is a bug."))
        })
    }
}

fn each_row(
    block: &Block,
    subject: Subject<'_>,
    rows: Range<usize>,
    decoder: &mut Decoder,
    mut work: impl FnMut(&[f32]) -> Result<(), OutOfRange>,
) -> Result<(), ConvertError> {
    let Subject { shard, tensor, stored_as, .. } = subject;
    let at = |row: usize| (shard.path.clone(), tensor.name.clone(), block.first_row + row);
    for row in rows {
        let numbers = block.row(tensor, row, decoder).map_err(|_| {
            let (path, tensor, row) = at(row);
            ConvertError::NotFinite { path, tensor, row }
        })?;
        work(numbers).map_err(|OutOfRange| {
            let (path, tensor, row) = at(row);
            ConvertError::OutOfRange { path, tensor, row, stored_as }
        })?;
    }
    Ok(())
}
