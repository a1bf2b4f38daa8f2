//! `embedbar plan`: which model, precision and backend fit into the memory that is there, or into that of a machine that is only
//! described. Nothing is loaded.

use embedbar_app::installed;
use embedbar_catalog::{Catalogue, Entry};
use embedbar_contract::{Failure, FailureCode, MemoryReading, Precision, Pressure};
use embedbar_planner::{
    Backend, Choice, History, Judged, PrecisionWish, Reading, System, Thresholds, Unit, Wishes, everything_made,
    memory_text, plan,
};
use embedbar_store::{BUNDLED_ID, Home, Library};
use serde_json::{Value, json};

use crate::arguments::{MachineKind, Plan, PlanPrecision, PressureLevel};
use crate::output;

/// What a described machine has where it is not said.
const COMMON_MEMORY: u64 = 16 << 30;

pub(crate) fn run(arguments: &Plan, home: Option<std::path::PathBuf>, as_json: bool) -> anyhow::Result<()> {
    if arguments.table {
        output::line(embedbar_planner::readme_table().trim_end());
        return Ok(());
    }
    let catalogue = Catalogue::builtin();
    let name = arguments.model.as_deref().unwrap_or(BUNDLED_ID);
    let entry = catalogue.find(name).ok_or_else(|| unknown(name, catalogue))?;
    let home = Home::open(home).map_err(Failure::from)?;
    let described = arguments.machine.is_some() || arguments.ram.is_some() || arguments.used.is_some();
    let (reading, artefacts) = if described {
        (described_machine(arguments)?, everything_made(entry))
    } else {
        (this_machine(arguments), installed(&Library::open(&home)).into_iter().map(|it| it.artefact).collect())
    };
    let history = if described { History::default() } else { embedbar_app::history(&home) };
    let wishes = Wishes { precision: wish(arguments.precision), ..Wishes::default() };
    let found = plan(&wishes, &[entry], &artefacts, &reading, &history, &Thresholds::default());
    if as_json {
        return output::json(&told(&found, &reading, described));
    }
    for line in lines(&found, entry, &reading, described) {
        output::line(&line);
    }
    Ok(())
}

fn unknown(name: &str, catalogue: &Catalogue) -> Failure {
    let ids: Vec<&str> = catalogue.entries().iter().map(|entry| entry.id.as_str()).collect();
    Failure::new(FailureCode::NotFound, format!("the catalogue has no model `{name}`"))
        .hint(format!("It knows {}.", ids.join(", ")))
}

fn wish(precision: Option<PlanPrecision>) -> PrecisionWish {
    match precision {
        None => PrecisionWish::Automatic,
        Some(PlanPrecision::Fp16) => PrecisionWish::Explicit(Precision::Fp16),
        Some(PlanPrecision::Int8) => PrecisionWish::Explicit(Precision::Int8),
        Some(PlanPrecision::FourBit) => PrecisionWish::Explicit(Precision::FourBit),
    }
}

fn pressure(level: PressureLevel) -> Pressure {
    match level {
        PressureLevel::Normal => Pressure::Normal,
        PressureLevel::Warn => Pressure::Warn,
        PressureLevel::Critical => Pressure::Critical,
    }
}

/// The machine that the options describe.
fn described_machine(arguments: &Plan) -> anyhow::Result<Reading> {
    let total = arguments.ram.unwrap_or(COMMON_MEMORY);
    let used = arguments.used.unwrap_or(total / 4);
    let available = total.checked_sub(used).ok_or_else(|| {
        anyhow::anyhow!("a machine of {} cannot have {} in use", memory_text(total), memory_text(used))
    })?;
    let memory = MemoryReading {
        total_bytes: Some(total),
        available_bytes: Some(available),
        pressure: Some(arguments.pressure.map_or(Pressure::Normal, pressure)),
        ..MemoryReading::default()
    };
    let system = match arguments.machine {
        Some(MachineKind::Linux) => System::Linux,
        Some(MachineKind::Mac) | None => System::Mac,
    };
    Ok(Reading::new(system, memory))
}

fn this_machine(arguments: &Plan) -> Reading {
    let mut memory = embedbar_memory::this_machine().read(None);
    if let Some(level) = arguments.pressure {
        memory.pressure = Some(pressure(level));
    }
    let system = if cfg!(target_os = "macos") { System::Mac } else { System::Linux };
    Reading::new(system, memory)
}

