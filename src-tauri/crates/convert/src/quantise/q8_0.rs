//! Q8_0: 32 signed bytes and the half-precision scale that they share, byte for byte as llama.cpp's reference makes them.
//!
//! The scale is `max|x| / 127`. The bytes are rounded with the single-precision reciprocal of the unrounded scale, halves
//! away from zero; only afterwards is the scale itself rounded to a half.

use half::f16;

use super::{OutOfRange, Quantiser};

pub(super) struct Q8_0;

const BLOCK: usize = 32;
const BLOCK_BYTES: usize = 2 + BLOCK;

impl Quantiser for Q8_0 {
    fn name(&self) -> &'static str {
        "Q8_0"
    }

    fn ggml_type(&self) -> u32 {
        8
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange> {
        let (blocks, rest) = row.as_chunks::<BLOCK>();
        assert!(rest.is_empty(), "a row that is no whole number of blocks reached Q8_0. This is a bug.");
        for block in blocks {
            out.extend_from_slice(&encode_block(block).ok_or(OutOfRange)?);
        }
        Ok(())
    }
}

fn encode_block(block: &[f32; BLOCK]) -> Option<[u8; BLOCK_BYTES]> {
    let scale = largest(block) / 127.0;
    let stored = f16::from_f32(scale);
    if stored.is_infinite() {
        return None;
    }
    // The reciprocal of a scale below f32's normal range is infinite; the stored scale is 0 then, so any bytes mean 0.
    let reciprocal = if scale == 0.0 || scale.recip().is_infinite() { 0.0 } else { scale.recip() };
    let mut bytes = [0; BLOCK_BYTES];
    bytes[..2].copy_from_slice(&stored.to_le_bytes());
    for (byte, number) in bytes[2..].iter_mut().zip(block) {
        *byte = rounded(number * reciprocal).cast_unsigned();
    }
    Some(bytes)
}

/// The largest magnitude. Eight lanes, because a fold over one depends on itself and is not vectorised.
fn largest(block: &[f32; BLOCK]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for eight in block.as_chunks::<8>().0 {
        for (lane, number) in lanes.iter_mut().zip(eight) {
            let magnitude = number.abs();
            *lane = if magnitude > *lane { magnitude } else { *lane };
        }
    }
    lanes.into_iter().fold(0.0, f32::max)
}

/// `f32::round` for magnitudes below 2^22, without the call into the C library that keeps the loop from being vectorised:
/// adding the largest number below one half rounds halves away from zero and nothing else across an integer.
fn rounded(number: f32) -> i8 {
    const BELOW_HALF: f32 = 0.5 - f32::EPSILON / 4.0;
    (number + BELOW_HALF.copysign(number)) as i32 as i8
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::*;

    fn encode(row: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Q8_0.encode(row, &mut bytes).expect("in range");
        bytes
    }

    fn decode(bytes: &[u8]) -> Vec<f32> {
        let block = |block: &[u8]| {
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
            block[2..].iter().map(move |byte| f32::from(byte.cast_signed()) * scale).collect::<Vec<_>>()
        };
        bytes.chunks_exact(BLOCK_BYTES).flat_map(block).collect()
    }

    /// Numbers of the sizes that weights have, with zeros and exact ties among them.
    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -4.0_f32..4.0,
            1 => Just(0.0_f32),
            1 => (-254_i16..=254).prop_map(|half| f32::from(half) / 2.0),
            1 => (-60_i32..14, -1.0_f32..1.0).prop_map(|(power, number)| number * 2.0_f32.powi(power)),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<f32>> {
        (1_usize..8).prop_flat_map(|blocks| prop::collection::vec(weight(), blocks * BLOCK))
    }

    proptest! {
        #[test]
        fn what_comes_back_is_half_a_step_away_at_most(row in rows()) {
            let back = decode(&encode(&row));
            for (numbers, back) in row.chunks_exact(BLOCK).zip(back.chunks_exact(BLOCK)) {
                let step = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs())) / 127.0;
                // Half a step from rounding, and 127 times what the scale lost when it became a half.
                let bound = step * 0.5 + 127.0 * (step * 2.0_f32.powi(-11) + 2.0_f32.powi(-25)) + f32::MIN_POSITIVE;
                for (number, back) in numbers.iter().zip(back) {
                    prop_assert!((number - back).abs() <= bound * 1.0001, "{} became {}", number, back);
                }
            }
        }

        #[test]
        fn bytes_are_those_of_an_independent_implementation(row in rows()) {
            let tensor = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).expect("a tensor");
            let theirs = QTensor::quantize(&tensor, GgmlDType::Q8_0).expect("it can be quantised");
            let ours = encode(&row);
            prop_assert_eq!(&ours[..], &theirs.data().expect("its bytes")[..]);
        }

        #[test]
        fn rounding_is_that_of_the_standard_library(number in -127.4_f32..127.4) {
            prop_assert_eq!(i32::from(rounded(number)), number.round() as i32);
        }
    }

    #[test]
    fn rounding_is_exact_at_every_tie_and_beside_it() {
        for twice in -254_i16..=254 {
            let tie = f32::from(twice) / 2.0;
            for number in [tie.next_down(), tie, tie.next_up()] {
                assert_eq!(i32::from(rounded(number)), number.round() as i32, "{number:e}");
            }
        }
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
        row[40] = 127.0 * 65_520.0;
        assert_eq!(Q8_0.encode(&row, &mut Vec::new()), Err(OutOfRange));
        row[40] = 127.0 * 65_504.0;
        assert_eq!(Q8_0.encode(&row, &mut Vec::new()), Ok(()));
    }
}
