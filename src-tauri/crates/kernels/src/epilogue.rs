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
        let bias = &self.0[column..][..output.len()];
        for ((output, value), bias) in output.iter_mut().zip(values).zip(bias) {
            *output = value + bias;
        }
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
        for (output, value) in output.iter_mut().zip(values) {
            *output += value;
        }
        if let Some(bias) = self.bias {
            for (output, bias) in output.iter_mut().zip(&bias[column..]) {
                *output += bias;
            }
        }
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
            let bias = &bias[column..];
            match bias.first_chunk::<PANEL>() {
                Some(whole) => add_to_rows(whole, values),
                None => add_to_rows(bias, values),
            }
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
    for row in values.as_chunks_mut::<PANEL>().0 {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
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
