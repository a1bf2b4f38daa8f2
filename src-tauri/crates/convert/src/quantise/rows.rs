//! Integers with scales of their own, as Core ML packages hold them: the codes and the scales are two arrays.
//!
//! Unlike a [`Quantiser`](super::Quantiser), these types interleave nothing. A row still stands for itself, so rows may come
//! in any blocks; whoever calls keeps the few scales until the codes are written. A scale is rounded to half precision
//! first and the codes are made for the rounded one, so that rounding the scale costs nothing at the far end of the range.

use half::f16;

use super::{OutOfRange, rounded};

/// Numbers that share a scale in [`encode_int4`].
pub(crate) const INT4_BLOCK: usize = 32;

/// Appends a row as signed bytes, and its one scale.
///
/// The scale is `max|x| / 127` and the codes are `x / scale`, halves to even, as coremltools' symmetric linear quantisation
/// has them. The code -128 is not used.
pub(crate) fn encode_int8(row: &[f32], codes: &mut Vec<u8>, scales: &mut Vec<u8>) -> Result<(), OutOfRange> {
    let scale = stored_scale(largest(row) / 127.0)?;
    codes.extend(row.iter().map(|number| (rounded(number / scale) as i32).clamp(-127, 127) as i8 as u8));
    scales.extend(f16::from_f32(scale).to_le_bytes());
    Ok(())
}

/// Appends a row of whole blocks as signed 4-bit integers, two in a byte and the first one in the lower half, and a scale for
/// each block.
///
/// coremltools takes `max|x| / 7` for a scale. That is the first candidate here; the others are smaller by steps down to
/// `max|x| / 8`, which reaches the code -8 and cuts off a positive largest number. The candidate with the smallest squared
/// error wins, so that no block is worse than coremltools' own.
pub(crate) fn encode_int4(row: &[f32], codes: &mut Vec<u8>, scales: &mut Vec<u8>) -> Result<(), OutOfRange> {
    const DIVISORS: [f32; 5] = [7.0, 7.25, 7.5, 7.75, 8.0];
    let (blocks, rest) = row.as_chunks::<INT4_BLOCK>();
    assert!(rest.is_empty(), "a row that is no whole number of blocks reached int4. This is a bug.");
    for block in blocks {
        let largest = largest(block);
        let mut best = (0.0, [0.0; INT4_BLOCK], f32::INFINITY);
        for divisor in DIVISORS {
            let scale = stored_scale(largest / divisor)?;
            let codes = block.map(|number| rounded(number / scale).clamp(-8.0, 7.0));
            let differences: [f32; INT4_BLOCK] = std::array::from_fn(|at| block[at] - codes[at] * scale);
            let error = sum_of_squares(&differences);
            if error < best.2 {
                best = (scale, codes, error);
            }
        }
        let (scale, chosen, _) = best;
        let half = |code: f32| (code as i8).cast_unsigned() & 0x0f;
        codes.extend(chosen.as_chunks().0.iter().map(|[low, high]| half(*low) | half(*high) << 4));
        scales.extend(f16::from_f32(scale).to_le_bytes());
    }
    Ok(())
}

/// The scale as half precision keeps it. A row of zeros, or of numbers too small for a scale, gets the smallest one there is,
/// so that nothing is ever divided by zero.
fn stored_scale(scale: f32) -> Result<f32, OutOfRange> {
    let stored = f16::from_f32(scale);
    if stored.is_infinite() {
        return Err(OutOfRange);
    }
    Ok(stored.max(f16::from_bits(1)).to_f32())
}

/// Eight lanes, as in [`largest`].
fn sum_of_squares(numbers: &[f32; INT4_BLOCK]) -> f32 {
    let eights = numbers.as_chunks::<8>().0.iter();
    let lanes = eights.fold([0.0; 8], |sum: [f32; 8], eight| std::array::from_fn(|at| sum[at] + eight[at] * eight[at]));
    lanes.iter().sum()
}

