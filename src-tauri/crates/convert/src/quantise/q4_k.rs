//! Q4_K: 256 numbers in 4 bits each, in eight groups with a scale and a minimum of their own, byte for byte as llama.cpp's
//! reference (`quantize_row_q4_K_ref`) makes them.
//!
//! A number is `scale * code - minimum`. Each group looks for the two that have the least error, in which larger numbers weigh
//! more; then the eight scales and the eight minima become 6-bit multiples of two half-precision numbers, and the codes are
//! made again for what those mean. The sums are in single precision and in the reference's order.

use half::f16;

use super::{OutOfRange, Quantiser, rounded};

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
        for block in blocks {
            out.extend_from_slice(&encode_block(block).ok_or(OutOfRange)?);
        }
        Ok(())
    }
}

/// One number for each group of a block. The groups are fitted side by side: each in the reference's order, and yet as many at
/// a time as the processor's registers hold.
type Lanes = [f32; GROUPS];

fn lanes(of: impl Fn(usize) -> f32) -> Lanes {
    std::array::from_fn(of)
}

fn encode_block(block: &[f32; BLOCK]) -> Option<[u8; BLOCK_BYTES]> {
    let fit = fit(block);
    let (scale, scales) = multiples(fit.scales)?;
    let (minimum, minima) = multiples(fit.minima)?;
    let mut codes = [0; BLOCK];
    for (group, codes) in codes.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let (scale, minimum) = (scale.to_f32() * f32::from(scales[group]), minimum.to_f32() * f32::from(minima[group]));
        for (at, found) in codes.iter_mut().enumerate() {
            // Without a scale, the reference keeps the codes that it found first; they mean the same as any.
            let first = fit.codes[at][group];
            let code = if scale == 0.0 { first } else { code((block[group * GROUP + at] + minimum) / scale) };
            *found = code as u8;
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

/// The code for a number in steps, as a whole number: see [`rounded`].
fn code(steps: f32) -> f32 {
    let whole = rounded(steps);
    let low = if whole < 0.0 { 0.0 } else { whole };
    if low > MOST { MOST } else { low }
}

/// What the reference fits to the groups of a block.
struct Fit {
    scales: Lanes,
    /// What is subtracted; never negative.
    minima: Lanes,
    /// The codes of the first numbers of all groups, of the second ones, and so on.
    codes: [Lanes; GROUP],
}

/// The scale and minimum with the least error among the least-squares solutions for 21 roundings. It is `make_qkx2_quants`
/// with the arguments that Q4_K gives it.
fn fit(block: &[f32; BLOCK]) -> Fit {
    let columns: [Lanes; GROUP] = std::array::from_fn(|at| lanes(|group| block[group * GROUP + at]));
    let squares = columns.iter().fold([0.0; GROUPS], |sum, x| lanes(|at| sum[at] + x[at] * x[at]));
    let average = squares.map(|sum| (sum / GROUP as f32).sqrt());
    let weights = columns.map(|x| lanes(|at| average[at] + x[at].abs()));
    // Not f32's own minimum and maximum, which may choose the other zero.
    let lowest = columns.iter().fold([0.0; GROUPS], |low, x| lanes(|at| if x[at] < low[at] { x[at] } else { low[at] }));
    let highest =
        columns.iter().fold(columns[0], |high, x| lanes(|at| if x[at] > high[at] { x[at] } else { high[at] }));
    let terms = || columns.iter().zip(&weights);
    let sum_w = weights[1..].iter().fold(weights[0], |sum, w| lanes(|at| sum[at] + w[at]));
    let first = lanes(|at| weights[0][at] * columns[0][at]);
    let sum_x = terms().skip(1).fold(first, |sum, (x, w)| lanes(|at| sum[at] + w[at] * x[at]));
    let round = |inverse: &Lanes, low: &Lanes| columns.map(|x| lanes(|at| code(inverse[at] * (x[at] - low[at]))));
    let error = |scale: &Lanes, low: &Lanes, codes: &[Lanes; GROUP]| {
        terms().zip(codes).fold([0.0; GROUPS], |sum, ((x, w), code)| {
            let difference = lanes(|at| scale[at] * code[at] + low[at] - x[at]);
            lanes(|at| sum[at] + w[at] * (difference[at] * difference[at]))
        })
    };
    let inverse = lanes(|at| MOST / (highest[at] - lowest[at]));
    let mut best = Fit { scales: inverse.map(f32::recip), minima: lowest, codes: round(&inverse, &lowest) };
    let mut least = error(&best.scales, &best.minima, &best.codes);
    for step in 0_u8..=20 {
        // From the best minimum so far, as the reference does.
        let from = best.minima;
        let inverse = lanes(|at| (-1.0 + 0.1 * f32::from(step) + MOST) / (highest[at] - from[at]));
        let codes = round(&inverse, &from);
        let [mut sum_l, mut sum_l2, mut sum_xl] = [[0.0; GROUPS]; 3];
        for ((x, w), code) in terms().zip(&codes) {
            let weighted = lanes(|at| w[at] * code[at]);
            sum_l = lanes(|at| sum_l[at] + weighted[at]);
            sum_l2 = lanes(|at| sum_l2[at] + weighted[at] * code[at]);
            sum_xl = lanes(|at| sum_xl[at] + weighted[at] * x[at]);
        }
        let determinant = lanes(|at| sum_w[at] * sum_l2[at] - sum_l[at] * sum_l[at]);
        let low = lanes(|at| (sum_l2[at] * sum_x[at] - sum_l[at] * sum_xl[at]) / determinant[at]);
        let scale = lanes(|at| {
            let both = (sum_w[at] * sum_xl[at] - sum_x[at] * sum_l[at]) / determinant[at];
            if low[at] > 0.0 { sum_xl[at] / sum_l2[at] } else { both }
        });
        let low = low.map(|low| if low > 0.0 { 0.0 } else { low });
        let found = error(&scale, &low, &codes);
        let better: [bool; GROUPS] = std::array::from_fn(|at| determinant[at] > 0.0 && found[at] < least[at]);
        if better.contains(&true) {
            let choose = |new: &Lanes, old: &Lanes| lanes(|at| if better[at] { new[at] } else { old[at] });
            (least, best.scales, best.minima) =
                (choose(&found, &least), choose(&scale, &best.scales), choose(&low, &best.minima));
            for (old, new) in best.codes.iter_mut().zip(&codes) {
                *old = choose(new, old);
            }
        }
    }
    // A group of equal numbers has no steps; what was computed for it is not a number.
    let flat: [bool; GROUPS] = std::array::from_fn(|at| highest[at] <= lowest[at]);
    let unless_flat = |numbers: &Lanes, flats: &Lanes| lanes(|at| if flat[at] { flats[at] } else { numbers[at] });
    let zeros = [0.0; GROUPS];
    Fit {
        scales: unless_flat(&best.scales, &zeros),
        minima: unless_flat(&best.minima, &lowest).map(|low| -low),
        codes: best.codes.map(|codes| unless_flat(&codes, &zeros)),
    }
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
