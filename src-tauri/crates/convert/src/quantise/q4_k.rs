//! Q4_K: 256 numbers in 4 bits each, in eight groups with a scale and a minimum of their own, byte for byte as llama.cpp's
//! reference (`quantize_row_q4_K_ref`) makes them.
//!
//! A number is `scale * code - minimum`. Each group looks for the two that have the least error, in which larger numbers weigh
//! more; then the eight scales and the eight minima become 6-bit multiples of two half-precision numbers, and the codes are
//! made again for what those mean. The sums are in single precision and in the reference's order.

#![allow(clippy::inline_always, reason = "what is not inlined is compiled for the least of processors")]

use half::f16;
use pulp::{Arch, Simd, WithSimd};

use self::lanes::Lanes;
use super::{OutOfRange, Quantiser, rounded};

mod lanes;

pub(super) struct Q4K;

const BLOCK: usize = 256;
const GROUP: usize = 32;
const GROUPS: usize = BLOCK / GROUP;
const BLOCK_BYTES: usize = 4 + 12 + BLOCK / 2;
/// The largest code.
const MOST: f32 = 15.0;
/// The largest multiple that a scale or a minimum is stored as.
const MOST_MULTIPLE: u8 = 63;

impl Quantiser for Q4K {
    fn name(&self) -> &'static str {
        "Q4_K"
    }

    fn ggml_type(&self) -> u32 {
        12
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn encode(&self, row: &[f32], out: &mut Vec<u8>) -> Result<(), OutOfRange> {
        let (blocks, rest) = row.as_chunks::<BLOCK>();
        assert!(rest.is_empty(), "a row that is no whole number of blocks reached Q4_K. This is a bug.");
        Arch::new().dispatch(Encode { blocks, out })
    }
}

/// Encoding a row, for whichever vectors the processor has.
struct Encode<'a> {
    blocks: &'a [[f32; BLOCK]],
    out: &'a mut Vec<u8>,
}

impl WithSimd for Encode<'_> {
    type Output = Result<(), OutOfRange>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        let Self { blocks, out } = self;
        // As many blocks as fill one vector with a number of each group.
        for blocks in blocks.chunks(S::F32_LANES.div_ceil(GROUPS)) {
            let mut fits = [[Fit::FLAT; GROUPS]; MOST_BLOCKS];
            let groups = blocks.as_flattened().as_chunks::<GROUP>().0;
            let fits_of_groups = fits.as_flattened_mut().chunks_mut(S::F32_LANES);
            for (groups, fits) in groups.chunks(S::F32_LANES).zip(fits_of_groups) {
                fit(simd, groups, fits);
            }
            for (block, fits) in blocks.iter().zip(&fits) {
                out.extend_from_slice(&encode_block(block, fits).ok_or(OutOfRange)?);
            }
        }
        Ok(())
    }
}

/// Blocks whose groups fill the widest vector, 16 numbers.
const MOST_BLOCKS: usize = 2;

fn encode_block(block: &[f32; BLOCK], fits: &[Fit; GROUPS]) -> Option<[u8; BLOCK_BYTES]> {
    let (scale, scales) = multiples(fits.each_ref().map(|fit| fit.scale))?;
    let (minimum, minima) = multiples(fits.each_ref().map(|fit| fit.minimum))?;
    let mut codes = [0; BLOCK];
    for (group, codes) in codes.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale.to_f32() * f32::from(scales[group]), minimum.to_f32() * f32::from(minima[group]));
        // Without a scale, the reference keeps the codes that it found first; they mean the same as any.
        *codes = fits[group].codes;
        if scale != 0.0 {
            for (code, number) in codes.iter_mut().zip(&block[group * GROUP..]) {
                *code = nearest_code((number + minimum) / scale);
            }
        }
    }
    let mut bytes = [0; BLOCK_BYTES];
    bytes[..2].copy_from_slice(&scale.to_le_bytes());
    bytes[2..4].copy_from_slice(&minimum.to_le_bytes());
    bytes[4..16].copy_from_slice(&packed(scales, minima));
    for (bytes, pair) in bytes[16..].chunks_exact_mut(GROUP).zip(codes.chunks_exact(2 * GROUP)) {
        let (low, high) = pair.split_at(GROUP);
        for (byte, (low, high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
            *byte = low | high << 4;
        }
    }
    Some(bytes)
}

