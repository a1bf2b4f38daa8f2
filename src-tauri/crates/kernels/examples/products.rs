//! Measures products on one thread: GMAC/s by shape, code, group and rows, with what has to be done to the rows
//! before (quantisation, rounding) included.
//!
//! ```text
//! cargo run --release -p embedbar-kernels --example products [level] [word of the line, such as "1024x3072" or "8/32"]
//! ```
//!
//! "BF16" is widened, "BF16 pairs" multiplied as it is, with rows that are rounded to it.
//!
//! A matrix larger than any cache is measured only where its name, "2560x262144", is among the words.
//!
//! Time is the thread's time on the processor, and each figure the median of many calls, with the best in parentheses:
//! other programs disturb only the caches and the clock.

#![expect(unsafe_code, reason = "the clock of a thread is in the C library, which std links anyway")]

use std::convert::Infallible;
use std::ffi::{c_int, c_long};

use embedbar_kernels::{
    Bf16Products, Code, Element, ExactMatrix, ExactPacker, ExactShape, Group, Isa, Output, PackedMatrix, PackedShape,
    Packer, PairedMatrix, PairedPacker, PairedShape, Plain, Product, QuantisedRows, RoundedRows, ScaleType,
};

const SHAPES: [(usize, usize); 5] = [(384, 1536), (1536, 384), (384, 384), (1024, 3072), (3072, 1024)];
/// More than any cache holds, and only measured where it is asked for.
const STREAMED: (usize, usize) = (2560, 1 << 18);
const STREAMED_NAME: &str = "2560x262144";
const ROWS: [usize; 6] = [1, 8, 16, 64, 128, 512];

#[repr(C)]
struct Time {
    seconds: c_long,
    nanoseconds: c_long,
}

unsafe extern "C" {
    safe fn clock_gettime(clock: c_int, time: &mut Time) -> c_int;
}

/// Seconds that this thread was on a processor.
fn thread_time() -> f64 {
    let clock = if cfg!(target_os = "macos") { 16 } else { 3 };
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    assert_eq!(clock_gettime(clock, &mut time), 0, "there is a clock of the thread");
    time.seconds as f64 + time.nanoseconds as f64 / 1e9
}

/// Median and best seconds of a call.
fn measure(multiplications: usize, mut call: impl FnMut()) -> (f64, f64) {
    call();
    let repetitions = (2_000_000_000 / multiplications).clamp(5, 200);
    let mut times: Vec<f64> = (0..repetitions)
        .map(|_| {
            let start = thread_time();
            call();
            thread_time() - start
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[repetitions / 2], times[0])
}

/// Numbers from -1 to 1 without a pattern.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn coded(shape: PackedShape, name: &str) {
    let mut seed = 1_u32;
    let mut packer = Packer::new(shape).expect("the shape can be packed");
    let bytes = packer
        .matrix(|_, row| {
            for code in &mut row.codes {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *code = (seed >> 24) as i8;
            }
            row.scales.fill(0.01);
            row.minima.fill(-0.5);
            Ok::<_, Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    let matrix = PackedMatrix::new(shape, &bytes).expect("the bytes were packed for this shape");
    let mut left = QuantisedRows::new();
    report(name, (shape.inputs, shape.outputs), |values, output| {
        left.quantise(values, shape.inputs, shape.group);
        Product::new(matrix.times(&left), output, &Plain).run();
    });
}

fn exact(shape: ExactShape, isa: Isa, name: &str) {
    let bytes = ExactPacker::new(shape)
        .expect("the shape can be packed")
        .matrix(|_, row| {
            // As any of the three this is about a half.
            row.fill(0x3c);
            Ok::<_, Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    let matrix = ExactMatrix::new(shape, isa, &bytes).expect("the bytes were packed for this shape");
    report(name, (shape.inputs, shape.outputs), |values, output| {
        Product::new(matrix.times(values), output, &Plain).run();
    });
}

fn paired(shape: PairedShape, isa: Isa, products: Bf16Products, name: &str) {
    let bytes = PairedPacker::new(shape)
        .expect("the shape can be packed")
        .matrix(|_, row| {
            row.fill(0x3c);
            Ok::<_, Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
    let matrix =
        PairedMatrix::with_products(shape, isa, products, &bytes).expect("the bytes were packed for this shape");
    let mut left = RoundedRows::new();
    report(name, (shape.inputs, shape.outputs), |values, output| {
        left.round(values, shape.inputs);
        Product::new(matrix.times(&left), output, &Plain).run();
    });
}

/// Prints a line: the speed of `product` for each number of rows.
fn report(name: &str, (inputs, outputs): (usize, usize), mut product: impl FnMut(&[f32], Output<'_>)) {
    let mut line = format!("{name:28}");
    for rows in ROWS {
        let values = numbers(rows * inputs);
        let mut output = vec![0.0; rows * outputs];
        let multiplications = rows * inputs * outputs;
        let (median, best) = measure(multiplications, || {
            product(&values, Output::new(&mut output, rows, outputs, outputs));
        });
        let speed = |seconds: f64| multiplications as f64 / seconds / 1e9;
        line.extend([format!("  m{rows} {:.0} ({:.0})", speed(median), speed(best))]);
    }
    println!("{line}");
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    let named = |name: &str| Isa::ALL.into_iter().find(|isa| isa.name() == name);
    let isa = arguments.next_if(|name| named(name).is_some()).and_then(|name| named(&name)).unwrap_or(Isa::best());
    let words: Vec<String> = arguments.collect();
    let wanted = |line: &str| words.iter().all(|word| line.contains(word.as_str()));
    println!("{}: GMAC/s, median (best)", isa.name());
    let streamed = words.iter().any(|word| STREAMED_NAME.starts_with(word.as_str())).then_some(STREAMED);
    for (inputs, outputs) in SHAPES.into_iter().chain(streamed) {
        for (code, group, scale) in [
            (Code::Eight, Group::Row, ScaleType::F32),
            (Code::Eight, Group::Of128, ScaleType::F16),
            (Code::Eight, Group::Of32, ScaleType::F16),
            (Code::Four, Group::Of32, ScaleType::F16),
            (Code::FourWithMinimum, Group::Of32, ScaleType::F16),
        ] {
            let name = format!("{inputs}x{outputs} {}/{}", code.name(), group.length(inputs));
            if wanted(&name) {
                coded(PackedShape { outputs, inputs, code, group, scale, isa }, &name);
            }
        }
        for element in [Element::F32, Element::F16, Element::BF16] {
            let name = format!("{inputs}x{outputs} {element:?}");
            if wanted(&name) {
                exact(ExactShape { outputs, inputs, element }, isa, &name);
            }
        }
        for products in Bf16Products::available(isa) {
            let name = format!("{inputs}x{outputs} BF16 pairs {}", products.name());
            if wanted(&name) {
                paired(PairedShape { outputs, inputs }, isa, products, &name);
            }
        }
    }
}
