//! Products against plain loops in F64, and every level of instructions against the portable one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use embedbar_kernels::{
    AddTo, AlignedBytes, Code, Epilogue, Group, Isa, Output, PANEL, PackedMatrix, PackedShape, Packer, Plain, Product,
    QuantisedRows, ScaleType, WithBias, interleaved,
};
use proptest::prelude::*;

/// A matrix of codes before it is packed.
#[derive(Clone, Debug)]
struct Source {
    shape: PackedShape,
    codes: Vec<i8>,
    scales: Vec<f32>,
    minima: Vec<f32>,
}

impl Source {
    /// Codes that are random or all at a limit, with scales and minima that F16 holds exactly.
    fn new(shape: PackedShape, extreme: Option<bool>, seed: u64) -> Self {
        let mut random = Random(seed);
        let (low, high) = if shape.code == Code::Eight { (-128, 127) } else { (0, 15) };
        let codes = (0..shape.outputs * shape.inputs)
            .map(|_| match extreme {
                None => random.between(low, high) as i8,
                Some(true) => high as i8,
                Some(false) => low as i8,
            })
            .collect();
        let mut sixteenths = |low, high| random.between(low, high) as f32 / 16.0;
        let count = shape.outputs * shape.groups();
        Self {
            shape,
            codes,
            scales: (0..count).map(|_| sixteenths(-64, 64)).collect(),
            minima: (0..count).map(|_| sixteenths(-640, 64)).collect(),
        }
    }

    fn pack(&self, isa: Isa) -> (PackedShape, AlignedBytes) {
        let shape = PackedShape { isa, ..self.shape };
        let bytes = Packer::new(shape)
            .expect("the shape can be packed")
            .matrix(|row, into| {
                let groups = shape.groups();
                into.codes.copy_from_slice(&self.codes[row * shape.inputs..][..shape.inputs]);
                into.scales.copy_from_slice(&self.scales[row * groups..][..groups]);
                into.minima.copy_from_slice(&self.minima[row * groups..][..groups]);
                Ok::<_, Infallible>(())
            })
            .unwrap_or_else(|never| match never {});
        (shape, bytes)
    }

    /// The two terms of a weight.
    fn weight(&self, output: usize, input: usize) -> (f64, f64) {
        let group = output * self.shape.groups() + input / self.shape.group.length(self.shape.inputs);
        let code = f64::from(self.codes[output * self.shape.inputs + input]);
        let (scale, minimum) = (f64::from(self.scales[group]), f64::from(self.minima[group]));
        match self.shape.code {
            Code::Eight => (code * scale, 0.0),
            Code::Four => ((code - 8.0) * scale, 0.0),
            Code::FourWithMinimum => (code * scale, minimum),
        }
    }

    /// The product with the rows as they are after quantisation, and for each value the sum of the magnitudes that it was
    /// made of, which is what its error is measured by.
    fn naive(&self, left: &QuantisedRows) -> Vec<(f64, f64)> {
        let (inputs, outputs) = (self.shape.inputs, self.shape.outputs);
        let length = left.group().length(inputs);
        let mut product = Vec::with_capacity(left.rows() * outputs);
        for row in 0..left.rows() {
            for output in 0..outputs {
                let mut sum = (0.0, 0.0);
                for input in 0..inputs {
                    let scale = f64::from(left.scales()[row * (inputs / length) + input / length]);
                    let value = f64::from(left.codes()[row * inputs + input]) * scale;
                    let (coded, minimum) = self.weight(output, input);
                    sum.0 += value * (coded + minimum);
                    sum.1 += value.abs() * (coded.abs() + minimum.abs());
                }
                product.push(sum);
            }
        }
        product
    }

    fn product<E: Epilogue>(&self, isa: Isa, left: &QuantisedRows, output: Output<'_>, epilogue: &E) {
        let (shape, bytes) = self.pack(isa);
        let matrix = PackedMatrix::new(shape, &bytes).expect("the bytes were packed for this shape");
        Product::new(matrix.times(left), output, epilogue).run();
    }
}

/// Numbers without a pattern.
struct Random(u64);

impl Random {
    fn between(&mut self, low: i64, high: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + ((self.0 >> 33) as i64).rem_euclid(high - low + 1)
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.between(-1000, 1000) as f32 / 250.0).collect()
    }
}

/// Products agree with the sum to a few roundings of an F32 for each group, relative to the magnitudes that it is made of.
fn tolerance(shape: &PackedShape, magnitude: f64) -> f64 {
    magnitude * (shape.groups() as f64 + 4.0) * f64::from(f32::EPSILON)
}

fn left(values: &[f32], inputs: usize, group: Group) -> QuantisedRows {
    let mut rows = QuantisedRows::new();
    rows.quantise(values, inputs, group);
    rows
}

