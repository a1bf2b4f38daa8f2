//! How fast the layers between the matrix products are on one core, at every level that this processor has.
//!
//! Prints the time of the thread that a tenth of the calls keep to, not that of the clock on the wall, so that other work on
//! the machine disturbs little.
//! `cargo run --release -p embedbar-kernels --example rows [part of a level's name]`

#![expect(unsafe_code, reason = "the time of a thread is a call of the C library")]

use std::{
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use embedbar_kernels::{
    Isa,
    attention::{Attention, Columns, ColumnsMut, Plan, Scratch, Shape},
    cores::compute_threads,
    elementwise::{Activation, exp, softmax},
    norm::{Norm, NormKind},
    rotary::{Angles, Heads, Rotary},
    team::{Options, Team},
};

/// Seconds that this thread has run.
#[cfg(unix)]
fn thread_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on every unix, and the time is written to a place of its own.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(not(unix))]
fn thread_time() -> f64 {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64()
}

/// The time of a call that a tenth of the calls keep to, measured for about a tenth of a second.
fn time_of(mut call: impl FnMut()) -> f64 {
    let start = thread_time();
    call();
    let count = (0.1 / (thread_time() - start).max(1e-7)).clamp(11.0, 20_000.0) as usize;
    // Many short calls are timed together: reading the clock takes some hundred nanoseconds.
    let together = (count / 200).max(1);
    let mut times: Vec<f64> = (0..count / together)
        .map(|_| {
            let start = thread_time();
            for _ in 0..together {
                call();
            }
            (thread_time() - start) / together as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 10]
}

/// Numbers in -1..1 times `magnitude` that look random.
fn numbers(count: usize, magnitude: f32) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next() * magnitude).collect()
}

fn elementwise(isa: Isa) {
    let source = numbers(64 * 1536, 4.0);
    let factors = numbers(64 * 1536, 1.0);
    let mut work = source.clone();
    let mut print = |name: &str, call: &mut dyn FnMut(&mut [f32])| {
        let copy = time_of(|| work.copy_from_slice(black_box(&source)));
        let time = time_of(|| {
            work.copy_from_slice(black_box(&source));
            call(&mut work);
        });
        println!("  {name:26} {:6.3} ns per number", (time - copy) * 1e9 / source.len() as f64);
    };
    print("exp", &mut |numbers| exp(isa, numbers));
    print("softmax of 256", &mut |numbers| softmax(isa, numbers, 256));
    print("relu", &mut |numbers| Activation::Relu.apply(isa, numbers));
    print("gelu", &mut |numbers| Activation::Gelu.apply(isa, numbers));
    print("gelu tanh", &mut |numbers| Activation::GeluTanh.apply(isa, numbers));
    print("silu", &mut |numbers| Activation::Silu.apply(isa, numbers));
    print("silu times", &mut |numbers| Activation::Silu.gate(isa, numbers, &factors));
}

fn norms(isa: Isa) {
    for (name, kind, width) in [("layer", NormKind::Layer, 384), ("rms", NormKind::RootMeanSquare, 1024)] {
        let weight = numbers(width, 1.0);
        let norm = Norm { kind, weight: &weight, bias: None, epsilon: 1e-6 };
        let norm = if kind == NormKind::Layer { Norm { bias: Some(&weight), ..norm } } else { norm };
        let (mut rows, mut output) = (numbers(64 * width, 1.0), vec![0.0; 64 * width]);
        let addend = vec![0.0; 64 * width];
        let count = rows.len() as f64;
        let time = time_of(|| norm.apply(isa, black_box(&rows), &mut output));
        println!("  {name:5} norm of {width:4}         {:6.3} ns per number", time * 1e9 / count);
        let time = time_of(|| norm.add_and_apply(isa, &mut rows, black_box(&addend), &mut output));
        println!("  {name:5} norm of {width:4} and sum {:6.3} ns per number", time * 1e9 / count);
    }
    let (rows, heads, width) = (64, 24, 128);
    let weight = vec![1.0; width];
    let (cosines, sines) = (vec![0.8; rows * width / 2], vec![0.6; rows * width / 2]);
    let norm = Norm { kind: NormKind::RootMeanSquare, weight: &weight, bias: None, epsilon: 1e-6 };
    let rotary = Rotary { norm: Some(norm), angles: Angles { cosines: &cosines, sines: &sines } };
    let mut buffer = numbers(rows * heads * width, 1.0);
    let positions: Vec<u32> = (0..rows as u32).collect();
    let heads_of_row = Heads { stride: heads * width, column: 0, count: heads, width };
    let time = time_of(|| rotary.apply(isa, &mut buffer, heads_of_row, black_box(&positions)));
    println!("  rms norm of 128 and rotary {:6.3} ns per number", time * 1e9 / buffer.len() as f64);
}

