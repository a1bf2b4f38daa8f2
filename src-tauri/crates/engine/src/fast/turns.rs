//! Rotary positions on the kernels: tables of cosines and sines, and the turning of queries and keys that lie side by side.

use embedbar_kernels::{
    Isa,
    attention::Shape,
    rotary::{Angles, Heads, Rotary},
};

use super::team;

/// Rows that are turned at a time.
const ROWS: usize = 8;

/// Cosines and sines by place: of positions 0, 1, … as far as texts went, then of whatever was appended.
pub(super) struct Turns {
    /// By how much each pair of numbers turns from one position to the next.
    frequencies: Vec<f32>,
    /// Positions at the beginning of the table.
    positions: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    pub(super) fn new(frequencies: Vec<f32>) -> Self {
        Self { frequencies, positions: 0, cosines: Vec::new(), sines: Vec::new() }
    }

    /// Makes the places of positions up to `length`, and drops what was appended.
    pub(super) fn up_to(&mut self, length: usize) {
        let numbers = self.positions * self.frequencies.len();
        self.cosines.truncate(numbers);
        self.sines.truncate(numbers);
        for position in self.positions..length {
            let angles = self.frequencies.iter().map(|frequency| position as f32 * frequency);
            self.cosines.extend(angles.clone().map(f32::cos));
            self.sines.extend(angles.map(f32::sin));
        }
        self.positions = self.positions.max(length);
    }

    /// Appends positions 0 to `length` of other frequencies, as many as the others, and gives the first one's place.
    pub(super) fn append(&mut self, length: usize, frequencies: &(impl Iterator<Item = f32> + Clone)) -> usize {
        let place = self.cosines.len() / self.frequencies.len();
        for position in 0..length {
            let angles = frequencies.clone().map(|frequency| position as f32 * frequency);
            self.cosines.extend(angles.clone().map(f32::cos));
            self.sines.extend(angles.map(f32::sin));
        }
        place
    }

    pub(super) fn angles(&self) -> Angles<'_> {
        Angles { cosines: &self.cosines, sines: &self.sines }
    }
}

/// Does `queries` and `keys` to the heads of each row of `mixed`: queries first, then keys, then values. `places` has each
/// row's place in the table.
pub(super) fn turn(isa: Isa, mixed: &mut [f32], places: &[u32], shape: Shape, [queries, keys]: [Rotary; 2]) {
    let Shape { heads, groups, width, .. } = shape;
    let stride = (heads + 2 * groups) * width;
    team().for_each_piece(mixed, ROWS * stride, |piece, rows| {
        let places = &places[piece * ROWS..][..rows.len() / stride];
        queries.apply(isa, rows, Heads { stride, column: 0, count: heads, width }, places);
        keys.apply(isa, rows, Heads { stride, column: heads * width, count: groups, width }, places);
    });
}