fn sources() -> impl Strategy<Value = (Source, usize, u64)> {
    let groups =
        prop_oneof![Just(Group::Of32), Just(Group::Of64), Just(Group::Of128), Just(Group::Of256), Just(Group::Row),];
    let codes = prop_oneof![Just(Code::Eight), Just(Code::Four), Just(Code::FourWithMinimum)];
    let scales = prop_oneof![Just(ScaleType::F16), Just(ScaleType::F32)];
    let extremes = prop_oneof![4 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))];
    (1_usize..100, 1_usize..5, groups, codes, scales, extremes, 1_usize..20, any::<u64>()).prop_map(
        |(outputs, times, group, code, scale, extreme, rows, seed)| {
            let inputs = times * if group == Group::Row { 96 } else { group.length(0) };
            let shape = PackedShape { outputs, inputs, code, group, scale, isa: Isa::Portable };
            (Source::new(shape, extreme, seed), rows, seed)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn products_are_those_of_plain_loops((source, rows, seed) in sources()) {
        let shape = source.shape;
        let left = left(&Random(!seed).values(rows * shape.inputs), shape.inputs, shape.group);
        let expected = source.naive(&left);
        for isa in Isa::available() {
            let mut output = vec![f32::NAN; rows * shape.outputs];
            source.product(isa, &left, Output::new(&mut output, rows, shape.outputs, shape.outputs), &Plain);
            for (index, (&value, &(exact, magnitude))) in output.iter().zip(&expected).enumerate() {
                let error = (f64::from(value) - exact).abs();
                prop_assert!(error <= tolerance(&shape, magnitude), "{isa:?} {index}: {value} for {exact}");
            }
        }
    }
}

/// The largest sums there are: everything at its limit, both signs, all heights of a tile.
#[test]
fn nothing_saturates() {
    for code in [Code::Eight, Code::Four, Code::FourWithMinimum] {
        for group in [Group::Of32, Group::Row] {
            let shape =
                PackedShape { outputs: 33, inputs: 1 << 14, code, group, scale: ScaleType::F32, isa: Isa::Portable };
            for extreme in [true, false] {
                let source = Source::new(shape, Some(extreme), 5);
                for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9] {
                    for value in [4.0, -4.0] {
                        let left = left(&vec![value; rows * shape.inputs], shape.inputs, group);
                        assert!(left.codes().iter().all(|code| code.abs() == 127));
                        // All rows are the same.
                        let first = self::left(&vec![value; shape.inputs], shape.inputs, group);
                        let expected = source.naive(&first);
                        for isa in Isa::available() {
                            let mut output = vec![f32::NAN; rows * 33];
                            source.product(isa, &left, Output::new(&mut output, rows, 33, 33), &Plain);
                            for (&found, &(exact, magnitude)) in output.iter().zip(expected.iter().cycle()) {
                                let error = (f64::from(found) - exact).abs();
                                assert!(error <= tolerance(&shape, magnitude), "{isa:?} {found} for {exact}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_gives_nan_and_spoils_no_other() {
    let shape = PackedShape {
        outputs: 40,
        inputs: 64,
        code: Code::FourWithMinimum,
        group: Group::Of32,
        scale: ScaleType::F16,
        isa: Isa::Portable,
    };
    let source = Source::new(shape, None, 1);
    let mut values = Random(2).values(3 * 64);
    values[64 + 40] = f32::INFINITY;
    let left = left(&values, 64, Group::Of32);
    for isa in Isa::available() {
        let mut output = vec![0.0; 3 * 40];
        source.product(isa, &left, Output::new(&mut output, 3, 40, 40), &Plain);
        assert!(output[..40].iter().chain(&output[80..]).all(|value| value.is_finite()));
        assert!(output[40..80].iter().all(|value| value.is_nan()));
    }
}

/// Enough rows for several blocks and enough panels for several parts, done by threads that take what comes.
#[test]
fn threads_share_a_product() {
    let shape = PackedShape {
        outputs: 200,
        inputs: 2048,
        code: Code::Eight,
        group: Group::Of128,
        scale: ScaleType::F16,
        isa: Isa::best(),
    };
    let source = Source::new(shape, None, 9);
    let rows = 700;
    let left = left(&Random(3).values(rows * 2048), 2048, Group::Of128);
    let (shape, bytes) = source.pack(Isa::best());
    let matrix = PackedMatrix::new(shape, &bytes).expect("the bytes were packed for this shape");
    let mut alone = vec![f32::NAN; rows * 200];
    Product::new(matrix.times(&left), Output::new(&mut alone, rows, 200, 200), &Plain).run();
    let mut shared = vec![f32::NAN; rows * 200];
    let product = Product::new(matrix.times(&left), Output::new(&mut shared, rows, 200, 200), &Plain);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while product.run_part() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(product.parts() > 4);
    assert_eq!(done.into_inner(), product.parts());
    assert!(!product.run_part());
    assert_eq!(shared, alone);
}

#[test]
fn epilogues_write_their_columns_of_wider_rows_and_no_others() {
    let shape = PackedShape {
        outputs: 70,
        inputs: 32,
        code: Code::Eight,
        group: Group::Row,
        scale: ScaleType::F32,
        isa: Isa::Portable,
    };
    let source = Source::new(shape, None, 11);
    let rows = 5;
    let left = left(&Random(4).values(rows * 32), 32, Group::Row);
    let bias: Vec<f32> = (0..70).map(|column| column as f32).collect();
    for isa in Isa::available() {
        let mut plain = vec![f32::NAN; rows * 70];
        source.product(isa, &left, Output::new(&mut plain, rows, 70, 70), &Plain);
        let check = |name: &str, before: f32, output: &[f32], expected: &dyn Fn(f32, f32) -> f32| {
            for (row, values) in output.chunks(90).enumerate() {
                for (column, &value) in values.iter().enumerate() {
                    let inside = (10..80).contains(&column);
                    let wanted =
                        if inside { expected(plain[row * 70 + column - 10], bias[column - 10]) } else { before };
                    assert!((value - wanted).abs() <= wanted.abs() * 1e-6, "{name}: {value} for {wanted}");
                }
            }
        };
        let mut output = vec![7.0; rows * 90];
        source.product(isa, &left, Output::new(&mut output[10..], rows, 70, 90), &WithBias(&bias));
        check("bias", 7.0, &output, &|product, bias| product + bias);
        output.fill(7.0);
        source.product(isa, &left, Output::new(&mut output[10..], rows, 70, 90), &AddTo { bias: None });
        check("add", 7.0, &output, &|product, _| 7.0 + product);
        output.fill(7.0);
        source.product(isa, &left, Output::new(&mut output[10..], rows, 70, 90), &AddTo { bias: Some(&bias) });
        check("add with bias", 7.0, &output, &|product, bias| 7.0 + product + bias);
    }
}

/// The product of the values of two panels.
struct Both;

impl Epilogue for Both {
    const PANELS: usize = 2;

    fn store(&self, _row: usize, _column: usize, values: &[f32], output: &mut [f32]) {
        let (left, right) = values.split_at(PANEL);
        for (output, (left, right)) in output.iter_mut().zip(left.iter().zip(right)) {
            *output = left * right;
        }
    }
}

#[test]
fn an_epilogue_gets_both_panels_of_interleaved_matrices() {
    // Both matrices have 64 outputs, of which the caller wants 50.
    let half = PackedShape {
        outputs: 64,
        inputs: 96,
        code: Code::Eight,
        group: Group::Of32,
        scale: ScaleType::F16,
        isa: Isa::Portable,
    };
    let sources = [1, 2].map(|seed| Source::new(half, None, seed));
    let mut both = Source::new(PackedShape { outputs: 128, ..half }, None, 3);
    for row in 0..128 {
        let (matrix, from) = interleaved(row);
        both.codes[row * 96..][..96].copy_from_slice(&sources[matrix].codes[from * 96..][..96]);
        both.scales[row * 3..][..3].copy_from_slice(&sources[matrix].scales[from * 3..][..3]);
    }
    let rows = 11;
    let left = left(&Random(5).values(rows * 96), 96, Group::Of32);
    for isa in Isa::available() {
        let [first, second] = [0, 1].map(|matrix: usize| {
            let mut output = vec![f32::NAN; rows * 64];
            sources[matrix].product(isa, &left, Output::new(&mut output, rows, 64, 64), &Plain);
            output
        });
        let mut output = vec![f32::NAN; rows * 50];
        both.product(isa, &left, Output::new(&mut output, rows, 50, 50), &Both);
        for (row, values) in output.chunks(50).enumerate() {
            for (column, &value) in values.iter().enumerate() {
                let expected = first[row * 64 + column] * second[row * 64 + column];
                assert!((value - expected).abs() <= expected.abs() * 1e-6, "{isa:?} {value} for {expected}");
            }
        }
    }
}

proptest! {
    /// Bytes of a file that is broken or hostile: products with them may be any numbers, NaN included, but they end.
    #[test]
    fn any_bytes_give_a_product(seed in any::<u64>(), half in any::<bool>(), rows in 1_usize..10) {
        for isa in Isa::available() {
            for code in [Code::Eight, Code::Four, Code::FourWithMinimum] {
                let scale = if half { ScaleType::F16 } else { ScaleType::F32 };
                let shape = PackedShape { outputs: 33, inputs: 128, code, group: Group::Of64, scale, isa };
                let mut random = Random(seed);
                let mut bytes = AlignedBytes::zeroed(shape.bytes());
                bytes.fill_with(|| random.between(0, 255) as u8);
                let matrix = PackedMatrix::new(shape, &bytes).expect("the bytes are as many as they should be");
                let left = left(&random.values(rows * 128), 128, Group::Of64);
                let mut output = vec![0.0; rows * 33];
                Product::new(matrix.times(&left), Output::new(&mut output, rows, 33, 33), &Plain).run();
            }
        }
    }
}

#[test]
fn no_rows_are_no_work() {
    let shape = PackedShape {
        outputs: 40,
        inputs: 64,
        code: Code::Four,
        group: Group::Of32,
        scale: ScaleType::F16,
        isa: Isa::best(),
    };
    let source = Source::new(shape, None, 1);
    source.product(Isa::best(), &left(&[], 64, Group::Of32), Output::new(&mut [], 0, 40, 40), &Plain);
}