/// The code for a number in steps: see [`rounded`].
#[inline(always)]
fn nearest_code(steps: f32) -> u8 {
    let whole = rounded(steps);
    let low = if whole < 0.0 { 0.0 } else { whole };
    (if low > MOST { MOST } else { low }) as u8
}

/// [`nearest_code`] for a number of each group. Which of two is taken where one is not a number or where they are zeros of both
/// signs does not matter: a group of equal numbers gets no codes, and the two zeros are the same code.
#[inline(always)]
fn nearest_codes<S: Simd>(steps: Lanes<S>) -> Lanes<S> {
    steps.rounded().at_least(steps.all(0.0)).at_most(steps.all(MOST))
}

/// What the reference fits to a group.
#[derive(Clone, Copy)]
struct Fit {
    scale: f32,
    /// What is subtracted; never negative.
    minimum: f32,
    codes: [u8; GROUP],
}

impl Fit {
    const FLAT: Self = Self { scale: 0.0, minimum: 0.0, codes: [0; GROUP] };
}

/// The first numbers of all groups, the second ones, and so on.
type Columns<S> = [Lanes<S>; GROUP];

/// For each group, the scale and minimum with the least error among the least-squares solutions for 21 roundings. It is
/// `make_qkx2_quants` with the arguments that Q4_K gives it, for as many groups as a vector has numbers, or fewer.
#[inline(always)]
fn fit<S: Simd>(simd: S, groups: &[[f32; GROUP]], fits: &mut [Fit]) {
    let all = |number| Lanes::all_of(simd, number);
    let columns: Columns<S> =
        std::array::from_fn(|at| Lanes::each(simd, |group| groups.get(group).map_or(0.0, |group| group[at])));
    let zero = all(0.0);
    let squares = columns.iter().fold(zero, |sum, &x| sum + x * x);
    let average = (squares / all(GROUP as f32)).square_root();
    let weights: Columns<S> = columns.map(|x| average + x.absolute());
    // Not a processor's own minimum and maximum, which may choose the other zero.
    let lowest = columns.iter().fold(zero, |low, &x| x.below(low).choose(x, low));
    let highest = columns.iter().fold(columns[0], |high, &x| high.below(x).choose(x, high));
    let sum_w = weights[1..].iter().fold(weights[0], |sum, &w| sum + w);
    let terms = columns[1..].iter().zip(&weights[1..]);
    let sum_x = terms.fold(weights[0] * columns[0], |sum, (&x, &w)| sum + w * x);
    let inverse = all(MOST) / (highest - lowest);
    let (mut scales, mut minima) = (all(1.0) / inverse, lowest);
    let mut best: Columns<S> = columns.map(|x| nearest_codes(inverse * (x - lowest)));
    let mut least = error(&columns, &weights, &best, scales, minima);
    let mut codes = best;
    for step in 0_u8..=20 {
        // From the best minimum so far, as the reference does.
        let inverse = all(-1.0 + 0.1 * f32::from(step) + MOST) / (highest - minima);
        let [mut sum_l, mut sum_l2, mut sum_xl] = [zero; 3];
        for ((&x, &w), code) in columns.iter().zip(&weights).zip(&mut codes) {
            *code = nearest_codes(inverse * (x - minima));
            let weighted = w * *code;
            sum_l = sum_l + weighted;
            sum_l2 = sum_l2 + weighted * *code;
            sum_xl = sum_xl + weighted * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        let both = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let low = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        let above = zero.below(low);
        let (scale, low) = (above.choose(sum_xl / sum_l2, both), above.choose(zero, low));
        let found = error(&columns, &weights, &codes, scale, low);
        let better = zero.below(determinant).and(found.below(least));
        least = better.choose(found, least);
        (scales, minima) = (better.choose(scale, scales), better.choose(low, minima));
        for (old, &new) in best.iter_mut().zip(&codes) {
            *old = better.choose(new, *old);
        }
    }
    // A group of equal numbers has no steps; what was computed for it is not a number.
    let flat = highest.at_or_below(lowest);
    let (scales, minima) = (flat.choose(zero, scales), flat.choose(lowest, minima));
    for (lane, fit) in fits.iter_mut().enumerate() {
        let codes = best.map(|codes| flat.choose(zero, codes).numbers()[lane] as u8);
        *fit = Fit { scale: scales.numbers()[lane], minimum: -minima.numbers()[lane], codes };
    }
}

/// The sum of squares of what is lost, by weight.
#[inline(always)]
fn error<S: Simd>(
    columns: &Columns<S>,
    weights: &Columns<S>,
    codes: &Columns<S>,
    scale: Lanes<S>,
    low: Lanes<S>,
) -> Lanes<S> {
    let mut sum = low.all(0.0);
    for ((&x, &w), &code) in columns.iter().zip(weights).zip(codes) {
        let difference = scale * code + low - x;
        sum = sum + w * (difference * difference);
    }
    sum
}

/// One half for all, and the multiples of it that stand for `numbers`, which are not negative.
fn multiples(numbers: [f32; GROUPS]) -> Option<(f16, [u8; GROUPS])> {
    let most = numbers.iter().copied().fold(0.0, f32::max);
    let unit = f16::from_f32(most / f32::from(MOST_MULTIPLE));
    if unit.is_infinite() {
        return None;
    }
    let inverse = if most > 0.0 { f32::from(MOST_MULTIPLE) / most } else { 0.0 };
    // Numbers below f32's normal range have no inverse; the unit is 0 then, so any multiples mean 0.
    let inverse = if inverse.is_infinite() { 0.0 } else { inverse };
    Some((unit, numbers.map(|number| (rounded(inverse * number) as i32 as u8).min(MOST_MULTIPLE))))
}

/// Sixteen 6-bit numbers in twelve bytes: the last four of each have their upper two bits with the first four.
fn packed(scales: [u8; GROUPS], minima: [u8; GROUPS]) -> [u8; 12] {
    std::array::from_fn(|at| match at {
        0..4 => scales[at] | scales[at + 4] >> 4 << 6,
        4..8 => minima[at - 4] | minima[at] >> 4 << 6,
        _ => scales[at - 4] & 0x0f | minima[at - 4] << 4,
    })
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{Device, Tensor};
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{hard_row, sha256};

    /// The sha256 of what `quantize_row_q4_K_ref` of ggml d99724f2 makes of the same row, compiled without fused
    /// multiplication and addition.
    const REFERENCE: &str = "2d303b970d618d7b49063bfb45df983fd1471d124bd8387e8dbc43427d81c7b6";

    fn encode(row: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Q4K.encode(row, &mut bytes).expect("in range");
        bytes
    }

    /// What candle reads from the bytes of one row.
    fn decode(bytes: &[u8]) -> Vec<f32> {
        let numbers = bytes.len() / BLOCK_BYTES * BLOCK;
        let storage = candle_core::quantized::QStorage::from_data(bytes.into(), &Device::Cpu, GgmlDType::Q4K);
        let tensor = QTensor::new(storage.expect("its bytes"), (1, numbers)).expect("a tensor");
        let tensor = tensor.dequantize(&Device::Cpu).expect("it can be read");
        tensor.flatten_all().expect("a row").to_vec1().expect("its numbers")
    }

    fn weight() -> impl Strategy<Value = f32> {
        prop_oneof![
            8 => -4.0_f32..4.0,
            1 => Just(0.0_f32),
            1 => (-16_i16..=16).prop_map(|half| f32::from(half) / 2.0),
            1 => (-20_i32..8, -1.0_f32..1.0).prop_map(|(power, number)| number * 2.0_f32.powi(power)),
        ]
    }

    fn rows() -> impl Strategy<Value = Vec<f32>> {
        (1_usize..4).prop_flat_map(|blocks| prop::collection::vec(weight(), blocks * BLOCK))
    }

    proptest! {
        #[test]
        fn what_comes_back_is_near(row in rows()) {
            let back = decode(&encode(&row));
            for (numbers, back) in row.chunks_exact(BLOCK).zip(back.chunks_exact(BLOCK)) {
                let largest = numbers.iter().fold(0.0_f32, |most, number| most.max(number.abs()));
                // A range of at most twice the largest number in 15 steps, the scale and the minimum in 63 steps each.
                let bound = largest * (2.0 / 15.0 + 4.0 / 63.0);
                for (number, back) in numbers.iter().zip(back) {
                    prop_assert!((number - back).abs() <= bound, "{} became {}, {}", number, back, largest);
                }
            }
        }
    }

    #[test]
    fn bytes_are_those_of_the_reference() {
        let row = hard_row(1 << 16);
        let mut bytes = encode(&row);
        assert_eq!(sha256(&bytes), REFERENCE);
        bytes[100] ^= 1;
        assert_ne!(sha256(&bytes), REFERENCE);
    }

    /// The bytes that vectors of one width make of a row.
    fn encode_with(simd: impl Simd, row: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encode { blocks: row.as_chunks().0, out: &mut bytes }.with_simd(simd).expect("in range");
        bytes
    }

    #[test]
    fn bytes_do_not_depend_on_the_width_of_vectors() {
        let row = hard_row(1 << 16);
        assert_eq!(sha256(&encode_with(pulp::Scalar::new(), &row)), REFERENCE);
        // Blocks that do not fill the widest vectors.
        let odd = &row[..5 * BLOCK];
        assert_eq!(encode(odd), encode_with(pulp::Scalar::new(), odd));
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            assert_eq!(sha256(&encode_with(simd, &row)), REFERENCE);
        }
    }

    /// candle's own search for a scale is a simpler one, so its bytes differ.
    #[test]
    fn the_error_is_smaller_than_an_independent_implementations() {
        let row = hard_row(1 << 16);
        let tensor = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).expect("a tensor");
        let theirs = QTensor::quantize(&tensor, GgmlDType::Q4K).expect("it can be quantised");
        let error = |bytes: &[u8]| row.iter().zip(decode(bytes)).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        let (ours, theirs) = (error(&encode(&row)), error(&theirs.data().expect("its bytes")));
        assert!(ours < theirs, "{ours} and {theirs}");
    }

    #[test]
    fn zeros_become_zeros() {
        assert!(decode(&encode(&[0.0; BLOCK])).iter().all(|back| *back == 0.0));
        assert_eq!(encode(&[-0.0; BLOCK]), [0; BLOCK_BYTES]);
    }

    #[test]
    fn multiples_are_packed_as_the_reader_unpacks_them() {
        // Each group is its own multiple of the smallest step, so that the reader must find each in its place.
        let row: Vec<f32> = (0..BLOCK).map(|at| (at / GROUP + 1) as f32 * ((at % 16) as f32 - 4.0)).collect();
        for (number, back) in row.iter().zip(decode(&encode(&row))) {
            assert!((number - back).abs() < 1.0, "{number} became {back}");
        }
    }

    #[test]
    fn a_scale_that_no_half_holds_is_out_of_range() {
        let mut row = [0.0; BLOCK];
        row[9] = 63.0 * 15.0 * 65_540.0;
        assert_eq!(Q4K.encode(&row, &mut Vec::new()), Err(OutOfRange));
        row[9] = -63.0 * 65_540.0;
        assert_eq!(Q4K.encode(&row, &mut Vec::new()), Err(OutOfRange));
    }

    #[test]
    fn both_types_of_4_bits_know_their_blocks() {
        let found = [&crate::quantise::q4_0::Q4_0 as &dyn Quantiser, &Q4K]
            .map(|it| (it.name(), it.ggml_type(), it.block(), it.block_bytes()));
        assert_eq!(found, [("Q4_0", 2, 32, 18), ("Q4_K", 12, 256, 144)]);
    }
}
