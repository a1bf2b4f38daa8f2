//! LayerNorm and RMSNorm of rows, alone or after the sum with a residual.
//!
//! A row is read from memory once; the further passes over it find it in the nearest cache. LayerNorm takes two of them
//! for its statistics, the mean and then the squares of the differences from it: a sum of squares minus the square of the
//! sum would lose everything for a row with a large mean.

#![expect(clippy::inline_always, reason = "see `lanes`")]

use crate::{
    Isa,
    lanes::{Body, LANES, Lanes, run},
};

/// How many vectors are summed side by side, so that one sum need not wait for the last.
const SUMS: usize = 4;

/// What a row is divided by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum NormKind {
    /// The standard deviation, after the mean was subtracted.
    Layer,
    /// The root of the mean square.
    RootMeanSquare,
}

/// A normalisation of rows that are as wide as `weight`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// What a row is divided by.
    pub kind: NormKind,
    /// What each column is multiplied with afterwards.
    pub weight: &'a [f32],
    /// What is added to each column at the end. As long as `weight`.
    pub bias: Option<&'a [f32]>,
    /// What is added to the variance or the mean square, so that its root is not zero.
    pub epsilon: f32,
}

impl Norm<'_> {
    /// Writes the normalised rows of `input` to `output`.
    ///
    /// # Panics
    ///
    /// If the two differ in length, or are not whole rows as wide as the weight, or the bias is not as long as the weight.
    pub fn apply(&self, isa: Isa, input: &[f32], output: &mut [f32]) {
        self.check(input.len());
        assert_eq!(input.len(), output.len(), "as many rows out as in");
        run(isa, Apply { norm: *self, input, output });
    }

    /// Normalises `rows` in place.
    ///
    /// # Panics
    ///
    /// If `rows` are not whole rows as wide as the weight, or the bias is not as long as the weight.
    pub fn apply_in_place(&self, isa: Isa, rows: &mut [f32]) {
        self.check(rows.len());
        run(isa, ApplyInPlace { norm: *self, rows });
    }

    /// Adds `addend` to `rows` and normalises the sums in place: what follows each half of a BERT layer.
    ///
    /// # Panics
    ///
    /// If the two differ in length, or are not whole rows as wide as the weight, or the bias is not as long as the weight.
    pub fn add_and_apply_in_place(&self, isa: Isa, rows: &mut [f32], addend: &[f32]) {
        self.check(rows.len());
        assert_eq!(rows.len(), addend.len(), "as many rows to add as there are");
        run(isa, AddAndApplyInPlace { norm: *self, rows, addend });
    }

    /// Adds `addend` to `residual`, which keeps the sum, and writes the normalised sum to `output`: what comes before each
    /// half of a layer that normalises first.
    ///
    /// # Panics
    ///
    /// If the three differ in length, or are not whole rows as wide as the weight, or the bias is not as long as the
    /// weight.
    pub fn add_and_apply(&self, isa: Isa, residual: &mut [f32], addend: &[f32], output: &mut [f32]) {
        self.check(residual.len());
        assert_eq!(residual.len(), addend.len(), "as many rows to add as there are");
        assert_eq!(residual.len(), output.len(), "as many rows out as in");
        run(isa, AddAndApply { norm: *self, residual, addend, output });
    }

    fn check(&self, numbers: usize) {
        let width = self.weight.len();
        assert!(width > 0 && numbers.is_multiple_of(width), "whole rows");
        assert!(self.bias.is_none_or(|bias| bias.len() == width), "a bias for each weight");
    }

    /// What to subtract from each number of `row` and what to multiply it with then.
    #[inline(always)]
    pub(crate) fn statistics<V: Lanes>(&self, row: &[f32]) -> (f32, f32) {
        let width = row.len() as f32;
        let mean = match self.kind {
            NormKind::Layer => sum::<V>(row) / width,
            NormKind::RootMeanSquare => 0.0,
        };
        let variance = sum_of_squares::<V>(row, mean) / width;
        (mean, 1.0 / (variance + self.epsilon).sqrt())
    }

    /// Normalises one row in place, which is as wide as the weight.
    #[inline(always)]
    pub(crate) fn row_in_place<V: Lanes>(&self, row: &mut [f32]) {
        let (mean, scale) = self.statistics::<V>(row);
        let (mean, scale) = (V::splat(mean), V::splat(scale));
        let (whole, rest) = row.as_chunks_mut::<LANES>();
        for (i, chunk) in whole.iter_mut().enumerate() {
            self.columns::<V>(i * LANES, (V::load(chunk) - mean) * scale).store(chunk);
        }
        if !rest.is_empty() {
            let numbers = (V::load_part(rest, 0.0) - mean) * scale;
            self.last_columns::<V>(whole.len() * LANES, numbers).store_part(rest);
        }
    }

    /// Writes the normalised row to `output`; both are as wide as the weight.
    #[inline(always)]
    fn row<V: Lanes>(&self, row: &[f32], output: &mut [f32]) {
        let (mean, scale) = self.statistics::<V>(row);
        let (mean, scale) = (V::splat(mean), V::splat(scale));
        let (whole, rest) = row.as_chunks::<LANES>();
        let (whole_output, rest_output) = output.as_chunks_mut::<LANES>();
        for (i, (chunk, output)) in whole.iter().zip(whole_output).enumerate() {
            self.columns::<V>(i * LANES, (V::load(chunk) - mean) * scale).store(output);
        }
        if !rest.is_empty() {
            let numbers = (V::load_part(rest, 0.0) - mean) * scale;
            self.last_columns::<V>(whole.len() * LANES, numbers).store_part(rest_output);
        }
    }

    /// Weight and bias of the columns from `column`, of which there are at least [`LANES`].
    #[inline(always)]
    fn columns<V: Lanes>(&self, column: usize, numbers: V) -> V {
        let weight = V::load(&self.weight[column..]);
        match self.bias {
            Some(bias) => numbers.mul_add(weight, V::load(&bias[column..])),
            None => numbers * weight,
        }
    }

    /// Weight and bias of the columns from `column`, of which there are fewer than [`LANES`].
    #[inline(always)]
    fn last_columns<V: Lanes>(&self, column: usize, numbers: V) -> V {
        let weight = V::load_part(&self.weight[column..], 0.0);
        match self.bias {
            Some(bias) => numbers.mul_add(weight, V::load_part(&bias[column..], 0.0)),
            None => numbers * weight,
        }
    }
}

