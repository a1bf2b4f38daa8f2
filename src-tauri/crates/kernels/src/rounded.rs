//! Rounds rows of F32 to BF16: the left side of a product with a [`PairedMatrix`](crate::PairedMatrix).
//!
//! Values are rounded to nearest, ties to even, so that they change by at most 2^-8 of themselves: BF16 has eight bits of
//! precision, of which one is not stored. What rounds to a magnitude under 2^-126 becomes zero, because the instructions
//! take it for that; what rounds to 2^128 becomes infinite; NaN stay NaN. All levels of instructions give the same bits.

use crate::Isa;
use crate::lanes::{self, Body, Lanes};
use crate::team::Team;

/// The bits of a BF16 without its sign.
const MAGNITUDE: u16 = 0x7fff;

/// The bits of a BF16 that are 0 where its magnitude is under 2^-126.
const EXPONENT: u16 = 0x7f80;

/// Rows of BF16. A buffer: it allocates only when it has to grow.
#[derive(Debug)]
pub struct RoundedRows {
    isa: Isa,
    inputs: usize,
    bits: Vec<u16>,
}

impl RoundedRows {
    /// No rows.
    pub fn new() -> Self {
        Self::with_isa(Isa::best())
    }

    /// No rows, to be filled by functions compiled for `isa`.
    pub fn with_isa(isa: Isa) -> Self {
        Self { isa, inputs: 32, bits: Vec::new() }
    }

    /// Replaces what is there by `values`, rows of `inputs` each.
    ///
    /// # Panics
    /// If `values` are no whole number of rows.
    pub fn round(&mut self, values: &[f32], inputs: usize) {
        self.make_room(values, inputs);
        lanes::run(self.isa, Round { values, bits: &mut self.bits });
    }

    /// [`Self::round`], shared out among the threads of `team` where the rows are many.
    ///
    /// # Panics
    /// As [`Self::round`].
    pub fn round_on(&mut self, team: &Team, values: &[f32], inputs: usize) {
        self.make_room(values, inputs);
        let isa = self.isa;
        let piece = team.rows_at_a_time(self.rows()) * inputs;
        team.for_each_piece(&mut self.bits, piece, |number, bits| {
            lanes::run(isa, Round { values: &values[number * piece..][..bits.len()], bits });
        });
    }

    fn make_room(&mut self, values: &[f32], inputs: usize) {
        assert!(values.len().is_multiple_of(inputs), "{} values are no rows of {inputs}", values.len());
        self.inputs = inputs;
        self.bits.resize(values.len(), 0);
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.bits.len() / self.inputs
    }

    /// Values in a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The bits of the BF16, `[rows][inputs]`: the upper halves of F32.
    pub fn bits(&self) -> &[u16] {
        &self.bits
    }
}

impl Default for RoundedRows {
    fn default() -> Self {
        Self::new()
    }
}

/// Values to round, and as many places for them.
struct Round<'a> {
    values: &'a [f32],
    bits: &'a mut [u16],
}

impl Body for Round<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
    fn run<V: Lanes>(self) {
        for (bits, &value) in self.bits.iter_mut().zip(self.values) {
            *bits = nearest(value);
        }
    }
}

/// The bits of the BF16 nearest to `value`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
fn nearest(value: f32) -> u16 {
    let bits = value.to_bits();
    // A carry out of the lower half rounds up, into the exponent if need be. Ties carry where that makes the last bit 0.
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // A carry could make a NaN another number, and one whose upper half has no bit set an infinity.
    let quiet = (bits >> 16) as u16 | 0x40;
    flush(if value.is_nan() { quiet } else { rounded })
}

/// A BF16 as the instructions take it: zero, with its sign, where it is under 2^-126.
#[inline(always)]
#[expect(clippy::inline_always, reason = "has to be compiled with the features of its caller")]
pub(crate) fn flush(bits: u16) -> u16 {
    if bits & EXPONENT == 0 { bits & !MAGNITUDE } else { bits }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bits_round_to_the_nearest_at_every_level(bits in proptest::collection::vec(any::<u32>(), 64)) {
            let values: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            for isa in Isa::available() {
                let mut rows = RoundedRows::with_isa(isa);
                rows.round(&values, 32);
                prop_assert_eq!((rows.rows(), rows.inputs(), rows.bits().len()), (2, 32, 64));
                for (&found, &value) in rows.bits().iter().zip(&values) {
                    prop_assert_eq!(found, flush(bf16::from_f32(value).to_bits()), "{:?}: {}", isa, value);
                }
            }
        }

        #[test]
        fn a_value_changes_by_at_most_a_256th(value in -1e30_f32..1e30, exponent in -90_i32..20) {
            let value = value * 2_f32.powi(exponent);
            prop_assume!(value.abs() >= f32::MIN_POSITIVE);
            let rounded = f32::from_bits(u32::from(nearest(value)) << 16);
            prop_assert!((f64::from(rounded) - f64::from(value)).abs() <= f64::from(value).abs() / 256.0);
        }
    }

    #[test]
    fn ties_go_to_even_and_extremes_stay_what_they_are() {
        let cases = [
            (0x3f80_8000, 0x3f80), // 1 + 2^-8
            (0x3f81_8000, 0x3f82),
            (0x3f80_8001, 0x3f81),
            (0xbf80_8000, 0xbf80),
            (0x7f7f_7fff, 0x7f7f),
            (0x7f7f_8000, 0x7f80), // past the largest BF16
            (0x7f7f_ffff, 0x7f80),
            (0xff80_0000, 0xff80),
            (0x7f80_0001, 0x7fc0), // a NaN with nothing in its upper half
            (0xffff_ffff, 0xffff),
            (0x007f_7fff, 0x0000),
            (0x007f_8000, 0x0080), // rounds up to 2^-126
            (0x8000_0001, 0x8000),
            (0x8000_0000, 0x8000),
        ];
        for (bits, expected) in cases {
            assert_eq!(nearest(f32::from_bits(bits)), expected, "{bits:#x}");
        }
    }

    #[test]
    fn rows_that_are_shared_out_are_those_of_one_thread_and_the_buffer_is_kept() {
        let team = Team::new(3, crate::team::Options::default());
        let mut rows = RoundedRows::new();
        rows.round(&[1.0; 64 * 64], 64);
        let before = rows.bits().as_ptr();
        for count in [0, 1, 7, 8, 9, 50, 64] {
            let values: Vec<f32> = (0..count * 64).map(|value| (value as f32).sin()).collect();
            let mut expected = RoundedRows::new();
            expected.round(&values, 64);
            rows.round_on(&team, &values, 64);
            assert_eq!((rows.rows(), rows.bits()), (count, expected.bits()));
            assert_eq!(rows.bits().as_ptr(), before);
        }
    }
}
