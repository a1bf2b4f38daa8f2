//! Q4_0: 32 numbers in 4 bits each and the half-precision scale that they share, byte for byte as llama.cpp's reference makes
//! them.
//!
//! The scale is the number of the largest magnitude, sign included, divided by -8: that number gets the code 0, which means
//! -8, and so the code without a counterpart is used. Codes are truncated after adding 8.5. The first half of a block is in
//! the lower halves of the bytes.

use half::f16;

use super::{OutOfRange, Quantiser};

pub(super) struct Q4_0;

const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 2 + BLOCK / 2;

impl Quantiser for Q4_0 {
    fn name(&self) -> &'static str {
        "Q4_0"
    }

    fn ggml_type(&self) -> u32 {
        2
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange> {
        let (blocks, rest) = row.as_chunks::<BLOCK>();
        assert!(rest.is_empty(), "a row that is no whole number of blocks reached Q4_0. This is a bug.");
        for block in blocks {
            out.extend_from_slice(&encode_block(block).ok_or(OutOfRange)?);
        }
        Ok(())
    }
}

fn encode_block(block: &[f32; BLOCK]) -> Option<[u8; BLOCK_BYTES]> {
    let scale = largest(block) / -8.0;
    let stored = f16::from_f32(scale);
    if stored.is_infinite() {
        return None;
    }
    // The reciprocal of a scale below f32's normal range is infinite; the stored scale is 0 then, so any codes mean 0.
    let reciprocal = if scale == 0.0 || scale.recip().is_infinite() { 0.0 } else { scale.recip() };
    let code = |number: f32| (((number * reciprocal + 8.5) as i8).cast_unsigned()).min(15);
    let mut bytes = [0; BLOCK_BYTES];
    bytes[..2].copy_from_slice(&stored.to_le_bytes());
    let (low, high) = block.split_at(BLOCK / 2);
    for (byte, (low, high)) in bytes[2..].iter_mut().zip(low.iter().zip(high)) {
        *byte = code(*low) | code(*high) << 4;
    }
    Some(bytes)
}

/// The first number with the largest magnitude.
fn largest(block: &[f32; BLOCK]) -> f32 {
    block.iter().fold(0.0, |largest: f32, number| if number.abs() > largest.abs() { *number } else { largest })
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{hard_row, sha256};

    /// The sha256 of what `quantize_row_q4_0_ref` of ggml d99724f2 makes of the same row.
    const REFERENCE: &str = "a6c728e99c24b2c30dc1c9c97fe1eb4b5c318ecef8f927f944294f64a60f7736";

    fn encode(row: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Q4_0.encode(row, &mut bytes).expect("in range");
        bytes
    }

    fn decode(bytes: &[u8]) -> Vec<f32> {
        let block = |block: &[u8]| {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            let number = move |code: u8| (f32::from(code) - 8.0) * scale;
            let low = block[2..].iter().map(move |byte| number(byte & 0x0f));
            low.chain(block[2..].iter().map(move |byte| number(byte >> 4))).collect::<Vec<_>>()
        };
        bytes.chunks_exact(BLOCK_BYTES).flat_map(block).collect()
    }

    /// Numbers of the sizes that weights have, with zeros, exact ties and outliers among them.
    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -4.0_f32..4.0,
            1 => Just(0.0_f32),
            1 => (-16_i16..=16).prop_map(|half| f32::from(half) / 2.0),
            1 => (-60_i32..12, -1.0_f32..1.0).prop_map(|(power, number)| number * 2.0_f32.powi(power)),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<f32>> {
        (1_usize..8).prop_flat_map(|blocks| prop::collection::vec(weight(), blocks * BLOCK))
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_an_independent_implementation(row in rows()) {
            let tensor = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).expect("a tensor");
            let theirs = QTensor::quantize(&tensor, GgmlDType::Q4_0).expect("it can be quantised");
            prop_assert_eq!(&encode(&row)[..], &theirs.data().expect("its bytes")[..]);
        }

        #[test]
        fn what_comes_back_is_one_step_away_at_most(row in rows()) {
            let back = decode(&encode(&row));
            for (numbers, back) in row.chunks_exact(BLOCK).zip(back.chunks_exact(BLOCK)) {
                let step = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / 8.0;
                // Half a step from rounding, but a whole one at the end of the range that has no code; and what the scale lost.
                let bound = step + 8.0 * (step * 2.0_f32.powi(-11) + 2.0_f32.powi(-25)) + f32::MIN_POSITIVE;
                for (number, back) in numbers.iter().zip(back) {
                    prop_assert!((number - back).abs() <= bound * 1.0001, "{} became {}", number, back);
                }
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_reference() {
        assert_eq!(sha256(&encode(&hard_row(1 << 16))), REFERENCE);
    }

    #[test]
    fn zeros_and_numbers_too_small_for_a_scale_become_zeros() {
        for number in [0.0, -0.0, f32::from_bits(1), 1e-38, -1e-12] {
            assert!(decode(&encode(&[number; BLOCK])).iter().all(|back| *back == 0.0), "{number:e}");
        }
    }

    #[test]
    fn a_scale_that_no_half_holds_is_out_of_range() {
        let mut row = [1.0; 2 * BLOCK];
        row[40] = 8.0 * 65_520.0;
        assert_eq!(Q4_0.encode(&row, &mut Vec::new()), Err(OutOfRange));
        row[40] = 8.0 * 65_504.0;
        assert_eq!(Q4_0.encode(&row, &mut Vec::new()), Ok(()));
    }
}