/// The largest magnitude. Eight lanes, because a fold over one depends on itself and is not vectorised.
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (lane, number) in lanes.iter_mut().zip(eight) {
            let magnitude = number.abs();
            *lane = if magnitude > *lane { magnitude } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(0.0, |most, number| most.max(number.abs()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Encode = fn(&[f32], &mut Vec<u8>, &mut Vec<u8>) -> Result<(), OutOfRange>;

    fn encode(encode: Encode, row: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        encode(row, &mut codes, &mut scales).expect("in range");
        (codes, scales.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect())
    }

    fn decode_int4(codes: &[u8], scales: &[f32]) -> Vec<f32> {
        let codes = codes.iter().flat_map(|byte| [(byte << 4).cast_signed() >> 4, byte.cast_signed() >> 4]);
        codes.enumerate().map(|(at, code)| f32::from(code) * scales[at / INT4_BLOCK]).collect()
    }

    /// Numbers of the sizes that weights have, with zeros and outliers among them.
    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -1.0_f32..1.0, 1 => Just(0.0_f32), 1 => (-20_i32..8, -1.0_f32..1.0).prop_map(|(p, x)| x * 2.0_f32.powi(p))]
    }

    proptest! {
        #[test]
        fn a_byte_is_half_a_step_away_at_most(row in prop::collection::vec(weight(), 1..100)) {
            let (codes, scales) = encode(encode_int8, &row);
            prop_assert_eq!((codes.len(), scales.len()), (row.len(), 1));
            let largest = largest(&row);
            for (number, code) in row.iter().zip(codes) {
                let back = f32::from(code.cast_signed()) * scales[0];
                // The scale lost 2^-11 of itself, or up to 2^-25 where it is below the normal range; the last code clips.
                let clipped = 127.0 * (largest / 127.0 * 2.0_f32.powi(-11) + 2.0_f32.powi(-25));
                prop_assert!((number - back).abs() <= scales[0] * 0.50001 + clipped, "{number} became {back}");
            }
        }

        #[test]
        fn no_int4_block_is_worse_than_coremltools_own(row in prop::collection::vec(weight(), INT4_BLOCK)) {
            let (codes, scales) = encode(encode_int4, &row);
            prop_assert_eq!((codes.len(), scales.len()), (16, 1));
            let error = |back: &[f32]| row.iter().zip(back).map(|(x, y)| (x - y).powi(2)).sum::<f32>();
            let theirs = stored_scale(largest(&row) / 7.0).expect("in range");
            let back: Vec<f32> = row.iter().map(|x| (x / theirs).round_ties_even().clamp(-8.0, 7.0) * theirs).collect();
            prop_assert!(error(&decode_int4(&codes, &scales)) <= error(&back));
        }

        #[test]
        fn the_largest_magnitude_is_found_wherever_it_stands(row in prop::collection::vec(weight(), 0..40)) {
            let wanted = row.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
            prop_assert_eq!(largest(&row).to_bits(), wanted.to_bits());
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for number in [0.0, -0.0, f32::from_bits(1), 1e-12] {
            let (codes, scales) = encode(encode_int8, &[number; 5]);
            assert!(codes.iter().all(|code| *code == 0) && scales[0] > 0.0);
            let (codes, scales) = encode(encode_int4, &[number; INT4_BLOCK]);
            assert!(codes.iter().all(|code| *code == 0) && scales[0] > 0.0);
        }
    }

    #[test]
    fn ties_go_to_the_even_code() {
        // The scale is exactly 1.
        let (codes, scales) = encode(encode_int8, &[127.0, 0.5, 1.5, -0.5, -2.5, -127.0]);
        assert_eq!(scales, [1.0]);
        assert_eq!(codes.iter().map(|code| code.cast_signed()).collect::<Vec<_>>(), [127, 0, 2, 0, -2, -127]);
    }

    #[test]
    fn the_first_code_is_in_the_lower_half() {
        let mut row = [0.0; INT4_BLOCK];
        (row[0], row[1], row[2]) = (7.0, -1.0, 3.0);
        let (codes, scales) = encode(encode_int4, &row);
        assert_eq!((codes[0], codes[1], scales[0]), (0xf7, 0x03, 1.0));
    }

    #[test]
    fn a_scale_that_no_half_holds_is_out_of_range() {
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        assert_eq!(encode_int8(&[127.0 * 65_520.0], &mut codes, &mut scales), Err(OutOfRange));
        let mut row = [0.0; INT4_BLOCK];
        row[3] = -7.0 * 65_520.0;
        assert_eq!(encode_int4(&row, &mut codes, &mut scales), Err(OutOfRange));
    }
}
