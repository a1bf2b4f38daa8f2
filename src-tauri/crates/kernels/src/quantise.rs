//! Rounds rows of F32 to signed bytes with a scale for each group of a row: the left side of a product with a packed matrix.
//!
//! A group's scale is its largest magnitude divided by 127, and codes are rounded to nearest, ties to even, so that they are
//! -127 to 127. A group that has a NaN or an infinity gets the scale NaN and codes of zero: every product with that row is
//! NaN then. A group with nothing over 2^-100 counts as zero. All levels of instructions give the same bits.

use crate::vectorised::vectorised;
use crate::{Group, Isa};

/// Adding this rounds a small F32 to the nearest integer, ties to even, and leaves it in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Magnitudes at most this are zero: the inverse of their scale could overflow.
const TINY: f32 = f32::from_bits((127 - 100) << 23);

/// The sums of codes are kept times this, which is what the products need: see [`QuantisedRows::corrections`].
pub(crate) const CORRECTION: i32 = -128;

/// Rows of signed bytes. A buffer: it allocates only when it has to grow.
#[derive(Debug)]
pub struct QuantisedRows {
    isa: Isa,
    rows: usize,
    inputs: usize,
    group: Group,
    codes: Vec<i8>,
    /// For each group of each row, as are the next two.
    scales: Vec<f32>,
    /// The sum of the values that the codes stand for.
    sums: Vec<f32>,
    corrections: Vec<i32>,
}

impl QuantisedRows {
    /// No rows.
    pub fn new() -> Self {
        Self::with_isa(Isa::best())
    }

    /// No rows, to be filled by functions compiled for `isa`.
    pub fn with_isa(isa: Isa) -> Self {
        Self {
            isa,
            rows: 0,
            inputs: 32,
            group: Group::Row,
            codes: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            corrections: Vec::new(),
        }
    }

    /// Replaces what is there by `values`, rows of `inputs` each.
    ///
    /// # Panics
    /// If `values` are no whole number of rows or `inputs` no whole number of groups.
    pub fn quantise(&mut self, values: &[f32], inputs: usize, group: Group) {
        assert!(values.len().is_multiple_of(inputs), "{} values are no rows of {inputs}", values.len());
        let rows = values.len() / inputs;
        for mut part in self.parts(rows, inputs, group, rows.max(1)) {
            for (row, values) in values.chunks_exact(inputs).enumerate() {
                part.set(row, values);
            }
        }
    }

    /// Makes room for `rows` rows of `inputs` each and gives them in parts of `rows_in_part`, in order, to be filled by
    /// whoever makes the values: by several threads, or right after a row was computed. What is not set is left as it was.
    ///
    /// # Panics
    /// If `inputs` are no whole number of groups, or `rows_in_part` is 0.
    pub fn parts(
        &mut self,
        rows: usize,
        inputs: usize,
        group: Group,
        rows_in_part: usize,
    ) -> impl Iterator<Item = RowsPart<'_>> {
        let length = group.length(inputs);
        assert!(inputs > 0 && inputs.is_multiple_of(length), "{inputs} inputs are no groups of {length}");
        let groups = inputs / length;
        (self.rows, self.inputs, self.group) = (rows, inputs, group);
        self.codes.resize(rows * inputs, 0);
        self.scales.resize(rows * groups, 0.0);
        self.sums.resize(rows * groups, 0.0);
        self.corrections.resize(rows * groups, 0);
        let isa = self.isa;
        self.codes
            .chunks_mut(rows_in_part * inputs)
            .zip(self.scales.chunks_mut(rows_in_part * groups))
            .zip(self.sums.chunks_mut(rows_in_part * groups).zip(self.corrections.chunks_mut(rows_in_part * groups)))
            .enumerate()
            .map(move |(part, ((codes, scales), (sums, corrections)))| RowsPart {
                isa,
                first: part * rows_in_part,
                inputs,
                groups,
                codes,
                scales,
                sums,
                corrections,
            })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many values share a scale.
    pub fn group(&self) -> Group {
        self.group
    }