fn lines(found: &embedbar_planner::Plan, entry: &Entry, reading: &Reading, described: bool) -> Vec<String> {
    let memory = &reading.memory;
    let of = if described { "a described machine, with every precision made" } else { "this machine" };
    let known = |bytes: Option<u64>| bytes.map_or_else(|| "an unknown amount".to_owned(), memory_text);
    let mut lines = vec![format!(
        "{} on {of}: {} of {} is free",
        entry.id,
        known(memory.available_bytes),
        known(memory.total_bytes)
    )];
    if let Some(shortage) = &found.shortage {
        lines.push(format!("nothing large is loaded now: {shortage}"));
    }
    let chosen = found.chosen().map(|judged| judged.candidate.clone());
    for judged in &found.candidates {
        let mark = if Some(&judged.candidate) == chosen.as_ref() { "→" } else { " " };
        lines.push(format!("{mark} {}", judged.sentence));
    }
    lines.push(match &found.choice {
        Choice::Local { warning, .. } => {
            let choice = found.chosen().map(|judged| judged.candidate.to_string()).unwrap_or_default();
            match warning {
                Some(warning) => format!("choice: {choice}. Warning: {warning}"),
                None => format!("choice: {choice}"),
            }
        }
        Choice::Remote => "choice: the remote endpoint".to_owned(),
        Choice::Nothing { reason } => format!("choice: nothing; {reason}"),
    });
    if let Some(better) = found.worth_making.and_then(|index| found.candidates.get(index)) {
        lines.push(format!("worth making: {}", better.sentence));
    }
    lines
}

fn told(found: &embedbar_planner::Plan, reading: &Reading, described: bool) -> Value {
    let candidate = |judged: &Judged| {
        json!({
            "backend": judged.candidate.backend.name(),
            "unit": unit(judged.candidate.backend),
            "model": judged.candidate.model,
            "precision": judged.candidate.precision,
            "needs_bytes": judged.needs_bytes,
            "running_bytes": judged.running_bytes,
            "free_bytes": judged.free_bytes,
            "ready": judged.ready,
            "fits": judged.fits(),
            "reason": judged.sentence,
        })
    };
    let (warning, reason) = match &found.choice {
        Choice::Local { warning, .. } => (warning.clone(), None),
        Choice::Remote => (None, None),
        Choice::Nothing { reason } => (None, Some(reason.clone())),
    };
    let chosen = found.chosen().map(|judged| &judged.candidate);
    json!({
        "described": described,
        "memory": reading.memory,
        "reserve_bytes": found.reserve.map(|reserve| reserve.bytes),
        "shortage": found.shortage,
        "candidates": found.candidates.iter().map(candidate).collect::<Vec<_>>(),
        "choice": {
            "model": chosen.map(|chosen| &chosen.model),
            "precision": chosen.map(|chosen| chosen.precision),
            "backend": chosen.map(|chosen| chosen.backend.name()),
            "unit": chosen.and_then(|chosen| unit(chosen.backend)),
            "remote": found.choice == Choice::Remote,
            "warning": warning,
            "reason": reason,
        },
    })
}

fn unit(backend: Backend) -> Option<&'static str> {
    match backend {
        Backend::CoreMl(Unit::NeuralEngine) => Some("neural_engine"),
        Backend::CoreMl(Unit::Gpu) => Some("gpu"),
        Backend::CoreMl(Unit::Cpu) => Some("cpu"),
        Backend::Metal | Backend::Cpu | Backend::CoreMlInterpreted => None,
    }
}

#[cfg(test)]
mod tests {
    /// `embedbar plan --table` prints it.
    #[test]
    fn the_readme_has_the_table_of_choices() {
        let readme = include_str!("../../../../README.md");
        assert!(
            readme.contains(embedbar_planner::readme_table().trim()),
            "put what `embedbar plan --table` prints there"
        );
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        use clap::Parser as _;

        use crate::arguments::{Arguments, Command};
        let parsed = |text: &str| {
            let arguments = Arguments::try_parse_from(["embedbar", "plan", "--machine", "mac", "--ram", text]).ok()?;
            let Command::Plan(plan) = arguments.command else { return None };
            plan.ram
        };
        assert_eq!(parsed("16GB"), Some(16 << 30));
        assert_eq!(parsed("1.5 g"), Some(3 << 29));
        assert_eq!(parsed("900MiB"), Some(900 << 20));
        for wrong in ["16", "GB", "x16GB", "-1GB", "nanGB", "16 GBs"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
