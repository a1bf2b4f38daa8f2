//! Products of BF16 with BF16 against plain loops, at every level of instructions.

use std::convert::Infallible;

use embedbar_kernels::{
    AlignedBytes, Bf16Products, Element, ExactMatrix, ExactPacker, ExactShape, Gated, Isa, Output, PairedMatrix,
    PairedPacker, PairedShape, Plain, Product, RoundedRows, WithBias, elementwise::Activation,
};
use half::bf16;
use proptest::prelude::*;

/// What a sum that is not exact may be rounded by: units in the last place, because bfdot rounds to odd.
const ROUNDING: f64 = f32::EPSILON as f64;

fn pack(shape: PairedShape, weight: impl Fn(usize, usize) -> u16) -> AlignedBytes {
    PairedPacker::new(shape)
        .expect("the shape can be packed")
        .matrix(|row, into| {
            for (input, bytes) in into.chunks_exact_mut(2).enumerate() {
                bytes.copy_from_slice(&weight(row, input).to_le_bytes());
            }
            Ok::<_, Infallible>(())
        })
        .unwrap_or_else(|never| match never {})
}

/// A level, and products beside it.
type Means = (Isa, Bf16Products);

fn means() -> impl Iterator<Item = Means> {
    Isa::available().flat_map(|isa| Bf16Products::available(isa).map(move |products| (isa, products)))
}

fn product(shape: PairedShape, (isa, products): Means, packed: &[u8], values: &[f32]) -> Vec<f32> {
    let matrix =
        PairedMatrix::with_products(shape, isa, products, packed).expect("the bytes were packed for this shape");
    let mut left = RoundedRows::with_isa(isa);
    left.round(values, shape.inputs);
    let rows = left.rows();
    let mut output = vec![f32::NAN; rows * shape.outputs];
    Product::new(matrix.times(&left), Output::new(&mut output, rows, shape.outputs, shape.outputs), &Plain).run();
    output
}

