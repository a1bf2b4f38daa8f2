//! What a text costs, in processor time, by number of tokens: with Embedbar's kernels and with candle, in turn.
//!
//! `cargo run --release -p embedbar-engine --example speed MODEL [SECONDS]`. Prints JSON lines; `cargo xtask bench -- speed` reads
//! them.

use std::path::Path;
use std::time::{Duration, Instant};

use embedbar_contract::{PromptKind, RecipeName};
use embedbar_engine::{Arithmetic, Engine, How};

/// Processor time of this process so far.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let own = text.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let all: f64 = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .sum();
    if all > 0.0 { all / 1e6 } else { own / 1e6 }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().expect("a model's path");
    let seconds = arguments.next().and_then(|it| it.parse().ok()).unwrap_or(2.0);
    for arithmetic in [Arithmetic::Kernels, Arithmetic::Candle] {
        let started = Instant::now();
        let mut engine =
            Engine::open_as("model", Path::new(&model), &How { arithmetic, ..How::default() }).expect("it opens");
        let load_ms = started.elapsed().as_secs_f64() * 1e3;
        for tokens in [8, 16, 64, 128] {
            let text = vec!["word"; tokens - 2].join(" ");
            let mut costs = Vec::new();
            let until = Instant::now() + Duration::from_secs_f64(seconds);
            let mut counted = 0;
            while Instant::now() < until || costs.len() < 3 {
                let before = spent();
                let batch = engine
                    .embed(std::slice::from_ref(&text), PromptKind::None, RecipeName::Native)
                    .expect("it is embedded");
                costs.push(spent() - before);
                counted = batch.tokens[0];
            }
            costs.sort_unstable_by(f64::total_cmp);
            println!(
                "{arithmetic:?} load {load_ms:.0} ms; {counted} tokens: median {:.2} min {:.2} CPU-ms of {}",
                costs[costs.len() / 2],
                costs[0],
                costs.len()
            );
        }
    }
}
