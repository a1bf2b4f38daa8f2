//! Converts a checkpoint and prints what it cost: `… --example convert -- SOURCE TARGET.gguf int8|fp16`.
//!
//! The instrument for measuring speed and peak memory; the program for people is `embedbar convert`.

use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::time::Instant;

use embedbar_contract::Failure;
use embedbar_convert::{Job, TargetPrecision, convert};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, precision] = arguments.as_slice() else {
        return Err("usage: convert SOURCE TARGET.gguf int8|fp16".into());
    };
    let precision = match precision.as_str() {
        "int8" => TargetPrecision::Int8,
        "fp16" => TargetPrecision::Fp16,
        other => return Err(format!("no precision is called `{other}`").into()),
    };
    let started = Instant::now();
    let summary = convert(&Job::new(source, target, precision), &mut |_| ControlFlow::Continue(()))
        .map_err(|error| Failure::from(error).to_string())?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{}  {}", summary.input_sha256, source);
    println!("{}  {}", summary.output_sha256, target);
    println!("read {} bytes, wrote {} bytes in {seconds:.2} s", summary.bytes_read, summary.bytes_written);
    println!("{:.0} MB of input per second", summary.bytes_read as f64 / 1e6 / seconds);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("RssAnon")) {
        println!("{line}");
    }
    Ok(())
}