fn bits(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

fn rounded(value: f32) -> f64 {
    let value = bf16::from_f32(value).to_f64();
    if value.abs() < f64::from(f32::MIN_POSITIVE) { 0.0 } else { value }
}

fn hash(seed: u64, row: usize, input: usize) -> u64 {
    let mixed = (seed ^ ((row as u64) << 32 | input as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

/// -1 to 1.
fn number(seed: u64, row: usize, input: usize) -> f32 {
    hash(seed, row, input) as f32 / 2_f32.powi(30) - 1.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Sums of products of small whole numbers are exact in any order.
    #[test]
    fn products_of_whole_numbers_are_exact(
        outputs in 1_usize..100,
        times in 1_usize..12,
        rows in 1_usize..40,
        seed in any::<u64>(),
    ) {
        let shape = PairedShape { outputs, inputs: 32 * times };
        let weight = |row, input| hash(seed, row, input) as i64 % 33 - 16;
        let value = |row, input| hash(!seed, row, input) as i64 % 101 - 50;
        let packed = pack(shape, |row, input| bits(weight(row, input) as f32));
        let values: Vec<f32> =
            (0..rows * shape.inputs).map(|index| value(index / shape.inputs, index % shape.inputs) as f32).collect();
        let bias: Vec<f32> = (0..outputs).map(|output| output as f32 * 3.0).collect();
        let expected: Vec<f32> = (0..rows * outputs)
            .map(|index| {
                let (row, output) = (index / outputs, index % outputs);
                let products = (0..shape.inputs).map(|input| value(row, input) * weight(output, input));
                (products.sum::<i64>() + output as i64 * 3) as f32
            })
            .collect();
        let mut left = RoundedRows::new();
        left.round(&values, shape.inputs);
        for means in means() {
            let matrix = PairedMatrix::with_products(shape, means.0, means.1, &packed).expect("the bytes were packed for this shape");
            let mut output = vec![f32::NAN; rows * outputs];
            let into = Output::new(&mut output, rows, outputs, outputs);
            Product::new(matrix.times(&left), into, &WithBias(&bias)).run();
            prop_assert_eq!(&output, &expected, "{:?}", means);
        }
    }

    /// Sums of any rounded numbers, of very different magnitudes too, are right to the roundings of adding up in F32.
    #[test]
    fn products_are_those_of_plain_loops(
        times in 1_usize..30,
        rows in 1_usize..20,
        spread in 0_i32..40,
        seed in any::<u64>(),
    ) {
        let shape = PairedShape { outputs: 48, inputs: 32 * times };
        let scaled = |seed, row, input| {
            let exponent = (hash(seed ^ 0x5555, row, input) % (2 * spread as u64 + 1)) as i32 - spread;
            number(seed, row, input) * 2_f32.powi(exponent)
        };
        let packed = pack(shape, |row, input| bits(scaled(seed, row, input)));
        let values: Vec<f32> =
            (0..rows * shape.inputs).map(|index| scaled(!seed, index / shape.inputs, index % shape.inputs)).collect();
        for means in means() {
            for (index, &found) in product(shape, means, &packed, &values).iter().enumerate() {
                let terms = (0..shape.inputs).map(|input| {
                    rounded(values[index / 48 * shape.inputs + input]) * rounded(scaled(seed, index % 48, input))
                });
                let (exact, magnitude) = terms.fold((0.0, 0.0), |sum, term| (sum.0 + term, sum.1 + term.abs()));
                let tolerance = magnitude * (shape.inputs as f64) * ROUNDING;
                prop_assert!((f64::from(found) - exact).abs() <= tolerance, "{:?}: {} for {}", means, found, exact);
            }
        }
    }

    /// What the arithmetic costs: each value on the left is off by at most 2^-8 of itself.
    #[test]
    fn products_are_close_to_those_of_the_exact_matrix(times in 1_usize..10, rows in 1_usize..10, seed in any::<u64>()) {
        let shape = PairedShape { outputs: 40, inputs: 32 * times };
        let packed = pack(shape, |row, input| bits(number(seed, row, input)));
        let exact_shape = ExactShape { outputs: 40, inputs: shape.inputs, element: Element::BF16 };
        let exactly = ExactPacker::new(exact_shape)
            .expect("the shape can be packed")
            .matrix(|row, into| {
                for (input, bytes) in into.chunks_exact_mut(2).enumerate() {
                    bytes.copy_from_slice(&bits(number(seed, row, input)).to_le_bytes());
                }
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        let values: Vec<f32> =
            (0..rows * shape.inputs).map(|index| number(!seed, index / shape.inputs, index % shape.inputs)).collect();
        for means in means() {
            let matrix = ExactMatrix::new(exact_shape, means.0, &exactly).expect("the bytes were packed for this shape");
            let mut exact = vec![f32::NAN; rows * 40];
            Product::new(matrix.times(&values), Output::new(&mut exact, rows, 40, 40), &Plain).run();
            for (index, (found, exact)) in product(shape, means, &packed, &values).into_iter().zip(exact).enumerate() {
                let magnitude: f64 = (0..shape.inputs)
                    .map(|input| (values[index / 40 * shape.inputs + input] * number(seed, index % 40, input)).abs())
                    .map(f64::from)
                    .sum();
                // The weights themselves were rounded by as much before they were packed.
                let tolerance = magnitude * (1.0 + 1.0 / 256.0) * (1.0 / 256.0 + 2.0 * shape.inputs as f64 * ROUNDING);
                prop_assert!((f64::from(found) - f64::from(exact)).abs() <= tolerance, "{:?}: {} for {}", means, found, exact);
            }
        }
    }

    /// Bytes of a file may be anything. Only numbers that are zero for one level and not for another make a difference.
    #[test]
    fn any_bits_give_what_plain_loops_give(seed in any::<u64>(), rows in 1_usize..9, mask in any::<u32>()) {
        let shape = PairedShape { outputs: 32, inputs: 32 };
        // Rarely what is not finite, often what is tiny.
        let any_bits = |seed, row, input| {
            let bits = hash(seed, row, input) as u32;
            if bits.is_multiple_of(61) { bits as u16 } else { (bits & (mask | 0x807f) & 0xbfff) as u16 }
        };
        let mut packed = AlignedBytes::zeroed(shape.bytes());
        for row in 0..32 {
            for input in 0..32 {
                packed[input / 2 * 128 + row * 4 + input % 2 * 2..][..2]
                    .copy_from_slice(&any_bits(seed, row, input).to_le_bytes());
            }
        }
        let value = |row, input| f32::from_bits(u32::from(any_bits(!seed, row, input)) << 16);
        let values: Vec<f32> = (0..rows * 32).map(|index| value(index / 32, index % 32)).collect();
        for means in means() {
            for (index, &found) in product(shape, means, &packed, &values).iter().enumerate() {
                let (mut exact, mut magnitude, mut lost) = (0.0, 0.0, 0.0);
                for input in 0..32 {
                    let weight = bf16::from_bits(any_bits(seed, index % 32, input)).to_f64();
                    let value = rounded(values[index / 32 * 32 + input]);
                    exact += weight * value;
                    magnitude += (weight * value).abs();
                    // Everything that may be taken for zero: a weight, a product or a sum.
                    lost += if weight.abs() < f64::from(f32::MIN_POSITIVE) { (weight * value).abs() } else { 0.0 };
                    lost += 2.0 * f64::from(f32::MIN_POSITIVE);
                }
                if magnitude >= f64::from(f32::MAX) && exact.is_finite() {
                    // Some order of adding up is too large on its way.
                    continue;
                }
                if exact.is_nan() || lost.is_nan() {
                    // A subnormal weight times infinity is infinite for one level and NaN for another.
                    prop_assert!(!found.is_finite(), "{:?}: {} for {}", means, found, exact);
                } else if exact.is_infinite() {
                    prop_assert!(found.is_nan() || f64::from(found).to_bits() == exact.to_bits(), "{:?}: {} for {}", means, found, exact);
                } else {
                    let tolerance = magnitude * 32.0 * ROUNDING + lost;
                    prop_assert!((f64::from(found) - exact).abs() <= tolerance, "{:?}: {} for {}", means, found, exact);
                }
            }
        }
    }
}

/// Every number that 16 bits can hold comes out as it is, or as zero where it is subnormal.
#[test]
fn weights_are_taken_as_they_are() {
    let shape = PairedShape { outputs: 1 << 16, inputs: 32 };
    for input in [2, 3] {
        let packed = pack(shape, |row, at| if at == input { row as u16 } else { 0 });
        for rows in [1, 2, 3] {
            let mut values = vec![0.0; 32 * rows];
            values[32 * (rows - 1) + input] = 1.0;
            for means in means() {
                let output = product(shape, means, &packed, &values);
                for (number, &found) in output[(rows - 1) << 16..].iter().enumerate() {
                    let weight = bf16::from_bits(number as u16).to_f32();
                    let expected = if weight.abs() < f32::MIN_POSITIVE { 0.0 } else { weight };
                    assert!(
                        found.to_bits() == expected.to_bits()
                            || found.abs() + expected.abs() <= 0.0
                            || (found.is_nan() && expected.is_nan()),
                        "{means:?} {number:#x}: {found} for {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_on_the_left_shows_in_its_row_only() {
    let shape = PairedShape { outputs: 5, inputs: 64 };
    let packed = pack(shape, |row, _| bits(row as f32));
    for means in means() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let mut values = vec![1.0; 3 * 64];
            values[64 + 17] = bad;
            let output = product(shape, means, &packed, &values);
            for row in [0, 2] {
                assert_eq!(output[row * 5..][..5], [0.0, 64.0, 128.0, 192.0, 256.0], "{means:?} {bad}");
            }
            // Times zero even infinity is NaN, and the largest F32 rounds to infinity.
            assert!(output[5].is_nan());
            for &found in &output[6..10] {
                assert!(if bad.is_nan() {
                    found.is_nan()
                } else {
                    found.is_infinite() && found.signum() == bad.signum()
                });
            }
        }
    }
}

/// An epilogue that takes two panels at a time, and parts of the product one after another.
#[test]
fn two_matrices_in_turn_are_gated() {
    let shape = PairedShape { outputs: 2 * 64, inputs: 96 };
    let packed = pack(shape, |row, input| bits(number(1, row, input)));
    let values: Vec<f32> = (0..9 * 96).map(|index| number(2, index / 96, index % 96)).collect();
    for means in means() {
        let both = product(shape, means, &packed, &values);
        let matrix = PairedMatrix::with_products(shape, means.0, means.1, &packed)
            .expect("the bytes were packed for this shape");
        let mut left = RoundedRows::with_isa(means.0);
        left.round(&values, 96);
        let mut output = vec![f32::NAN; 9 * 64];
        let epilogue = Gated { activation: Activation::Silu, isa: means.0 };
        Product::new(matrix.times(&left), Output::new(&mut output, 9, 64, 64), &epilogue).run();
        for (index, &found) in output.iter().enumerate() {
            let (row, column) = (index / 64, index % 64);
            let at = |which: usize| f64::from(both[row * 128 + column / 32 * 64 + which * 32 + column % 32]);
            let expected = at(0) / (1.0 + (-at(0)).exp()) * at(1);
            assert!((f64::from(found) - expected).abs() <= 1e-5 * (1.0 + expected.abs()), "{means:?}");
        }
    }
}
