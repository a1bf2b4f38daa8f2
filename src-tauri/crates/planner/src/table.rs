//! The README's table: what is chosen on Macs of 8 to 64 GB, by the planner itself.
//!
//! The machines are simulated: the assumptions are in the text above the table. Nothing of it was seen on a Mac.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use embedbar_catalog::{Catalogue, Entry};
use embedbar_contract::{MemoryReading, Precision, Pressure};

use crate::governor::step_down;
use crate::{
    Artefact, Candidate, Choice, Form, History, Place, Plan, Present, Reading, Standing, System, Thresholds, Wishes,
    plan,
};

const GIB: u64 = 1 << 30;

/// A simulated Mac: installed memory, and what everything else uses idle and with Docker and an editor, in tenths of
/// GB.
struct Machine {
    total_gb: u64,
    idle: u64,
    docker: u64,
}

const MACHINES: [Machine; 5] = [
    Machine { total_gb: 8, idle: 35, docker: 62 },
    Machine { total_gb: 16, idle: 45, docker: 110 },
    Machine { total_gb: 24, idle: 55, docker: 130 },
    Machine { total_gb: 32, idle: 60, docker: 150 },
    Machine { total_gb: 64, idle: 80, docker: 220 },
];

const MODELS: [&str; 4] = ["all-MiniLM-L6-v2", "Qwen3-Embedding-0.6B", "Qwen3-Embedding-4B", "Qwen3-Embedding-8B"];

/// What is left free when everything else has grown until the system reports WARN: this part of all memory in percent.
const LEFT_UNDER_PRESSURE: u64 = 3;

/// Everything that this project makes of a model: packages and GGUF files in FP16, INT8 and 4-bit, certified here but
/// for the 4-bit package, whose repetition needs the Mac. For machines that are only described.
pub fn everything_made(entry: &Entry) -> Vec<Artefact> {
    let mut made = Vec::new();
    for &precision in &entry.ladder {
        let standing = match precision {
            Precision::Fp32 | Precision::Fp16 | Precision::Unknown => Standing::Original,
            Precision::Int8 => Standing::Compared { mean_cosine: 0.9995, floor: 0.99 },
            Precision::FourBit => Standing::Compared { mean_cosine: 0.96, floor: 0.95 },
        };
        let largest_file_bytes = entry.architecture.weights_bytes(embedbar_catalog::Storage::Package, precision);
        let package = Form::Package { specialised: false, largest_file_bytes, repeated: BTreeMap::new() };
        for form in [package, Form::Gguf] {
            made.push(Artefact { model: entry.id.clone(), precision, form, standing });
        }
    }
    made
}

fn decide(entry: &Entry, reading: &Reading) -> Plan {
    let (wishes, history, thresholds) = (Wishes::default(), History::default(), Thresholds::default());
    plan(&wishes, &[entry], &everything_made(entry), reading, &history, &thresholds)
}

fn reading(total: u64, available: u64, pressure: Pressure) -> Reading {
    let memory = MemoryReading {
        total_bytes: Some(total),
        available_bytes: Some(available),
        pressure: Some(pressure),
        ..MemoryReading::default()
    };
    Reading::new(System::Mac, memory)
}

/// What is chosen on a Mac of `total_gb`, on a first start with everything ready: the precision and backend, or
/// nothing.
fn chosen(entry: &Entry, total_gb: u64, used_tenths: u64) -> Option<(Candidate, u64)> {
    let total = total_gb * GIB;
    let found = decide(entry, &reading(total, total - used_tenths * GIB / 10, Pressure::Normal));
    match found.choice {
        Choice::Local { .. } => found.chosen().map(|judged| (judged.candidate.clone(), judged.running_bytes)),
        Choice::Remote | Choice::Nothing { .. } => None,
    }
}

fn short(candidate: &Candidate) -> String {
    format!("{}, {}", candidate.precision, candidate.backend)
}

/// What becomes of `loaded` once the others have grown until the system reports WARN.
fn under_pressure(entry: &Entry, total_gb: u64, loaded: Option<(Candidate, u64)>) -> String {
    let Some((candidate, held_bytes)) = loaded else { return "none".to_owned() };
    let total = total_gb * GIB;
    let mut short_of_memory = reading(total, total * LEFT_UNDER_PRESSURE / 100, Pressure::Warn);
    short_of_memory.present = Some(Present { candidate: candidate.clone(), held_bytes, running_bytes: held_bytes });
    let least_relief = (total as f64 * Thresholds::default().least_relief_share) as u64;
    match step_down(&decide(entry, &short_of_memory), &candidate, least_relief) {
        Some((Place::Local(narrower), _)) => short(&narrower),
        Some((Place::Remote, _)) | None => format!("{} stays", candidate.precision),
    }
}

/// The table, and the assumptions that it is made under, as Markdown for the README.
pub fn readme_table() -> String {
    let mut page = String::from(
        "What the planner chooses on simulated Macs, on a first start (no habits known) with every precision of the \
         model made and\ncertified, except 4-bit packages, which only a Mac can certify. Packages have not been \
         specialised yet. None of it ran on\na Mac. *Under pressure*: what *with Docker and an editor* chose is loaded, \
         and the rest grows until 3 % of memory is left and\nthe system reports WARN.\n\n",
    );
    page.push_str("| Mac | model | idle | with Docker and an editor | under pressure |\n|---|---|---|---|---|\n");
    for Machine { total_gb, idle, docker } in MACHINES {
        for name in MODELS {
            let Some(entry) = Catalogue::builtin().find(name) else { continue };
            let [idle_choice, docker_choice] = [idle, docker].map(|used| chosen(entry, total_gb, used));
            let shown = |choice: &Option<(Candidate, u64)>| {
                choice.as_ref().map_or_else(|| "none".to_owned(), |(candidate, _)| short(candidate))
            };
            let [when_idle, when_busy] = [shown(&idle_choice), shown(&docker_choice)];
            let pressed = under_pressure(entry, total_gb, docker_choice);
            let _ = writeln!(page, "| {total_gb} GB | {name} | {when_idle} | {when_busy} | {pressed} |");
        }
    }
    let used = |machine: &Machine| {
        let gb = |tenths: u64| tenths as f64 / 10.0;
        format!("{} GB: {:.1} and {:.1} GB", machine.total_gb, gb(machine.idle), gb(machine.docker))
    };
    let used: Vec<String> = MACHINES.iter().map(used).collect();
    let _ = writeln!(
        page,
        "\nAssumed to be used by everything else, idle and with Docker and an editor: {}.",
        used.join("; ")
    );
    page
}
