//! From the bytes of a checkpoint to numbers.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use safetensors::Dtype;

use crate::checkpoint::mlx::Affine;

/// Set in full in the bits of NaN and of infinity, and of nothing else.
const EXPONENT: u32 = 0x7f80_0000;

/// Turns rows of one type into F32. Its buffers are as long as a row and are used again and again.
#[derive(Default)]
pub(crate) struct Decoder {
    bits: Vec<u16>,
    row: Vec<f32>,
    scales: Vec<f32>,
    biases: Vec<f32>,
}

/// A row of packed integers with its scales and biases.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedRow<'a> {
    pub(crate) integers: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) biases: &'a [u8],
}

/// A row that holds a NaN or an infinite number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotFinite;

impl Decoder {
    /// The numbers of `bytes`, which are whole little-endian numbers of the type `dtype` (F32, F16 or BF16).
    pub(crate) fn row(&mut self, dtype: Dtype, bytes: &[u8]) -> Result<&[f32], NotFinite> {
        widen(dtype, bytes, &mut self.bits, &mut self.row);
        self.checked()
    }

    /// The numbers of a row that MLX has quantised.
    pub(crate) fn affine(&mut self, affine: &Affine, packed: PackedRow<'_>) -> Result<&[f32], NotFinite> {
        widen(affine.scales.dtype, packed.scales, &mut self.bits, &mut self.scales);
        widen(affine.biases.dtype, packed.biases, &mut self.bits, &mut self.biases);
        self.row.resize(self.scales.len() * affine.packing.group, 0.0);
        affine.packing.numbers(packed.integers, &self.scales, &self.biases, &mut self.row);
        self.checked()
    }

    fn checked(&self) -> Result<&[f32], NotFinite> {
        // On the bits and without a way out of the loop, so that it is vectorised.
        let endless =
            self.row.iter().fold(false, |endless, number| endless | (number.to_bits() & EXPONENT == EXPONENT));
        if endless { Err(NotFinite) } else { Ok(&self.row) }
    }
}

/// Puts the numbers of `bytes` into `row`.
fn widen(dtype: Dtype, bytes: &[u8], bits: &mut Vec<u16>, row: &mut Vec<f32>) {
    row.clear();
    if dtype == Dtype::F32 {
        row.extend(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes));
        return;
    }
    bits.clear();
    bits.extend(bytes.as_chunks().0.iter().copied().map(u16::from_le_bytes));
    row.resize(bits.len(), 0.0);
    match dtype {
        Dtype::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(row),
        Dtype::BF16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(row),
        other => unreachable!("a tensor of type {other:?} passed the plan. This is a bug."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedbar_mlx::{Bits, Packing};

    use crate::checkpoint::mlx::Companion;

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
    fn a_packed_row_is_its_integers_times_their_scales_of_whatever_type() {
        let packing = Packing { bits: Bits::Four, group: 32 };
        let companion = |dtype| Companion { shard: 0, dtype, offset: 0 };
        let affine = Affine { packing, scales: companion(Dtype::BF16), biases: companion(Dtype::F32) };
        let (scale, bias) = (bf16::from_f32(-0.5).to_le_bytes(), 2.0_f32.to_le_bytes());
        let packed = PackedRow { integers: &[0x10; 16], scales: &scale, biases: &bias };
        assert_eq!(Decoder::default().affine(&affine, packed), Ok(&[2.0, 1.5].repeat(16)[..]));
        let endless = PackedRow { biases: &f32::INFINITY.to_le_bytes(), ..packed };
        assert_eq!(Decoder::default().affine(&affine, endless), Err(NotFinite));
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