fn attention(isa: Isa) {
    let minilm = Shape { heads: 12, groups: 12, width: 32, causal: false, scale: 0.177 };
    let bge = Shape { heads: 12, groups: 12, width: 64, causal: false, scale: 0.125 };
    let qwen3 = Shape { heads: 16, groups: 8, width: 128, causal: true, scale: 0.088 };
    for (name, shape, texts, length) in [
        ("MiniLM", minilm, 1, 8),
        ("MiniLM", minilm, 8, 8),
        ("MiniLM", minilm, 1, 20),
        ("MiniLM", minilm, 1, 64),
        ("MiniLM", minilm, 1, 256),
        ("bge", bge, 1, 64),
        ("bge", bge, 1, 512),
        ("Qwen3", qwen3, 1, 16),
        ("Qwen3", qwen3, 1, 128),
        ("Qwen3", qwen3, 1, 512),
    ] {
        let offsets: Vec<usize> = (0..=texts).map(|text| text * length).collect();
        let Shape { heads, groups, width, causal, .. } = shape;
        let stride = (heads + 2 * groups) * width;
        let merged = numbers(texts * length * stride, 1.0);
        let columns = |head: usize| Columns { rows: &merged, stride, column: head * width };
        let mut plan = Plan::new();
        plan.prepare(&shape, &offsets);
        let attention = Attention::new(&plan, shape, columns(0), columns(heads), columns(heads + groups));
        let mut rows = vec![0.0; texts * length * heads * width];
        let mut scratch = Scratch::new();
        let time = time_of(|| {
            let mut output = ColumnsMut { rows: black_box(&mut rows), stride: heads * width, column: 0 };
            attention.run_all(isa, &mut output, &mut scratch);
        });
        let scores = if causal { length * (length + 1) / 2 } else { length * length };
        let work = (2 * texts * scores * heads * width) as f64;
        println!(
            "  attention {name:6} {texts} x {length:3} {:8.4} ms per layer, {:5.1} GMAC/s, {} items",
            time * 1e3,
            work / time / 1e9,
            attention.items(),
        );
    }
}

/// How long a job takes by the clock on the wall if the threads are awake: one that does nothing, of which the caller may
/// do everything, and one whose items wait until each is on a thread of its own.
fn teams() {
    println!("{} threads would compute fastest here", compute_threads());
    for threads in [1, 2] {
        let team = Team::new(threads, Options::default());
        let there = AtomicUsize::new(0);
        let nothing = |item: usize, _: usize| {
            black_box(item);
        };
        let meet = |_: usize, _: usize| {
            there.fetch_add(1, Ordering::SeqCst);
            while !there.load(Ordering::SeqCst).is_multiple_of(threads) {
                std::hint::spin_loop();
            }
        };
        for (name, function) in [("empty", &nothing as &(dyn Fn(usize, usize) + Sync)), ("meeting", &meet)] {
            let time_of_job = || {
                let start = Instant::now();
                team.for_each(black_box(threads), function);
                start.elapsed().as_secs_f64()
            };
            let mut times: Vec<f64> = (0..20_000).map(|_| time_of_job()).collect();
            times.sort_unstable_by(f64::total_cmp);
            let [low, middle, high] = [0.1, 0.5, 0.9].map(|part| times[(times.len() as f64 * part) as usize] * 1e9);
            println!("  {name} job on {threads} threads: {low:.0} ns, median {middle:.0} ns, nine of ten {high:.0} ns");
        }
    }
}

fn main() {
    teams();
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for isa in Isa::ALL.into_iter().rev().filter(|isa| isa.is_available() && isa.name().contains(&wanted)) {
        println!("{}", isa.name());
        elementwise(isa);
        norms(isa);
        attention(isa);
    }
}