    /// The codes, `[rows][inputs]`, -127 to 127.
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// The scales, `[rows][groups]`.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sums of the values that the codes stand for, `[rows][groups]`.
    pub(crate) fn sums(&self) -> &[f32] {
        &self.sums
    }

    /// The sums of the codes times [`CORRECTION`], `[rows][groups]`: what has to be added to a product with weights that
    /// have 128 added.
    pub(crate) fn corrections(&self) -> &[i32] {
        &self.corrections
    }
}

impl Default for QuantisedRows {
    fn default() -> Self {
        Self::new()
    }
}

/// Some of the rows of [`QuantisedRows`], see [`QuantisedRows::parts`].
#[derive(Debug)]
pub struct RowsPart<'a> {
    isa: Isa,
    first: usize,
    inputs: usize,
    groups: usize,
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    corrections: &'a mut [i32],
}

impl RowsPart<'_> {
    /// The number of its first row among all rows.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.codes.len() / self.inputs
    }

    /// Quantises the row that is number `row` of this part.
    ///
    /// # Panics
    /// If there is no such row or `values` has another length.
    pub fn set(&mut self, row: usize, values: &[f32]) {
        assert_eq!(values.len(), self.inputs, "a row has a value for each input");
        let codes = &mut self.codes[row * self.inputs..][..self.inputs];
        let range = row * self.groups..(row + 1) * self.groups;
        let scales = self.scales[range.clone()].iter_mut();
        let sums = self.sums[range.clone()].iter_mut().zip(&mut self.corrections[range]);
        let length = self.inputs / self.groups;
        vectorised(self.isa, || {
            let groups = codes.chunks_exact_mut(length).zip(values.chunks_exact(length));
            for ((codes, values), (scale, (sum, correction))) in groups.zip(scales.zip(sums)) {
                let (codes_scale, codes_sum) = quantise_group(values, codes);
                *scale = codes_scale;
                *sum = codes_scale * codes_sum as f32;
                *correction = codes_sum * CORRECTION;
            }
        });
    }
}

