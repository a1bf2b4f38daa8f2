//! From the bytes of a checkpoint to numbers.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use safetensors::Dtype;

/// Set in full in the bits of NaN and of infinity, and of nothing else.
const EXPONENT: u32 = 0x7f80_0000;

/// Turns rows of one type into F32. Its buffers are as long as a row and are used again and again.
#[derive(Default)]
pub(crate) struct Decoder {
    bits: Vec<u16>,
    row: Vec<f32>,
}

/// A row that holds a NaN or an infinite number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotFinite;

impl Decoder {
    /// The numbers of `bytes`, which are whole little-endian numbers of the type `dtype` (F32, F16 or BF16).
    pub(crate) fn row(&mut self, dtype: Dtype, bytes: &[u8]) -> Result<&[f32], NotFinite> {
        self.row.clear();
        match dtype {
            Dtype::F32 => self.row.extend(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes)),
            Dtype::F16 => self.halves(bytes, |bits, row| bits.reinterpret_cast::<f16>().convert_to_f32_slice(row)),
            Dtype::BF16 => self.halves(bytes, |bits, row| bits.reinterpret_cast::<bf16>().convert_to_f32_slice(row)),
            other => unreachable!("a tensor of type {other:?} passed the plan. This is a bug."),
        }
        // On the bits and without a way out of the loop, so that it is vectorised.
        let endless =
            self.row.iter().fold(false, |endless, number| endless | (number.to_bits() & EXPONENT == EXPONENT));
        if endless { Err(NotFinite) } else { Ok(&self.row) }
    }

    fn halves(&mut self, bytes: &[u8], convert: fn(&[u16], &mut [f32])) {
        self.bits.clear();
        self.bits.extend(bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes));
        self.row.resize(self.bits.len(), 0.0);
        convert(&self.bits, &mut self.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_gives_the_numbers_that_it_stands_for() {
        let mut decoder = Decoder::default();
        let single: Vec<u8> = [1.5_f32, -0.0, 1e-40].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(decoder.row(Dtype::F32, &single), Ok(&[1.5, -0.0, 1e-40][..]));
        // Halves: 1.5, the smallest, the largest; bfloat16: 1.5, and a number far beyond the halves.
        let halves = [0x00, 0x3e, 0x01, 0x00, 0xff, 0x7b];
        assert_eq!(decoder.row(Dtype::F16, &halves), Ok(&[1.5, 2.0_f32.powi(-24), 65504.0][..]));
        let brain = [0xc0, 0x3f, 0x80, 0x7e];
        assert_eq!(decoder.row(Dtype::BF16, &brain), Ok(&[1.5, 2.0_f32.powi(126)][..]));
    }

    #[test]
    fn nan_and_infinity_are_found_in_each_type() {
        let mut decoder = Decoder::default();
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let single: Vec<u8> = [0.0, number, 0.0].iter().flat_map(|number: &f32| number.to_le_bytes()).collect();
            assert_eq!(decoder.row(Dtype::F32, &single), Err(NotFinite));
            assert_eq!(decoder.row(Dtype::F16, &f16::from_f32(number).to_le_bytes()), Err(NotFinite));
            assert_eq!(decoder.row(Dtype::BF16, &bf16::from_f32(number).to_le_bytes()), Err(NotFinite));
        }
    }
}
