//! Products with weights of floating point against plain loops, at every level of instructions.

use std::convert::Infallible;

use embedbar_kernels::{
    AlignedBytes, Element, ExactMatrix, ExactPacker, ExactShape, Isa, Output, Plain, Product, WithBias,
};
use half::{bf16, f16};
use proptest::prelude::*;

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::BF16];

fn pack(shape: ExactShape, bytes: impl Fn(usize, usize) -> Vec<u8>) -> AlignedBytes {
    ExactPacker::new(shape)
        .expect("the shape can be packed")
        .matrix(|row, into| {
            let row: Vec<u8> = (0..shape.inputs).flat_map(|input| bytes(row, input)).collect();
            into.copy_from_slice(&row);
            Ok::<_, Infallible>(())
        })
        .unwrap_or_else(|never| match never {})
}

fn bytes(element: Element, value: f32) -> Vec<u8> {
    match element {
        Element::F32 => value.to_le_bytes().to_vec(),
        Element::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        Element::BF16 => bf16::from_f32(value).to_le_bytes().to_vec(),
    }
}

fn hash(seed: u64, row: usize, input: usize) -> u64 {
    let mixed = (seed ^ ((row as u64) << 32 | input as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Sums of products of small whole numbers are exact in any order.
    #[test]
    fn products_of_whole_numbers_are_exact(
        outputs in 1_usize..100,
        times in 1_usize..12,
        rows in 1_usize..20,
        element in proptest::sample::select(&ELEMENTS[..]),
        seed in any::<u64>(),
    ) {
        let shape = ExactShape { outputs, inputs: 32 * times, element };
        let weight = |row, input| hash(seed, row, input) as i64 % 33 - 16;
        let value = |row, input| hash(!seed, row, input) as i64 % 101 - 50;
        let packed = pack(shape, |row, input| bytes(element, weight(row, input) as f32));
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
        for isa in Isa::available() {
            let matrix = ExactMatrix::new(shape, isa, &packed).expect("the bytes were packed for this shape");
            let mut output = vec![f32::NAN; rows * outputs];
            let into = Output::new(&mut output, rows, outputs, outputs);
            Product::new(matrix.times(&values), into, &WithBias(&bias)).run();
            prop_assert_eq!(&output, &expected, "{:?}", isa);
        }
    }

    /// Any sums are right to the roundings of adding up in F32.
    #[test]
    fn products_are_those_of_plain_loops(times in 1_usize..30, rows in 1_usize..10, seed in any::<u64>()) {
        let shape = ExactShape { outputs: 48, inputs: 32 * times, element: Element::F32 };
        let number = |seed, row, input| hash(seed, row, input) as f32 / 2_f32.powi(30) - 1.0;
        let packed = pack(shape, |row, input| bytes(Element::F32, number(seed, row, input)));
        let values: Vec<f32> =
            (0..rows * shape.inputs).map(|index| number(!seed, index / shape.inputs, index % shape.inputs)).collect();
        for isa in Isa::available() {
            let matrix = ExactMatrix::new(shape, isa, &packed).expect("the bytes were packed for this shape");
            let mut output = vec![f32::NAN; rows * 48];
            Product::new(matrix.times(&values), Output::new(&mut output, rows, 48, 48), &Plain).run();
            for (index, &found) in output.iter().enumerate() {
                let terms = (0..shape.inputs).map(|input| {
                    f64::from(number(!seed, index / 48, input)) * f64::from(number(seed, index % 48, input))
                });
                let (exact, magnitude) = terms.fold((0.0, 0.0), |sum, term| (sum.0 + term, sum.1 + term.abs()));
                let tolerance = magnitude * (shape.inputs as f64) * f64::from(f32::EPSILON);
                prop_assert!((f64::from(found) - exact).abs() <= tolerance, "{:?}: {} for {}", isa, found, exact);
            }
        }
    }
}

/// Every number that 16 bits can hold comes out as it is.
#[test]
fn short_weights_are_widened_exactly() {
    for element in [Element::F16, Element::BF16] {
        let shape = ExactShape { outputs: 1 << 16, inputs: 32, element };
        let packed =
            pack(shape, |row, input| if input == 3 { (row as u16).to_le_bytes().to_vec() } else { vec![0; 2] });
        let mut values = [0.0; 32];
        values[3] = 1.0;
        for isa in Isa::available() {
            let matrix = ExactMatrix::new(shape, isa, &packed).expect("the bytes were packed for this shape");
            let mut output = vec![f32::NAN; 1 << 16];
            Product::new(matrix.times(&values), Output::new(&mut output, 1, 1 << 16, 1 << 16), &Plain).run();
            for (bits, &found) in output.iter().enumerate() {
                let bits = bits as u16;
                let exact = if element == Element::F16 {
                    f16::from_bits(bits).to_f32()
                } else {
                    f32::from_bits(u32::from(bits) << 16)
                };
                assert!(
                    found.to_bits() == exact.to_bits()
                        || found.abs() + exact.abs() <= 0.0
                        || (found.is_nan() && exact.is_nan()),
                    "{isa:?} {bits:#x}: {found} for {exact}"
                );
            }
        }
    }
}