/// Quantises one group and gives its scale and the sum of its codes.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
fn quantise_group(values: &[f32], codes: &mut [i8]) -> (f32, i32) {
    // Without their signs, bits are in the order of magnitudes, with infinities and NaN last.
    let magnitude = |value: f32| value.to_bits() & 0x7fff_ffff;
    let largest = f32::from_bits(values.iter().fold(0, |largest, &value| largest.max(magnitude(value))));
    if !largest.is_finite() || largest <= TINY {
        codes.fill(0);
        return (if largest.is_finite() { 0.0 } else { f32::NAN }, 0);
    }
    let inverse = 127.0 / largest;
    let mut sum = 0;
    for (code, &value) in codes.iter_mut().zip(values) {
        *code = ((value * inverse + ROUND).to_bits()) as i8;
        sum += i32::from(*code);
    }
    (largest / 127.0, sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUPS: [Group; 4] = [Group::Of32, Group::Of64, Group::Of128, Group::Row];

    proptest! {
        #[test]
        fn codes_are_the_nearest(
            values in proptest::collection::vec(-8_f32..8.0, 256),
            exponent in -60_i32..60,
            group in proptest::sample::select(&GROUPS[..]),
        ) {
            let values: Vec<f32> = values.iter().map(|value| value * 2_f32.powi(exponent)).collect();
            for isa in Isa::available() {
                let mut rows = QuantisedRows::with_isa(isa);
                rows.quantise(&values, 128, group);
                prop_assert_eq!((rows.rows(), rows.inputs(), rows.codes().len()), (2, 128, 256));
                let length = group.length(128);
                for (index, values) in values.chunks(length).enumerate() {
                    let largest = values.iter().fold(0_f64, |largest, &value| largest.max(f64::from(value).abs()));
                    let scale = rows.scales()[index];
                    prop_assert!((f64::from(scale) - largest / 127.0).abs() <= largest * 1e-8);
                    let codes = &rows.codes()[index * length..][..length];
                    let mut sum = 0_i32;
                    for (&code, &value) in codes.iter().zip(values) {
                        let exact = f64::from(value) / largest * 127.0;
                        prop_assert!((f64::from(code) - exact).abs() <= 0.5 + 1e-4, "{} for {}", code, exact);
                        prop_assert!(code != i8::MIN);
                        sum += i32::from(code);
                    }
                    prop_assert_eq!(rows.corrections()[index], -128 * sum);
                    let value = f64::from(sum) * f64::from(scale);
                    prop_assert!((f64::from(rows.sums()[index]) - value).abs() <= value.abs() * 1e-6);
                }
            }
        }

        #[test]
        fn any_bits_give_the_same_rows_at_every_level(bits in proptest::collection::vec(any::<u32>(), 64)) {
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let mut expected = QuantisedRows::with_isa(Isa::Portable);
            expected.quantise(&values, 64, Group::Of32);
            for isa in Isa::available() {
                let mut rows = QuantisedRows::with_isa(isa);
                rows.quantise(&values, 64, Group::Of32);
                prop_assert_eq!(rows.codes(), expected.codes());
                let bits = |scales: &[f32]| scales.iter().map(|scale| scale.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(rows.scales()), bits(expected.scales()));
                prop_assert_eq!(bits(rows.sums()), bits(expected.sums()));
            }
        }
    }

    #[test]
    fn ties_go_to_even() {
        let mut values = [0.0; 32];
        values[..6].copy_from_slice(&[127.0, 0.5, 1.5, -0.5, -1.5, 2.5]);
        for isa in Isa::available() {
            let mut rows = QuantisedRows::with_isa(isa);
            rows.quantise(&values, 32, Group::Of32);
            assert_eq!(rows.codes()[..6], [127, 0, 2, 0, -2, 2]);
        }
    }

    #[test]
    fn what_is_not_finite_makes_the_scale_of_its_group_nan() {
        for isa in Isa::available() {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = [1.0; 64];
                values[40] = bad;
                let mut rows = QuantisedRows::with_isa(isa);
                rows.quantise(&values, 64, Group::Of32);
                assert!(rows.scales()[0] > 0.0 && rows.scales()[1].is_nan());
                assert!(rows.codes()[32..].iter().all(|&code| code == 0));
                assert!(rows.sums()[1].is_nan());
            }
        }
    }

    #[test]
    fn the_largest_and_the_smallest_numbers_have_codes() {
        for isa in Isa::available() {
            let mut rows = QuantisedRows::with_isa(isa);
            for largest in [f32::MAX, 1e-29] {
                rows.quantise(&[-largest; 32], 32, Group::Row);
                assert_eq!(rows.codes(), [-127; 32]);
            }
            for tiny in [0.0, -0.0, f32::MIN_POSITIVE, f32::from_bits(1), 1e-31] {
                rows.quantise(&[tiny; 32], 32, Group::Row);
                assert_eq!((rows.codes(), rows.scales()), (&[0; 32][..], &[0.0][..]));
            }
        }
    }

    #[test]
    fn parts_are_all_rows_in_order_and_the_buffer_is_kept() {
        let values: Vec<f32> = (0..7 * 64).map(|value| value as f32).collect();
        let mut expected = QuantisedRows::new();
        expected.quantise(&values, 64, Group::Of64);
        let mut rows = QuantisedRows::new();
        rows.quantise(&[1.0; 64 * 64], 64, Group::Of32);
        let before = rows.codes().as_ptr();
        let mut seen = Vec::new();
        for mut part in rows.parts(7, 64, Group::Of64, 3) {
            for row in 0..part.rows() {
                part.set(row, &values[(part.first() + row) * 64..][..64]);
                seen.push(part.first() + row);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!((rows.codes(), rows.scales()), (expected.codes(), expected.scales()));
        assert_eq!(rows.codes().as_ptr(), before);
    }
}
