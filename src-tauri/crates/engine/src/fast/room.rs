//! What a forward pass computes in, kept from one to the next: it allocates nothing once the largest batch has been seen.

use embedbar_kernels::{
    Isa, QuantisedRows, RoundedRows,
    arena::Buffer,
    attention::{Attention, Columns, ColumnsMut, Plan, Scratch, Shape},
    norm::Norm,
};

use super::{
    matrix::{Left, Wanted},
    team,
};
use crate::backend::PaddedBatch;

/// Buffers of a forward pass.
pub(super) struct Room {
    pub(super) isa: Isa,
    /// The residual stream, `[tokens][hidden]`.
    pub(super) x: Buffer<f32>,
    /// It after each of the last layers, where more than the last one is asked for.
    pub(super) kept: Buffer<f32>,
    /// It after a norm.
    pub(super) normed: Buffer<f32>,
    /// Queries, keys and values side by side.
    pub(super) mixed: Buffer<f32>,
    pub(super) attended: Buffer<f32>,
    /// What is inside the feed-forward layer.
    pub(super) inner: Buffer<f32>,
    pub(super) spare: Buffer<f32>,
    pub(super) left: LeftForms,
    /// Where texts start and the last one ends.
    pub(super) offsets: Vec<usize>,
    /// Each token's place in its text.
    pub(super) positions: Vec<u32>,
    /// The tokens of all texts.
    pub(super) ids: Vec<u32>,
    plan: Plan,
    scratches: Vec<Scratch>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            isa: Isa::best(),
            x: Buffer::new(),
            kept: Buffer::new(),
            normed: Buffer::new(),
            mixed: Buffer::new(),
            attended: Buffer::new(),
            inner: Buffer::new(),
            spare: Buffer::new(),
            left: LeftForms { codes: QuantisedRows::new(), rounded: RoundedRows::new() },
            offsets: Vec::new(),
            positions: Vec::new(),
            ids: Vec::new(),
            plan: Plan::new(),
            scratches: (0..team().threads()).map(|_| Scratch::new()).collect(),
        }
    }

    /// Takes the texts of a batch, without padding, and gives the number of tokens.
    pub(super) fn take(&mut self, batch: &PaddedBatch, attention: &Shape) -> usize {
        self.offsets.clear();
        self.ids.clear();
        self.positions.clear();
        self.offsets.push(0);
        for (row, &length) in batch.lengths.iter().enumerate() {
            self.ids.extend_from_slice(&batch.ids[row * batch.length..][..length]);
            self.positions.extend(0..length as u32);
            self.offsets.push(self.ids.len());
        }
        self.plan.prepare(attention, &self.offsets);
        self.ids.len()
    }

    /// Attention from the mixed columns: queries first, then keys, then values.
    pub(super) fn attend(&mut self, tokens: usize, shape: Shape) {
        let (queries, keys) = (shape.heads * shape.width, shape.groups * shape.width);
        let stride = queries + 2 * keys;
        let rows = self.mixed.rows(tokens, stride);
        let part = |column| Columns { rows, stride, column };
        let attention = Attention::new(&self.plan, shape, part(0), part(queries), part(queries + keys));
        let mut output = ColumnsMut { rows: self.attended.rows_mut(tokens, queries), stride: queries, column: 0 };
        attention.run_on(self.isa, team(), &mut output, &mut self.scratches);
    }
}

/// Rows on the left of products in other forms than they are.
pub(super) struct LeftForms {
    codes: QuantisedRows,
    rounded: RoundedRows,
}

impl LeftForms {
    /// `rows` of `inputs` each as the left side of products with matrices that want such forms.
    pub(super) fn of<'a>(&'a mut self, rows: &'a [f32], inputs: usize, wanted: Wanted) -> Left<'a> {
        if let Some(group) = wanted.codes {
            self.codes.quantise_on(team(), rows, inputs, group);
        }
        if wanted.rounded {
            self.rounded.round_on(team(), rows, inputs);
        }
        Left { rows, codes: &self.codes, rounded: &self.rounded }
    }
}

/// Normalises rows in place, shared out where they are many.
pub(super) fn normalise(isa: Isa, norm: &Norm, rows: &mut [f32]) {
    let width = norm.weight.len();
    let piece = team().rows_at_a_time(rows.len() / width) * width;
    team().for_each_piece(rows, piece, |_, rows| norm.apply_in_place(isa, rows));
}
