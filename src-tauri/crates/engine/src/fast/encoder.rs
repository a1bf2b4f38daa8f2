//! What encoders on the kernels have in common: tokens become a residual stream, layers change it, the last of them are kept.

use embedbar_contract::BackendName;
use embedbar_kernels::{Isa, attention::Shape};

use super::{room::Room, table::Table};
use crate::backend::{Backend, BackendError, BatchShape, Output, PaddedBatch};

/// The layers of a family of models.
pub(super) trait Layers: Send {
    /// What its attention is like.
    fn attention(&self) -> Shape;

    /// How many there are.
    fn count(&self) -> usize;

    /// Makes the first layer's input of `tokens` embeddings in [`Room::x`].
    fn begin(&mut self, room: &mut Room, tokens: usize);

    /// Takes the residual stream of `tokens` through layer `number`.
    fn forward(&self, number: usize, room: &mut Room, tokens: usize);

    /// Makes hidden states, rows end to end, of what the last layer left: a norm, where the family has one there.
    fn end(&self, isa: Isa, states: &mut [f32]) {
        let _ = (isa, states);
    }
}

/// A loaded encoder.
pub(super) struct FastEncoder<L> {
    tokens: Table,
    hidden: usize,
    layers: L,
    room: Room,
}

impl<L: Layers> FastEncoder<L> {
    pub(super) fn new(tokens: Table, hidden: usize, layers: L) -> Self {
        Self { tokens, hidden, layers, room: Room::new() }
    }

    /// The hidden states of the last `last` layers, one layer's after another's. It allocates nothing once the largest batch
    /// has been seen.
    fn run(&mut self, batch: &PaddedBatch, last: usize) -> candle_core::Result<&[f32]> {
        let Self { tokens: table, hidden, layers, room } = self;
        let (count, hidden) = (layers.count(), *hidden);
        let tokens = room.take(batch, &layers.attention());
        table.read(&room.ids, room.x.rows_mut(tokens, hidden))?;
        layers.begin(room, tokens);
        for number in 0..count {
            layers.forward(number, room, tokens);
            if let Some(place) = (number + last).checked_sub(count)
                && last > 1
            {
                let kept = room.kept.rows_mut(last * tokens, hidden);
                kept[place * tokens * hidden..][..tokens * hidden].copy_from_slice(room.x.rows(tokens, hidden));
            }
        }
        let states = if last > 1 { &mut room.kept } else { &mut room.x };
        let states = states.rows_mut(last * tokens, hidden);
        layers.end(room.isa, &mut states[(last - 1) * tokens * hidden..]);
        Ok(states)
    }
}

impl<L: Layers> Backend for FastEncoder<L> {
    fn name(&self) -> BackendName {
        BackendName::Cpu
    }

    fn shape(&self) -> BatchShape {
        BatchShape::Unpadded
    }

    fn forward(&mut self, batch: &PaddedBatch, layers: usize) -> Result<Output<'_>, BackendError> {
        Ok(Output::Tokens { states: self.run(batch, layers)?, layers })
    }
}