#[inline(always)]
fn sum<V: Lanes>(row: &[f32]) -> f32 {
    let mut sums = [V::zero(); SUMS];
    let (blocks, rest) = row.as_chunks::<{ SUMS * LANES }>();
    for block in blocks {
        for (sum, chunk) in sums.iter_mut().zip(block.as_chunks::<LANES>().0) {
            *sum = *sum + V::load(chunk);
        }
    }
    let (chunks, rest) = rest.as_chunks::<LANES>();
    for (sum, chunk) in sums.iter_mut().zip(chunks) {
        *sum = *sum + V::load(chunk);
    }
    if !rest.is_empty() {
        sums[SUMS - 1] = sums[SUMS - 1] + V::load_part(rest, 0.0);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

/// The sum of the squares of the differences from `mean`.
#[inline(always)]
fn sum_of_squares<V: Lanes>(row: &[f32], mean: f32) -> f32 {
    let center = V::splat(mean);
    let mut sums = [V::zero(); SUMS];
    let (blocks, rest) = row.as_chunks::<{ SUMS * LANES }>();
    for block in blocks {
        for (sum, chunk) in sums.iter_mut().zip(block.as_chunks::<LANES>().0) {
            let difference = V::load(chunk) - center;
            *sum = difference.mul_add(difference, *sum);
        }
    }
    let (chunks, rest) = rest.as_chunks::<LANES>();
    for (sum, chunk) in sums.iter_mut().zip(chunks) {
        let difference = V::load(chunk) - center;
        *sum = difference.mul_add(difference, *sum);
    }
    if !rest.is_empty() {
        let difference = V::load_part(rest, mean) - center;
        sums[SUMS - 1] = difference.mul_add(difference, sums[SUMS - 1]);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

#[inline(always)]
fn add(row: &mut [f32], addend: &[f32]) {
    for (number, addend) in row.iter_mut().zip(addend) {
        *number += addend;
    }
}

struct Apply<'a> {
    norm: Norm<'a>,
    input: &'a [f32],
    output: &'a mut [f32],
}

impl Body for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.norm.weight.len();
        for (row, output) in self.input.chunks_exact(width).zip(self.output.chunks_exact_mut(width)) {
            self.norm.row::<V>(row, output);
        }
    }
}

struct ApplyInPlace<'a> {
    norm: Norm<'a>,
    rows: &'a mut [f32],
}

impl Body for ApplyInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for row in self.rows.chunks_exact_mut(self.norm.weight.len()) {
            self.norm.row_in_place::<V>(row);
        }
    }
}

struct AddAndApplyInPlace<'a> {
    norm: Norm<'a>,
    rows: &'a mut [f32],
    addend: &'a [f32],
}

impl Body for AddAndApplyInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.norm.weight.len();
        for (row, addend) in self.rows.chunks_exact_mut(width).zip(self.addend.chunks_exact(width)) {
            add(row, addend);
            self.norm.row_in_place::<V>(row);
        }
    }
}

struct AddAndApply<'a> {
    norm: Norm<'a>,
    residual: &'a mut [f32],
    addend: &'a [f32],
    output: &'a mut [f32],
}

