//! Rounds rows of F32 to BF16: the left side of a product with a [`PairedMatrix`](crate::PairedMatrix).
//!
//! Values are rounded to nearest, ties to even, so that they change by at most 2^-8 of themselves: BF16 has eight bits of
//! precision, of which one is not stored. What rounds to a magnitude under 2^-126 becomes zero, because the instructions
//! take it for that; what rounds to 2^128 becomes infinite; NaN stay NaN. All levels of instructions give the same bits.

use crate::Isa;
use crate::vectorised::vectorised;

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
        assert!(values.len().is_multiple_of(inputs), "{} values are no rows of {inputs}", values.len());
        let rows = values.len() / inputs;
        for mut part in self.parts(rows, inputs, rows.max(1)) {
            for (row, values) in values.chunks_exact(inputs).enumerate() {
                part.set(row, values);
            }
        }
    }

    /// Makes room for `rows` rows of `inputs` each and gives them in parts of `rows_in_part`, in order, to be filled by
    /// whoever makes the values: by several threads, or right after a row was computed. What is not set is left as it was.
    ///
    /// # Panics
    /// If `inputs` or `rows_in_part` is 0.
    pub fn parts(&mut self, rows: usize, inputs: usize, rows_in_part: usize) -> impl Iterator<Item = RoundedPart<'_>> {
        assert!(inputs > 0, "rows have inputs");
        self.inputs = inputs;
        self.bits.resize(rows * inputs, 0);
        let isa = self.isa;
        self.bits.chunks_mut(rows_in_part * inputs).enumerate().map(move |(part, bits)| RoundedPart {
            isa,
            first: part * rows_in_part,
            inputs,
            bits,
        })
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

/// Some of the rows of [`RoundedRows`], see [`RoundedRows::parts`].
#[derive(Debug)]
pub struct RoundedPart<'a> {
    isa: Isa,
    first: usize,
    inputs: usize,
    bits: &'a mut [u16],
}

impl RoundedPart<'_> {
    /// The number of its first row among all rows.
    pub fn first(&self) -> usize {
        self.first
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.bits.len() / self.inputs
    }

    /// Rounds the row that is number `row` of this part.
    ///
    /// # Panics
    /// If there is no such row or `values` has another length.
    pub fn set(&mut self, row: usize, values: &[f32]) {
        assert_eq!(values.len(), self.inputs, "a row has a value for each input");
        let row = &mut self.bits[row * self.inputs..][..self.inputs];
        vectorised(self.isa, || {
            for (bits, &value) in row.iter_mut().zip(values) {
                *bits = nearest(value);
            }
        });
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
    fn parts_are_all_rows_in_order_and_the_buffer_is_kept() {
        let values: Vec<f32> = (0..7 * 64).map(|value| value as f32).collect();
        let mut expected = RoundedRows::new();
        expected.round(&values, 64);
        let mut rows = RoundedRows::new();
        rows.round(&[1.0; 64 * 64], 64);
        let before = rows.bits().as_ptr();
        let mut seen = Vec::new();
        for mut part in rows.parts(7, 64, 3) {
            for row in 0..part.rows() {
                part.set(row, &values[(part.first() + row) * 64..][..64]);
                seen.push(part.first() + row);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rows.bits(), expected.bits());
        assert_eq!(rows.bits().as_ptr(), before);
    }
}
