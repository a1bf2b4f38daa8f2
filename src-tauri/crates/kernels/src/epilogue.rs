//! What happens to a product's values while they are still in the first-level cache, and where they go.
//!
//! An epilogue sees a tile first, some rows of 32 columns, and then each of its rows with the columns of the output that it
//! goes to. It cannot write anywhere else, which is what lets several threads share a product without locks.

#![expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]

use crate::Isa;
use crate::elementwise::Activation;
use crate::shape::PANEL;

/// Turns values of a product into values of the output. Functions that are `#[inline(always)]` become part of a loop that is
/// compiled for the processor, so that plain loops over the slices become vectors.
pub trait Epilogue: Sync {
    /// How many panels of the matrix make 32 columns of the output: 1, or 2 for two matrices that were packed panel by
    /// panel in turn (see [`interleaved`](crate::interleaved)).
    const PANELS: usize = 1;

    /// Changes the values of a tile in place, before its rows are stored one by one: for functions that take long to begin.
    ///
    /// `values` are rows of 32 for each of [`Self::PANELS`], end to end; the first of the columns is column `column` of the
    /// output, and values at the right edge past the last are of no meaning.
    #[inline]
    fn prepare(&self, column: usize, values: &mut [f32]) {
        let _ = (column, values);
    }

    /// Takes columns `column..column + output.len()` of the output in row `row`.
    ///
    /// `values` are 32 for each of [`Self::PANELS`], panel after panel. `output` is 32 or, at the right edge, fewer; the
    /// values past it are of no meaning. It holds what the output held before.
    fn store(&self, row: usize, column: usize, values: &[f32], output: &mut [f32]);
}

/// Writes the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Epilogue for Plain {
    #[inline(always)]
    fn store(&self, _row: usize, _column: usize, values: &[f32], output: &mut [f32]) {
        output.copy_from_slice(&values[..output.len()]);
    }
}

/// Writes the product plus a bias for each column.
#[derive(Clone, Copy, Debug)]
pub struct WithBias<'a>(
    /// As long as a row of the output.
    pub &'a [f32],
);

impl Epilogue for WithBias<'_> {
    #[inline(always)]
    fn store(&self, _row: usize, column: usize, values: &[f32], output: &mut [f32]) {
        store_sum(values, [Some(&self.0[column..]), None], output);
    }
}

/// Adds the product, and a bias for each column where there is one, to what is there: a residual connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddTo<'a> {
    /// As long as a row of the output.
    pub bias: Option<&'a [f32]>,
}

impl Epilogue for AddTo<'_> {
    #[inline(always)]
    fn store(&self, _row: usize, column: usize, values: &[f32], output: &mut [f32]) {
        store_sum(values, [Some(&copy_of(output)), self.bias.map(|bias| &bias[column..])], output);
    }
}

/// The first 32 of `numbers`, or fewer and zeroes.
#[inline(always)]
fn copy_of(numbers: &[f32]) -> [f32; PANEL] {
    let mut copy = [0.0; PANEL];
    match numbers.first_chunk::<PANEL>() {
        Some(whole) => copy = *whole,
        None => copy[..numbers.len()].copy_from_slice(numbers),
    }
    copy
}

/// Writes the sum of `values` and whatever is added to them.
///
/// Whole segments are copied first: what is written could lie, for all that the compiler knows, where the next number is read,
/// and it would take one after the other.
#[inline(always)]
fn store_sum(values: &[f32], addends: [Option<&[f32]>; 2], output: &mut [f32]) {
    let mut sums = copy_of(values);
    for addend in addends.into_iter().flatten() {
        let addend = copy_of(addend);
        for (sum, addend) in sums.iter_mut().zip(addend) {
            *sum += addend;
        }
    }
    match output.first_chunk_mut::<PANEL>() {
        Some(whole) => *whole = sums,
        None => output.copy_from_slice(&sums[..output.len()]),
    }
}

/// Writes an activation of the product plus a bias for each column: the first half of a feed-forward layer.
#[derive(Clone, Copy, Debug)]
pub struct Activated<'a> {
    /// As long as a row of the output, where there is one.
    pub bias: Option<&'a [f32]>,
    /// What is applied to the sums.
    pub activation: Activation,
    /// By whose functions.
    pub isa: Isa,
}

impl Epilogue for Activated<'_> {
    #[inline(always)]
    fn prepare(&self, column: usize, values: &mut [f32]) {
        if let Some(bias) = self.bias {
            add_to_rows(&bias[column..], values);
        }
        self.activation.apply(self.isa, values);
    }

    #[inline(always)]
    fn store(&self, row: usize, column: usize, values: &[f32], output: &mut [f32]) {
        Plain.store(row, column, values, output);
    }
}

/// Adds `bias` to the beginning of each row of 32.
#[inline(always)]
fn add_to_rows(bias: &[f32], values: &mut [f32]) {
    let bias = copy_of(bias);
    for row in values.as_chunks_mut::<PANEL>().0 {
        store_sum(&copy_of(row), [Some(&bias), None], row);
    }
}

/// Writes an activation of one matrix's product times the other's: both halves of a gated feed-forward layer, packed in turn.
#[derive(Clone, Copy, Debug)]
pub struct Gated {
    /// What is applied to the first matrix's product.
    pub activation: Activation,
    /// By whose functions.
    pub isa: Isa,
}

impl Epilogue for Gated {
    const PANELS: usize = 2;

    #[inline(always)]
    fn prepare(&self, _column: usize, values: &mut [f32]) {
        self.activation.gate_rows(self.isa, values, PANEL);
    }

    #[inline(always)]
    fn store(&self, row: usize, column: usize, values: &[f32], output: &mut [f32]) {
        Plain.store(row, column, values, output);
    }
}

/// Hands each epilogue slices whose lengths are constants wherever a segment is whole, so that its loops unroll.
#[inline(always)]
pub(crate) fn store<E: Epilogue>(epilogue: &E, row: usize, column: usize, values: &[f32], output: &mut [f32]) {
    let values = &values[..PANEL * E::PANELS];
    match output.first_chunk_mut::<PANEL>() {
        Some(whole) => epilogue.store(row, column, values, whole),
        None => epilogue.store(row, column, values, output),
    }
}
