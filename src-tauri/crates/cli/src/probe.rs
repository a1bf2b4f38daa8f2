//! `embedbar probe`: the engine alone, in this process, measured. Benchmarks call it; it is no way to embed anything.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use embedbar_contract::{Failure, PromptKind, RecipeName};
use embedbar_engine::{Engine, How};
use serde::Serialize;

use crate::arguments::Probe;
use crate::output;

/// What one round took, milliseconds; `probe`'s JSON names the unit.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names are the JSON's")]
struct Round {
    wall_ms: f64,
    cpu_ms: f64,
    tokenize_ms: f64,
    forward_ms: f64,
}

#[derive(Serialize)]
struct Report {
    load_ms: f64,
    tokens: usize,
    rounds: Vec<Round>,
    rss_peak_bytes: Option<u64>,
}

pub(crate) fn run(probe: &Probe) -> anyhow::Result<()> {
    let texts = fs::read_to_string(&probe.texts).with_context(|| format!("cannot read `{}`", probe.texts.display()))?;
    let texts: Vec<String> = texts.lines().map(str::to_owned).collect();
    ensure!(!texts.is_empty() && probe.batch > 0, "there is nothing to embed");
    let how = How { arithmetic: probe.backend.into(), packed: probe.packed.clone() };
    let started = Instant::now();
    let mut engine = Engine::open_as("probe", &probe.model, &how).map_err(Failure::from)?;
    let mut embed = |texts: &[String]| engine.embed(texts, PromptKind::None, RecipeName::Native).map_err(Failure::from);
    embed(&texts[..1])?;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let mut report = Report { load_ms, tokens: 0, rounds: Vec::new(), rss_peak_bytes: None };
    for _ in 0..probe.rounds {
        let (wall, cpu) = (Instant::now(), processor_ms());
        let mut round = Round { wall_ms: 0.0, cpu_ms: 0.0, tokenize_ms: 0.0, forward_ms: 0.0 };
        report.tokens = 0;
        for batch in texts.chunks(probe.batch) {
            let batch = embed(batch)?;
            round.tokenize_ms += batch.tokenize_ms;
            round.forward_ms += batch.forward_ms;
            report.tokens += batch.tokens.iter().sum::<usize>();
        }
        round.wall_ms = wall.elapsed().as_secs_f64() * 1e3;
        round.cpu_ms = processor_ms() - cpu;
        report.rounds.push(round);
    }
    report.rss_peak_bytes = embedbar_memory::peak_resident_bytes();
    output::json(&report)
}

/// Processor time of all threads of this process.
fn processor_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}
