//! What happens to a product's values while they are still in the first-level cache, and where they go.
//!
//! An epilogue sees 32 columns of one row at a time. It cannot write anywhere but to those columns of the output, which is
//! what lets several threads share a product without locks.

use crate::Isa;
use crate::elementwise::Activation;
use crate::shape::PANEL;

/// Turns values of a product into values of the output. A call is small and inlined into a loop compiled for the
/// processor: plain loops over the slices become vectors.
pub trait Epilogue: Sync {
    /// How many panels of the matrix make 32 columns of the output: 1, or 2 for two matrices that were packed panel by
    /// panel in turn (see [`interleaved`](crate::interleaved)).
    const PANELS: usize = 1;

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
    #[inline]
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
    #[inline]
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
    #[inline]
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
    #[inline]
    fn store(&self, row: usize, column: usize, values: &[f32], output: &mut [f32]) {
        match self.bias {
            Some(bias) => WithBias(bias).store(row, column, values, output),
            None => Plain.store(row, column, values, output),
        }
        self.activation.apply(self.isa, output);
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

    #[inline]
    fn store(&self, _row: usize, _column: usize, values: &[f32], output: &mut [f32]) {
        let (gates, factors) = values.split_at(PANEL);
        let columns = output.len();
        output.copy_from_slice(&gates[..columns]);
        self.activation.gate(self.isa, output, &factors[..columns]);
    }
}

/// Hands each epilogue slices whose lengths are constants wherever a segment is whole, so that its loops unroll.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
pub(crate) fn store<E: Epilogue>(epilogue: &E, row: usize, column: usize, values: &[f32], output: &mut [f32]) {
    let values = &values[..PANEL * E::PANELS];
    match output.first_chunk_mut::<PANEL>() {
        Some(whole) => epilogue.store(row, column, values, whole),
        None => epilogue.store(row, column, values, output),
    }
}