impl Body for AddAndApply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.norm.weight.len();
        let rows = self.residual.chunks_exact_mut(width).zip(self.addend.chunks_exact(width));
        for ((row, addend), output) in rows.zip(self.output.chunks_exact_mut(width)) {
            add(row, addend);
            self.norm.row::<V>(row, output);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(norm: &Norm, row: &[f32]) -> Vec<f64> {
        let width = row.len() as f64;
        let mean = match norm.kind {
            NormKind::Layer => row.iter().map(|&x| f64::from(x)).sum::<f64>() / width,
            NormKind::RootMeanSquare => 0.0,
        };
        let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width;
        let scale = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
        let bias = |i| norm.bias.map_or(0.0, |bias: &[f32]| f64::from(bias[i]));
        row.iter()
            .enumerate()
            .map(|(i, &x)| (f64::from(x) - mean) * scale * f64::from(norm.weight[i]) + bias(i))
            .collect()
    }

    fn assert_near(results: &[f32], expected: &[f64], tolerance: f64) {
        assert_eq!(results.len(), expected.len());
        for (i, (&result, &expected)) in results.iter().zip(expected).enumerate() {
            let error = (f64::from(result) - expected).abs();
            assert!(error <= tolerance * expected.abs().max(1.0), "{i}: {result} and not {expected}");
        }
    }

    /// A kind, whether there is a bias, and weight, bias, rows and addend of one width.
    fn cases() -> impl Strategy<Value = (NormKind, bool, [Vec<f32>; 4])> {
        let numbers = |count| prop::collection::vec(-2_f32..2.0, count);
        let kind = prop::sample::select(vec![NormKind::Layer, NormKind::RootMeanSquare]);
        // Widths below, at and beyond what is summed side by side, and those of models.
        let width = prop_oneof![1_usize..200, Just(384_usize), Just(1024_usize)];
        (kind, any::<bool>(), width, 0_usize..4).prop_flat_map(move |(kind, with_bias, width, rows)| {
            let all = [numbers(width), numbers(width), numbers(rows * width), numbers(rows * width)];
            (Just(kind), Just(with_bias), all)
        })
    }

    proptest! {
        #[test]
        fn every_form_is_the_naive_one((kind, with_bias, [weight, bias, rows, addend]) in cases()) {
            let norm = Norm { kind, weight: &weight, bias: with_bias.then_some(bias.as_slice()), epsilon: 1e-5 };
            let naive_rows =
                |rows: &[f32]| rows.chunks(weight.len()).flat_map(|row| naive(&norm, row)).collect::<Vec<_>>();
            let sums: Vec<f32> = rows.iter().zip(&addend).map(|(x, y)| x + y).collect();
            for isa in Isa::available() {
                let mut output = vec![0.0; rows.len()];
                norm.apply(isa, &rows, &mut output);
                assert_near(&output, &naive_rows(&rows), 1e-5);

                let mut in_place = rows.clone();
                norm.apply_in_place(isa, &mut in_place);
                prop_assert_eq!(&in_place, &output);

                let mut residual = rows.clone();
                norm.add_and_apply(isa, &mut residual, &addend, &mut output);
                prop_assert_eq!(&residual, &sums);
                assert_near(&output, &naive_rows(&sums), 1e-5);

                let mut in_place = rows.clone();
                norm.add_and_apply_in_place(isa, &mut in_place, &addend);
                prop_assert_eq!(&in_place, &output);
            }
        }
    }

    #[test]
    fn a_large_mean_does_not_drown_the_variance() {
        let row: Vec<f32> = (0..384_u16).map(|i| 4096.0 + f32::from(i % 7) / 8.0).collect();
        let weight = [1.0; 384];
        let norm = Norm { kind: NormKind::Layer, weight: &weight, bias: None, epsilon: 1e-12 };
        for isa in Isa::available() {
            let mut output = row.clone();
            norm.apply_in_place(isa, &mut output);
            // The mean of such a row is rounded to 2^-12 or so, a thousandth of the deviation.
            assert_near(&output, &naive(&norm, &row), 2e-3);
        }
    }

    #[test]
    fn a_row_of_zeros_gives_the_bias() {
        let (weight, bias) = ([3.0; 40], [0.25; 40]);
        for kind in [NormKind::Layer, NormKind::RootMeanSquare] {
            let norm = Norm { kind, weight: &weight, bias: Some(&bias), epsilon: 1e-12 };
            for isa in Isa::available() {
                let mut row = [0.0; 40];
                norm.apply_in_place(isa, &mut row);
                assert!(row.iter().all(|&x| x.to_bits() == 0.25_f32.to_bits()));
            }
        }
    }

    #[test]
    #[should_panic(expected = "whole rows")]
    fn half_a_row_is_refused() {
        let norm = Norm { kind: NormKind::Layer, weight: &[1.0; 4], bias: None, epsilon: 1e-5 };
        norm.apply_in_place(Isa::Portable, &mut [0.0; 6]);
    }
}
