//! Rounds rows of F32 to signed bytes with a scale for each group of a row: the left side of a product with a packed matrix.
//!
//! A group's scale is its largest magnitude divided by 127, and codes are rounded to nearest, ties to even, so that they are
//! -127 to 127. A group that has a NaN or an infinity gets the scale NaN and codes of zero: every product with that row is
//! NaN then. A group with nothing over 2^-100 counts as zero. All levels of instructions give the same bits.

#![expect(unsafe_code, reason = "threads write to disjoint rows")]

use crate::lanes::{self, Body, Lanes};
use crate::team::{Parts, Team};
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
        let length = self.make_room(values, inputs, group);
        let Self { codes, scales, sums, corrections, .. } = self;
        lanes::run(self.isa, Groups { length, values, codes, scales, sums, corrections });
    }

    /// [`Self::quantise`], shared out among the threads of `team` where the rows are many.
    ///
    /// # Panics
    /// As [`Self::quantise`].
    pub fn quantise_on(&mut self, team: &Team, values: &[f32], inputs: usize, group: Group) {
        let length = self.make_room(values, inputs, group);
        let (isa, groups) = (self.isa, values.len() / length);
        // Groups of the rows that a thread takes at a time.
        let piece = team.rows_at_a_time(self.rows) * (inputs / length);
        let (codes, scales) = (Parts::of(&mut self.codes), Parts::of(&mut self.scales));
        let (sums, corrections) = (Parts::of(&mut self.sums), Parts::of(&mut self.corrections));
        team.for_each(groups.div_ceil(piece), &|number, _| {
            let range = number * piece..groups.min((number + 1) * piece);
            let numbers = range.start * length..range.end * length;
            let values = &values[numbers.clone()];
            // SAFETY: pieces do not overlap, and each is one item.
            let groups = unsafe {
                Groups {
                    length,
                    values,
                    codes: codes.part(numbers),
                    scales: scales.part(range.clone()),
                    sums: sums.part(range.clone()),
                    corrections: corrections.part(range),
                }
            };
            lanes::run(isa, groups);
        });
    }

    /// Makes room for `values` and gives the length of a group.
    fn make_room(&mut self, values: &[f32], inputs: usize, group: Group) -> usize {
        assert!(values.len().is_multiple_of(inputs), "{} values are no rows of {inputs}", values.len());
        let length = group.length(inputs);
        assert!(inputs > 0 && inputs.is_multiple_of(length), "{inputs} inputs are no groups of {length}");
        let groups = values.len() / length;
        (self.rows, self.inputs, self.group) = (values.len() / inputs, inputs, group);
        self.codes.resize(values.len(), 0);
        self.scales.resize(groups, 0.0);
        self.sums.resize(groups, 0.0);
        self.corrections.resize(groups, 0);
        length
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

/// Rows to quantise in groups of `length`, with a place for what comes of each group.
struct Groups<'a> {
    length: usize,
    values: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    corrections: &'a mut [i32],
}

impl Body for Groups<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
    fn run<V: Lanes>(self) {
        let Self { length, values, codes, scales, sums, corrections } = self;
        let results = scales.iter_mut().zip(sums.iter_mut().zip(corrections));
        // Loops of a known length are a few instructions on whole registers.
        match length {
            32 => quantise_groups(groups_of::<32>(codes, values), results),
            64 => quantise_groups(groups_of::<64>(codes, values), results),
            128 => quantise_groups(groups_of::<128>(codes, values), results),
            256 => quantise_groups(groups_of::<256>(codes, values), results),
            _ => quantise_groups(codes.chunks_exact_mut(length).zip(values.chunks_exact(length)), results),
        }
    }
}

/// Pairs of groups whose length the compiler knows.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
fn groups_of<'a, const LENGTH: usize>(
    codes: &'a mut [i8],
    values: &'a [f32],
) -> impl Iterator<Item = (&'a mut [i8], &'a [f32])> {
    let codes = codes.as_chunks_mut::<LENGTH>().0.iter_mut().map(<[i8; LENGTH]>::as_mut_slice);
    codes.zip(values.as_chunks::<LENGTH>().0.iter().map(<[f32; LENGTH]>::as_slice))
}

/// Quantises groups, each with a place for its scale, its sum and its correction.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
fn quantise_groups<'a>(
    groups: impl Iterator<Item = (&'a mut [i8], &'a [f32])>,
    results: impl Iterator<Item = (&'a mut f32, (&'a mut f32, &'a mut i32))>,
) {
    for ((codes, values), (scale, (sum, correction))) in groups.zip(results) {
        (*scale, *sum, *correction) = quantise_group(values, codes);
    }
}

/// Quantises one group and gives its scale, the sum of what its codes stand for, and its correction.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
fn quantise_group(values: &[f32], codes: &mut [i8]) -> (f32, f32, i32) {
    // Without their signs, bits are in the order of magnitudes, with infinities and NaN last.
    let magnitude = |value: f32| value.to_bits() & 0x7fff_ffff;
    let largest = f32::from_bits(values.iter().fold(0, |largest, &value| largest.max(magnitude(value))));
    if !largest.is_finite() || largest <= TINY {
        codes.fill(0);
        let scale = if largest.is_finite() { 0.0 } else { f32::NAN };
        return (scale, scale, 0);
    }
    let inverse = 127.0 / largest;
    let mut sum = 0;
    for (code, &value) in codes.iter_mut().zip(values) {
        *code = ((value * inverse + ROUND).to_bits()) as i8;
        sum += i32::from(*code);
    }
    let scale = largest / 127.0;
    (scale, scale * sum as f32, sum * CORRECTION)
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
    fn rows_that_are_shared_out_are_those_of_one_thread_and_the_buffer_is_kept() {
        let team = Team::new(3, crate::team::Options::default());
        let mut rows = QuantisedRows::new();
        rows.quantise(&[1.0; 64 * 64], 64, Group::Of32);
        let before = rows.codes().as_ptr();
        for count in [0, 1, 7, 8, 9, 50, 64] {
            let values: Vec<f32> = (0..count * 64).map(|value| (value as f32).sin()).collect();
            let mut expected = QuantisedRows::new();
            expected.quantise(&values, 64, Group::Of64);
            rows.quantise_on(&team, &values, 64, Group::Of64);
            assert_eq!(rows.rows(), count);
            assert_eq!((rows.codes(), rows.scales()), (expected.codes(), expected.scales()));
            assert_eq!((rows.sums(), rows.corrections()), (expected.sums(), expected.corrections()));
            assert_eq!(rows.codes().as_ptr(), before);
        }
    }
}
